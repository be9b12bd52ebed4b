/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules as libnftables could list them: any JSON. A list of chains, each a list of rules, each a
 * list of statements; the first two are base chains, and jumps go to `0', `1', ... A packet of
 * either family and protocol has its end there, what is dropped for certain was told of, and all is
 * the same whether what rules ask for first is read beforehand or not.
 */
#include "firewall/rule_eval.h"
#include "fuzz.h"
#include <netinet/in.h>

#define CHAINS 4
#define RULES  16

struct firewall {
	struct firewall_chain chain[CHAINS];
	const json_t *rule[CHAINS][RULES];
	struct first_match first[CHAINS][RULES];
	const json_t *elements;
};

static struct firewall firewall;
static const char *const names[] = { "0", "1", "2", "3" };

const struct firewall_chain *firewall_at_hook(const struct firewall *f, const char *hook,
					      sa_family_t family, unsigned at)
{
	return at < 2 ? &f->chain[at] : NULL;
}

const struct firewall_chain *firewall_target(const struct firewall *f,
					     const struct firewall_chain *from, const char *name)
{
	for (unsigned i = 0; i < CHAINS; i++)
		if (!strcmp(names[i], name))
			return &f->chain[i];
	return NULL;
}

const json_t *firewall_rule(const struct firewall *f, const struct firewall_chain *chain, size_t at)
{
	return chain->rule[at];
}

bool firewall_chain_is_at(const struct firewall_chain *chain, const char *iif, const char *oif)
{
	return true;
}

bool firewall_queue_is_read(unsigned number)
{
	return number == 7;
}

const json_t *firewall_elements(const struct firewall *f, const struct firewall_chain *chain,
				const char *name)
{
	return json_is_array(f->elements) ? f->elements : NULL;
}

bool firewall_is_before(const struct firewall *f, const struct firewall_chain *chain,
			const struct firewall_place *ours)
{
	return chain->runs_at < ours->priority;
}

/* Each rule is an object whose `expr' is the list of its statements. */
static void make_chain(unsigned at, const json_t *rules)
{
	struct firewall_chain *c = &firewall.chain[at];

	*c = (struct firewall_chain){ .family = "inet",
				      .table = "t",
				      .name = names[at],
				      .hook = "input",
				      .type = "filter",
				      .policy = at ? "drop" : "accept",
				      .rule = firewall.rule[at] };
	for (size_t i = 0; i < json_array_size(rules) && i < RULES; i++) {
		firewall.rule[at][i] = json_pack("{s:O}", "expr", json_array_get(rules, i));
		firewall.first[at][i] = first_match_of(firewall.rule[at][i]);
		c->rules++;
	}
}

static void forget_chain(unsigned at)
{
	for (size_t i = 0; i < firewall.chain[at].rules; i++)
		json_decref((json_t *)firewall.rule[at][i]);
}

static unsigned drops, steps, outcome[2];

static void visit(const struct rule_eval_step *step, void *context)
{
	steps++;
	drops += step->event == RULE_EVAL_DROPPED && step->certain;
	fuzz_holds(step->base && step->chain, "a step has its chains");
}

static void evaluate(const char *from, const char *to, uint8_t protocol, bool read_before)
{
	struct rule_eval_packet p = {
		.protocol = protocol, .iif = "eth0", .state = "new", .mark = 1, .syn = true
	};
	struct failure why;
	bool through;

	if (endpoint_parse(from, &p.source, &why) < 0 ||
	    endpoint_parse(to, &p.destination, &why) < 0)
		abort();
	drops = steps = 0;
	through = rule_eval_hook(&firewall, "input", NULL, &p, visit, NULL);
	fuzz_holds(through || drops, "what is dropped for certain was told of");
	outcome[read_before] = 2 * steps + through;
}

static void evaluate_both(const char *from, const char *to, uint8_t protocol)
{
	for (unsigned i = 0; i < CHAINS; i++)
		firewall.chain[i].first = NULL;
	evaluate(from, to, protocol, 0);
	for (unsigned i = 0; i < CHAINS; i++)
		firewall.chain[i].first = firewall.first[i];
	evaluate(from, to, protocol, 1);
	fuzz_holds(outcome[0] == outcome[1], "what is read beforehand changes nothing");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *all;

	if (size > FUZZ_TEXT_MAX)
		return 0;
	all = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
	if (!all)
		return 0;
	for (unsigned i = 0; i < CHAINS; i++)
		make_chain(i, json_array_get(all, i));
	firewall.elements = json_array_get(all, CHAINS);
	evaluate_both("192.0.2.2:40000", "198.51.100.2:80", IPPROTO_TCP);
	evaluate_both("[2001:db8::2]:40000", "[2001:db8::3]:53", IPPROTO_UDP);
	for (unsigned i = 0; i < CHAINS; i++)
		forget_chain(i);
	json_decref(all);
	return 0;
}
