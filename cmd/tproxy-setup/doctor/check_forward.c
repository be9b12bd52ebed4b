/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "base/shell.h"
#include "firewall/selection.h"
#include "intercept/predicate.h"
#include <limits.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

/*
 * Theory of operation
 *
 * A packet of each example connection is evaluated in FORWARD, where it would have gone without us.
 * An example has one destination, and rules name others; so more examples are made, for each rule
 * that names addresses or ports, if the specification covers these.
 */

/* Maximum number of examples: there may be thousands of rules, and each example is checked against
 * all. */
#define EXAMPLES_MAX 512
#define EXAMPLES_MIN 8
#define TRIALS_MAX   200000 /* of a rule on an example: a fraction of a second */
#define TOLD_MAX     32

struct forward {
	struct doctor_context *x;
	unsigned examples, most;
	/* The rule that the current example was made for, and what it names. */
	const json_t *made_for;
	const struct selection *named;
	const void *told[TOLD_MAX];
	unsigned count;
};

/* --- what to do about it ---------------------------------------------------------------------- */

/* 80,8000-8100 */
static void add_port_list(struct shell_command *c, const struct selection *s)
{
	for (unsigned i = 0; i < s->ports; i++) {
		shell_add(c, "%s%u", i ? "," : ":", s->port[i].first);
		if (s->port[i].last != s->port[i].first)
			shell_add(c, "-%u", s->port[i].last);
	}
}

static void add_destination(struct shell_command *c, const struct cidr *cidr,
			    const struct selection *s)
{
	char text[ENDPOINT_TEXT_MAX];
	bool brackets = cidr->family == AF_INET6 && s->ports;

	endpoint_format_cidr(cidr, text);
	shell_add(c, brackets ? " --deny-dst '[%s]" : " --deny-dst '%s", text);
	add_port_list(c, s);
	shell_add(c, "'");
}

/* The ports, for one family only if the chain is for one. */
static void add_any_destination(struct shell_command *c, const struct firewall_chain *chain,
				const struct selection *s)
{
	if (!strcmp(chain->family, "inet"))
		shell_add(c, " --deny-dst '*");
	else
		shell_add(c, " --deny-dst '%s",
			  strcmp(chain->family, "ip") ? "[::/0]" : "0.0.0.0/0");
	add_port_list(c, s);
	shell_add(c, "'");
}

static bool covers_port(const struct selection *s, const struct port_range *p)
{
	for (unsigned i = 0; i < s->ports; i++)
		if (s->port[i].first <= p->first && p->last <= s->port[i].last)
			return true;
	return !s->ports;
}

/* Does it cover everything that is intercepted? Denying that means to do without a proxy. */
static bool covers_all(const struct doctor_context *x, const struct selection *s)
{
	const struct port_list *ports = &x->spec->port;

	for (unsigned i = 0; i < s->destinations; i++)
		if (!s->destination[i].length)
			return true;
	if (s->destinations)
		return false;
	for (size_t i = 0; i < ports->count; i++)
		if (!covers_port(s, &ports->at[i]))
			return false;
	return ports->count || !s->ports;
}

/* The relay's options that forbid the same. Returns false unless the rule names destinations and
 * nothing else. */
static bool propose(struct doctor_context *x, const struct firewall_chain *chain,
		    const struct selection *s, char options[CONTEXT_FIX_MAX])
{
	struct shell_command c = shell_command(options, CONTEXT_FIX_MAX);

	if (!s->exact || covers_all(x, s))
		return false;
	shell_add(&c, "tproxy-relay");
	for (unsigned i = 0; i < s->destinations; i++)
		add_destination(&c, &s->destination[i], s);
	if (!s->destinations)
		add_any_destination(&c, chain, s);
	return *options;
}

/* Does the rule send packets to that chain, which drops everything? */
static bool leads_to(const json_t *rule, const struct firewall_chain *chain)
{
	json_t *statement;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement) {
		const json_t *jump = json_object_get(statement, "jump");
		const char *target;

		jump = jump ? jump : json_object_get(statement, "goto");
		target = json_string_value(json_object_get(jump, "target"));
		if (target && !strcmp(target, chain->name))
			return true;
	}
	return false;
}

static void report_forward_drop(struct forward *f, const struct rule_eval_step *step)
{
	static const char meant[] =
		"what is intercepted does not go through FORWARD; if this is to keep clients from "
		"going past the proxy, all is well, and if not, the proxy must forbid it as well";
	char place[400], options[CONTEXT_FIX_MAX] = "", why[CONTEXT_FIX_MAX + 200];
	struct selection own = { 0 };
	bool proposed;

	if (step->rule)
		selection_read(f->x->firewall, step->chain, step->rule, &own);
	proposed = propose(f->x, step->chain, &own, options);
	if (!proposed && own.exact && leads_to(f->made_for, step->chain))
		proposed = propose(f->x, step->chain, f->named, options);
	snprintf(why, sizeof(why),
		 "what is intercepted does not go through FORWARD: by way of the proxy clients "
		 "reach what it forbids, unless the proxy forbids it as well: %s",
		 options);
	context_report(
		f->x, DOCTOR_WARN, proposed ? why : meant, "",
		"%s %s what clients send, if it were forwarded",
		firewall_describe(f->x->firewall, step->chain, step->rule, place, sizeof(place)),
		step->certain ? "would drop" : "might drop");
}

/* --- what becomes of a packet ----------------------------------------------------------------- */

static void judge_forward(const struct rule_eval_step *step, void *context)
{
	struct forward *f = context;
	const void *rule = step->rule ? (const void *)step->rule : step->base;

	if (step->event != RULE_EVAL_DROPPED)
		return;
	for (unsigned i = 0; i < f->count; i++)
		if (f->told[i] == rule)
			return;
	if (f->count == TOLD_MAX)
		return;
	f->told[f->count++] = rule;
	report_forward_drop(f, step);
}

static void ignore(const struct rule_eval_step *step, void *context)
{
}

/* The interface through which it would leave. False: it would not be forwarded. */
static bool would_be_forwarded(struct doctor_context *x, const struct packet_path_flow *flow,
			       char oif[IF_NAMESIZE])
{
	const struct route_question question = {
		.source = flow->client,
		.destination = flow->destination,
		.iif = flow->device->index,
		.protocol = flow->protocol,
	};
	struct route_answer answer;

	return route_ask(x->kernel->route, &question, &answer, NULL) == 0 &&
	       answer.type == RTN_UNICAST && if_indextoname(answer.oif, oif);
}

static void forward_packet(struct forward *f, const struct packet_path_flow *flow)
{
	char oif[IF_NAMESIZE];
	struct rule_eval_packet packet = {
		.protocol = flow->protocol,
		.source = flow->client,
		.destination = flow->destination,
		.iif = flow->device->name,
		.state = "new",
		.syn = true,
		.source_routed = true,
	};

	if (f->examples++ >= f->most ||
	    !predicate_matches(f->x->spec, &flow->client, &flow->destination) ||
	    !would_be_forwarded(f->x, flow, oif))
		return;
	/* For the marks that the packet gets there. */
	if (!rule_eval_hook(f->x->firewall, "prerouting", NULL, &packet, ignore, f))
		return;
	packet.oif = oif;
	rule_eval_hook(f->x->firewall, "forward", NULL, &packet, judge_forward, f);
}

/* --- examples for a rule ---------------------------------------------------------------------- */

/* An address in the prefix, but not the network's own, which may be a broadcast address. */
static struct endpoint address_in(const struct cidr *c, uint16_t port)
{
	struct endpoint e = { .family = c->family, .port = port };
	bool v4 = c->family == AF_INET;

	memcpy(&e.addr, &c->addr, v4 ? 4 : 16);
	if (c->length < (v4 ? 32 : 128))
		((uint8_t *)&e.addr)[v4 ? 3 : 15] |= 2 >> (c->length == (v4 ? 31 : 127));
	return e;
}

/* The part of the specification's destinations that the rule covers. */
static void vary_destination(struct forward *f, struct packet_path_flow *flow,
			     const struct cidr *of_rule)
{
	const struct cidr_list *dst = &f->x->spec->dst;
	uint16_t port = flow->destination.port;

	flow->destination = address_in(of_rule, port);
	forward_packet(f, flow);
	for (size_t i = 0; i < dst->count && i < SELECTION_MAX; i++) {
		flow->destination = address_in(&dst->at[i], port);
		if (dst->at[i].length > of_rule->length &&
		    endpoint_in_cidr(&flow->destination, of_rule))
			forward_packet(f, flow);
	}
}

static void vary_destinations(struct forward *f, const struct selection *s,
			      const struct packet_path_flow *flow)
{
	struct packet_path_flow example = *flow;

	if (!s->destinations)
		forward_packet(f, &example);
	for (unsigned i = 0; i < s->destinations; i++)
		if (s->destination[i].family == flow->client.family) {
			example.destination.port = flow->destination.port;
			vary_destination(f, &example, &s->destination[i]);
		}
}

/* The first port that the rule and the specification have in common, if any. */
static bool common_port(const struct port_range *a, const struct port_list *spec, uint16_t *port)
{
	for (size_t i = 0; i < spec->count; i++) {
		const struct port_range *b = &spec->at[i];

		*port = a->first > b->first ? a->first : b->first;
		if (*port <= a->last && *port <= b->last)
			return true;
	}
	*port = a->first;
	return !spec->count;
}

static void vary_ports(struct forward *f, const struct selection *s,
		       const struct packet_path_flow *flow)
{
	struct packet_path_flow example = *flow;

	if (!s->ports)
		vary_destinations(f, s, &example);
	for (unsigned i = 0; i < s->ports; i++)
		if (common_port(&s->port[i], &f->x->spec->port, &example.destination.port))
			vary_destinations(f, s, &example);
}

static bool is_behind(struct doctor_context *x, const struct endpoint *client,
		      const struct link *device)
{
	const struct route_question question = { .destination = *client };
	struct route_answer answer;

	return route_ask(x->kernel->route, &question, &answer, NULL) == 0 &&
	       answer.oif == device->index;
}

/* The flow itself is tried once, after all rules. */
static void vary_sources(struct forward *f, const struct selection *s,
			 const struct packet_path_flow *flow)
{
	struct packet_path_flow example = *flow;

	if (s->ports || s->destinations)
		vary_ports(f, s, &example);
	for (unsigned i = 0; i < s->sources; i++) {
		if (s->source[i].family != flow->client.family)
			continue;
		example.client = address_in(&s->source[i], flow->client.port);
		if (is_behind(f->x, &example.client, example.device))
			vary_ports(f, s, &example);
	}
}

/* Does the rule name a port that the specification covers, or none at all? */
static bool shares_port(const struct doctor_context *x, const struct selection *s)
{
	uint16_t port;

	for (unsigned i = 0; i < s->ports; i++)
		if (common_port(&s->port[i], &x->spec->port, &port))
			return true;
	return !s->ports;
}

static void try_rule(struct forward *f, const struct firewall_chain *chain, const json_t *rule)
{
	struct selection s;

	selection_read(f->x->firewall, chain, rule, &s);
	if ((!s.sources && !s.destinations && !s.ports) || !shares_port(f->x, &s))
		return;
	f->made_for = rule;
	f->named = &s;
	for (unsigned i = 0; i < f->x->flows && f->examples < f->most; i++)
		if (!f->x->flow[i].own)
			vary_sources(f, &s, &f->x->flow[i]);
	f->made_for = NULL;
	f->named = NULL;
}

/* Rules that accept drop nothing. */
static bool may_drop(const json_t *rule)
{
	json_t *statement;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement)
		if (json_object_get(statement, "accept") || json_object_get(statement, "return"))
			return false;
	return true;
}

static void try_rules(struct forward *f)
{
	for (size_t i = 0; i < firewall_chains(f->x->firewall); i++) {
		const struct firewall_chain *chain = firewall_chain(f->x->firewall, i);

		/* A chain that is not a base chain may be called from one. */
		if (*chain->hook && strcmp(chain->hook, "forward"))
			continue;
		for (size_t j = 0; j < chain->rules && f->examples < f->most; j++) {
			const json_t *rule = firewall_rule(f->x->firewall, chain, j);

			if (may_drop(rule))
				try_rule(f, chain, rule);
		}
	}
}

/* Where there are very many rules, each example costs more. */
static unsigned examples_for(const struct firewall *firewall)
{
	size_t rules = 1, most;

	for (size_t i = 0; i < firewall_chains(firewall); i++)
		rules += firewall_chain(firewall, i)->rules;
	most = TRIALS_MAX / rules;
	return (unsigned)(most > EXAMPLES_MAX	? EXAMPLES_MAX
			  : most < EXAMPLES_MIN ? EXAMPLES_MIN
						: most);
}

void check_forward_rules(struct doctor_context *x)
{
	struct forward f = { .x = x, .most = examples_for(x->firewall) };
	unsigned tried = 0;

	if (!x->spec->divert_only)
		try_rules(&f);
	tried = f.examples;
	f.examples = 0;
	for (unsigned i = 0; !x->spec->divert_only && i < x->flows; i++)
		if (!x->flow[i].own)
			forward_packet(&f, &x->flow[i]);
	context_ok(x, "no FORWARD rule would drop what is intercepted%s",
		   tried < f.most ? "" : ", as far as there was time to try");
}
