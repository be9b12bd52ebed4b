/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet's way through rules in nft's JSON words: what each match comes to, and what is certain.
 *
 * The firewall is the test's: chains of one family, base chains of the hook `input` first.
 */
#include "firewall/rule_eval.h"
#include "check.h"
#include <netinet/in.h>
#include <stdlib.h>

#define CHAINS 4
#define RULES  8

struct firewall {
	struct firewall_chain chain[CHAINS];
	const json_t *rule[CHAINS][RULES];
	struct first_match first[CHAINS][RULES];
	unsigned count;
	json_t *elements; /* of the only set, `@s` */
};

const struct firewall_chain *firewall_at_hook(const struct firewall *f, const char *hook,
					      sa_family_t family, unsigned at)
{
	for (unsigned i = 0; i < f->count; i++)
		if (*f->chain[i].hook && !strcmp(f->chain[i].hook, hook) && !at--)
			return &f->chain[i];
	return NULL;
}

const struct firewall_chain *firewall_target(const struct firewall *f,
					     const struct firewall_chain *from, const char *name)
{
	for (unsigned i = 0; i < f->count; i++)
		if (!strcmp(f->chain[i].name, name))
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
	return strcmp(name, "s") ? NULL : f->elements;
}

bool firewall_is_before(const struct firewall *f, const struct firewall_chain *chain,
			const struct firewall_place *ours)
{
	return chain->runs_at < ours->priority;
}

static struct firewall firewall;

static json_t *json(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY, &error);

	if (!value)
		fprintf(stderr, "%s: %s\n", error.text, text);
	CHECK(value != NULL);
	return value;
}

/* A chain; each rule is the list of its statements. */
static void chain(const char *name, const char *hook, const char *policy, const char *const *rules)
{
	unsigned at = firewall.count++;
	struct firewall_chain *c = &firewall.chain[at];

	*c = (struct firewall_chain){ .family = "inet",
				      .table = "t",
				      .name = name,
				      .hook = hook,
				      .type = "filter",
				      .policy = policy,
				      .rule = firewall.rule[at] };
	for (; *rules; rules++) {
		char text[2048];

		snprintf(text, sizeof(text), "{\"expr\":[%s]}", *rules);
		firewall.rule[at][c->rules++] = json(text);
	}
}

static void forget(void)
{
	for (unsigned i = 0; i < firewall.count; i++)
		for (size_t j = 0; j < firewall.chain[i].rules; j++)
			json_decref((json_t *)firewall.rule[i][j]);
	json_decref(firewall.elements);
	firewall = (struct firewall){ .count = 0 };
}

static struct rule_eval_packet packet;
static char told[256];

/* d: dropped, m: marked, t: tproxied, n: translated; ? after it: not certain. */
static void tell(const struct rule_eval_step *step, void *context)
{
	snprintf(told + strlen(told), sizeof(told) - strlen(told), "%c%s", "dmtn"[step->event],
		 step -> certain ? "" : "?");
}

static void reset_packet(void)
{
	struct failure why;

	packet = (struct rule_eval_packet){
		.protocol = IPPROTO_TCP, .iif = "eth0", .mark = 0x10, .state = "new", .syn = true
	};
	CHECK(endpoint_parse("192.0.2.2:40000", &packet.source, &why) == 0);
	CHECK(endpoint_parse("198.51.100.2:80", &packet.destination, &why) == 0);
}

/* What is behind a chain of ours at 1000 is not asked for. */
static void evaluate(void)
{
	const struct rule_eval_part part = { RULE_EVAL_BEFORE, { .priority = 1000 } };
	bool through;

	told[0] = '\0';
	through = rule_eval_hook(&firewall, "input", &part, &packet, tell, NULL);
	strcat(told, through ? "+" : "-");
}

/* As the firewall does it. */
static void read_first_matches(void)
{
	for (unsigned i = 0; i < firewall.count; i++) {
		firewall.chain[i].first = firewall.first[i];
		for (size_t j = 0; j < firewall.chain[i].rules; j++)
			firewall.first[i][j] = first_match_of(firewall.rule[i][j]);
	}
}

/* What happens to the packet in the firewall, which is then forgotten; `+': through. It is the same
 * whether what rules ask for first is read beforehand or not. */
static const char *outcome(void)
{
	const struct rule_eval_packet before = packet;
	uint32_t ct_mark = packet.ct_mark ? *packet.ct_mark : 0;
	char without[sizeof(told)];

	evaluate();
	strcpy(without, told);
	packet = before;
	if (packet.ct_mark)
		*packet.ct_mark = ct_mark;
	read_first_matches();
	evaluate();
	CHECK_TEXT(told, without);
	forget();
	return told;
}

/* A chain of that one rule and a drop behind it, of a match: d-: it is true, +: false, d?+:
 * unknown. */
static const char *match(const char *left, const char *op, const char *right)
{
	char text[1024];
	const char *const rules[] = { text, NULL };

	snprintf(text, sizeof(text),
		 "{\"match\":{\"op\":\"%s\",\"left\":%s,\"right\":%s}},{\"drop\":null}", op, left,
		 right);
	chain("in", "input", "accept", rules);
	return outcome();
}

#define YES   "d-"
#define NO    "+"
#define MAYBE "d?+"

#define META(key) "{\"meta\":{\"key\":\"" key "\"}}"
#define FIELD(protocol, field) \
	"{\"payload\":{\"protocol\":\"" protocol "\",\"field\":\"" field "\"}}"
#define BITS(left, right) "{\"&\":[" left "," right "]}"

static void test_meta(void)
{
	CHECK_TEXT(match(META("mark"), "==", "16"), YES);
	CHECK_TEXT(match(META("mark"), "!=", "16"), NO);
	CHECK_TEXT(match(META("mark"), "==", "\"0x10\""), YES);
	CHECK_TEXT(match(META("mark"), "<", "17"), YES);
	CHECK_TEXT(match(META("mark"), ">=", "17"), NO);
	CHECK_TEXT(match(BITS(META("mark"), "255"), "==", "16"), YES);
	CHECK_TEXT(match("{\"|\":[" META("mark") ",1]}", "==", "17"), YES);
	CHECK_TEXT(match("{\"^\":[" META("mark") ",16]}", "==", "0"), YES);
	CHECK_TEXT(match(META("iifname"), "==", "\"eth0\""), YES);
	CHECK_TEXT(match(META("iifname"), "==", "\"eth*\""), YES);
	CHECK_TEXT(match(META("iifname"), "!=", "\"wlan*\""), YES);
	CHECK_TEXT(match(META("oifname"), "==", "\"eth0\""), NO);
	CHECK_TEXT(match(META("nfproto"), "==", "\"ipv6\""), NO);
	CHECK_TEXT(match(META("l4proto"), "==", "{\"set\":[\"udp\",\"tcp\"]}"), YES);
	CHECK_TEXT(match(META("skuid"), "==", "0"), MAYBE);
	CHECK_TEXT(match(META("skuid"), "!=", "0"), MAYBE);
}

static void test_packet(void)
{
	CHECK_TEXT(match(FIELD("tcp", "dport"), "==", "80"), YES);
	CHECK_TEXT(match(FIELD("th", "dport"), "==", "{\"range\":[79,81]}"), YES);
	CHECK_TEXT(match(FIELD("tcp", "sport"), "==", "{\"set\":[1,{\"range\":[2,3]}]}"), NO);
	/* There is no UDP header: the rule ends, also when it says `!='. */
	CHECK_TEXT(match(FIELD("udp", "dport"), "==", "80"), NO);
	CHECK_TEXT(match(FIELD("udp", "dport"), "!=", "80"), NO);
	CHECK_TEXT(match(FIELD("ip6", "saddr"), "!=", "\"::1\""), NO);
	CHECK_TEXT(match(FIELD("ip", "saddr"), "==", "\"192.0.2.2\""), YES);
	CHECK_TEXT(match(FIELD("ip", "daddr"),
			 "==", "{\"prefix\":{\"addr\":\"198.51.100.0\",\"len\":24}}"),
		   YES);
	CHECK_TEXT(match(FIELD("ip", "daddr"),
			 "==", "{\"range\":[\"198.51.100.3\",\"198.51.100.9\"]}"),
		   NO);
	CHECK_TEXT(match(FIELD("ip", "daddr"), "==", "\"server.example\""), MAYBE);
	CHECK_TEXT(match(FIELD("ip", "ttl"), "==", "1"), MAYBE);
	CHECK_TEXT(match(BITS(FIELD("tcp", "flags"), "[\"syn\",\"ack\"]"), "==", "\"syn\""), YES);
	CHECK_TEXT(match(BITS(FIELD("tcp", "flags"), "[\"syn\",\"ack\"]"),
			 "==", "{\"|\":[\"syn\",\"ack\"]}"),
		   NO);
}

#define CT(direction, key) "{\"ct\":{\"dir\":\"" direction "\",\"key\":\"" key "\"}}"

static void test_connection(void)
{
	CHECK_TEXT(match("{\"ct\":{\"key\":\"state\"}}", "==", "[\"established\",\"new\"]"), YES);
	CHECK_TEXT(match("{\"ct\":{\"key\":\"state\"}}", "==", "\"invalid\""), NO);
	CHECK_TEXT(match("{\"ct\":{\"key\":\"mark\"}}", "==", "1"), MAYBE);
	CHECK_TEXT(match(CT("original", "ip saddr"), "==", "\"192.0.2.2\""), YES);
	CHECK_TEXT(match(CT("reply", "ip saddr"), "==", "\"192.0.2.2\""), NO);
	CHECK_TEXT(match(CT("original", "ip6 saddr"), "!=", "\"::1\""), NO);
	CHECK_TEXT(match(CT("original", "proto-dst"), "==", "80"), YES);
	CHECK_TEXT(match(CT("reply", "proto-dst"), "==", "40000"), YES);
	CHECK_TEXT(match(CT("original", "bytes"), "==", "80"), MAYBE);
	CHECK_TEXT(match("{\"socket\":{\"key\":\"transparent\"}}", "==", "1"), MAYBE);
	packet.transparent = true;
	CHECK_TEXT(match("{\"socket\":{\"key\":\"transparent\"}}", "==", "1"), YES);
	packet.transparent = false;
	packet.local = true;
	CHECK_TEXT(
		match("{\"fib\":{\"result\":\"type\",\"flags\":[\"daddr\"]}}", "==", "\"local\""),
		YES);
	packet.local = false;
	CHECK_TEXT(match("{\"fib\":{\"result\":\"oif\",\"flags\":[\"saddr\",\"mark\"]}}",
			 "==", "false"),
		   YES);
	packet.source_routed = true;
	CHECK_TEXT(match("{\"fib\":{\"result\":\"oif\",\"flags\":[\"saddr\",\"mark\"]}}",
			 "==", "false"),
		   NO);
	packet.source_routed = false;
}

static void test_sets(void)
{
	firewall.elements = json("[443,{\"elem\":{\"val\":80,\"timeout\":60}}]");
	CHECK_TEXT(match(FIELD("tcp", "dport"), "==", "\"@s\""), YES);
	CHECK_TEXT(match(FIELD("tcp", "dport"), "==", "\"@other\""), MAYBE);
	firewall.elements = json("[{\"concat\":[\"eth0\",443]},{\"concat\":[\"eth0\",80]}]");
	CHECK_TEXT(match("{\"concat\":[" META("iifname") "," FIELD("tcp", "dport") "]}",
			 "==", "\"@s\""),
		   YES);
	firewall.elements = json("[{\"concat\":[\"eth1\",80]}]");
	CHECK_TEXT(match("{\"concat\":[" META("iifname") "," FIELD("tcp", "dport") "]}",
			 "==", "\"@s\""),
		   NO);
}

#define LIMIT "{\"limit\":{\"rate\":1}}"
#define OVER  "{\"limit\":{\"rate\":1,\"inv\":true}}"
#define DROP  "{\"drop\":null}"

/* The rule `MAP`, and a drop behind it. */
static const char *map(const char *key, const char *elements)
{
	char text[1024];
	const char *const rules[] = { text, NULL };

	snprintf(text, sizeof(text), "{\"vmap\":{\"key\":%s,\"data\":{\"set\":[%s]}}}", key,
		 elements);
	chain("in", "input", "accept", rules);
	return outcome();
}

static void test_maps(void)
{
	static const char both[] = "{\"concat\":[" META("iifname") "," FIELD("tcp", "dport") "]}";

	CHECK_TEXT(map(both, "[{\"concat\":[\"eth0\",80]}," DROP "]"), YES);
	CHECK_TEXT(map(both, "[{\"concat\":[\"eth1\",80]}," DROP "]"), NO);
	CHECK_TEXT(map(FIELD("tcp", "dport"), "[{\"range\":[1,1023]}," DROP "]"), YES);
	/* What is not among the others, wherever it is listed. */
	CHECK_TEXT(map(FIELD("tcp", "dport"), "[\"*\"," DROP "],[80,{\"accept\":null}]"), NO);
	CHECK_TEXT(map(FIELD("tcp", "dport"), "[\"*\"," DROP "],[81,{\"accept\":null}]"), YES);
	CHECK_TEXT(map("{\"numgen\":{\"mode\":\"random\",\"mod\":2}}",
		       "[0," DROP "],[1,{\"accept\":null}]"),
		   YES);
	CHECK_TEXT(map(META("skuid"), "[\"*\"," DROP "],[0,{\"accept\":null}]"), MAYBE);
}

static void test_verdicts(void)
{
	const char *const ends[] = { "{\"accept\":null}", DROP, NULL }, *const empty[] = { NULL };
	const char *const sub[] = { "{\"return\":null}", DROP, NULL };
	const char *const jumps[] = { "{\"jump\":{\"target\":\"sub\"}}", DROP, NULL };
	const char *const goes[] = { "{\"goto\":{\"target\":\"sub\"}}", DROP, NULL };
	const char *const self[] = { "{\"jump\":{\"target\":\"in\"}}", NULL };

	chain("in", "input", "drop", ends);
	CHECK_TEXT(outcome(), "+");
	chain("in", "input", "drop", empty);
	CHECK_TEXT(outcome(), "d-");
	chain("in", "input", "accept", jumps);
	chain("sub", "", "", sub);
	CHECK_TEXT(outcome(), "d-"); /* it comes back, and is dropped behind the jump */
	chain("in", "input", "accept", goes);
	chain("sub", "", "", sub);
	CHECK_TEXT(outcome(), "+");	      /* it does not come back */
	chain("in", "input", "accept", self); /* the kernel would have refused that */
	CHECK_TEXT(outcome(), "+");
	/* An accept ends one base chain, and the next one may drop. */
	chain("one", "input", "accept", ends);
	chain("two", "input", "drop", empty);
	CHECK_TEXT(outcome(), "d-");
}

static void test_doubt(void)
{
	const char *const ends[] = { "{\"accept\":null}", NULL };
	const char *const maybe_drop[] = { LIMIT "," DROP, DROP, NULL };
	const char *const maybe_accept[] = { LIMIT ",{\"accept\":null}", DROP, NULL };
	const char *const maybe_jump[] = { LIMIT ",{\"jump\":{\"target\":\"sub\"}}", DROP, NULL };
	const char *const nothing[] = { "{\"return\":null}", NULL };
	const char *const over_drop[] = { OVER "," DROP, NULL };
	const char *const over_accept[] = { OVER ",{\"accept\":null}", DROP, NULL };
	const char *const over_jump[] = { OVER ",{\"jump\":{\"target\":\"sub\"}}", DROP, NULL };
	const char *const meter[] = { "{\"set\":{\"op\":\"update\",\"set\":\"@s\",\"stmt\":[" OVER
				      "]}}," DROP,
				      NULL };

	chain("in", "input", "accept", maybe_drop);
	CHECK_TEXT(outcome(), "d?d-"); /* whatever the limit says, too */
	chain("in", "input", "accept", maybe_accept);
	CHECK_TEXT(outcome(), "d?+");
	chain("in", "input", "accept", maybe_jump);
	chain("sub", "", "", nothing);
	CHECK_TEXT(outcome(), "d-"); /* whatever the limit says, it is dropped */
	/* What is rare drops perhaps, and lets nothing past the next rule. */
	chain("in", "input", "accept", over_drop);
	CHECK_TEXT(outcome(), "d?+");
	chain("in", "input", "accept", over_accept);
	CHECK_TEXT(outcome(), "d-");
	chain("in", "input", "accept", over_jump);
	chain("sub", "", "", ends);
	CHECK_TEXT(outcome(), "d-");
	chain("in", "input", "accept", meter);
	CHECK_TEXT(outcome(), "d?+");
}

#define PORT_MAP(element) \
	"{\"map\":{\"key\":" FIELD("tcp", "dport") ",\"data\":{\"set\":[[" element "]]}}}"
#define SET_MARK(value) "{\"mangle\":{\"key\":" META("mark") ",\"value\":" value "}}"

static void test_marks(void)
{
	const char *const sets[] = { SET_MARK("{\"|\":[" META("mark") ",256]}"), SET_MARK("272"),
				     NULL };
	const char *const mapped[] = { SET_MARK(PORT_MAP("80,273")), SET_MARK(PORT_MAP("81,1")),
				       NULL };
	const char *const from_ct[] = { SET_MARK("{\"ct\":{\"key\":\"mark\"}}"), NULL };

	chain("in", "input", "accept", sets);
	CHECK_TEXT(outcome(), "m+"); /* the second one changes nothing */
	CHECK(packet.mark == 0x110);
	chain("in", "input", "accept", mapped);
	CHECK_TEXT(outcome(), "m+"); /* the second map has nothing for it */
	CHECK(packet.mark == 0x111);
	packet.mark = 0x110;
	chain("in", "input", "accept", from_ct);
	CHECK_TEXT(outcome(), "m?+");
	CHECK(packet.mark == 0x110);
	packet.mark = 0x10;
}

static void test_targets(void)
{
	const char *const ours[] = { "{\"tproxy\":{\"port\":1}}", "{\"redirect\":{\"port\":1}}",
				     "{\"dnat\":{\"addr\":\"::1\"}}", NULL };
	const char *const xt[] = { "{\"xt\":{\"type\":\"match\",\"name\":\"comment\"}},"
				   "{\"xt\":{\"type\":\"target\",\"name\":\"TPROXY\"}}",
				   "{\"xt\":{\"type\":\"match\",\"name\":\"time\"}}," DROP, NULL };
	const char *const away[] = { "{\"dnat\":{\"addr\":" PORT_MAP("81,\"::1\"") "}}",
				     "{\"mangle\":{\"key\":" FIELD("ip", "daddr") ",\"value\":1}}",
				     "{\"fwd\":{\"dev\":\"eth1\"}}", NULL };
	const char *const map[] = { "{\"vmap\":{\"key\":" FIELD(
					    "tcp", "dport") ",\"data\":{\"set\":[[443,{\"accept\":"
							    "null}],[80,{\"drop\":"
							    "null}]]}}}",
				    NULL };

	chain("in", "input", "accept", ours);
	CHECK_TEXT(outcome(), "tnn+");
	chain("in", "input", "accept", xt);
	CHECK_TEXT(outcome(), "td?+");
	chain("in", "input", "accept", away);
	CHECK_TEXT(outcome(), "nn-"); /* without conntrack, and to another interface */
	chain("in", "input", "accept", map);
	CHECK_TEXT(outcome(), "d-");
}

/* Priorities out of bounds, and nat for what has begun. */
static void test_hooks(void)
{
	const char *const drops[] = { DROP, NULL };

	chain("in", "input", "accept", drops);
	firewall.chain[0].runs_at = 2000;
	CHECK_TEXT(outcome(), "+");
	chain("in", "output", "accept", drops);
	CHECK_TEXT(outcome(), "+");
	packet.state = "established";
	chain("in", "input", "accept", drops);
	firewall.chain[0].type = "nat";
	CHECK_TEXT(outcome(), "+");
	packet.state = "new";
	chain("in", "input", "accept", drops);
	firewall.chain[0].type = "nat";
	CHECK_TEXT(outcome(), "d-");
}

int main(void)
{
	reset_packet();
	test_meta();
	test_packet();
	test_connection();
	test_sets();
	test_maps();
	test_verdicts();
	test_doubt();
	test_marks();
	test_targets();
	test_hooks();
	return check_done();
}
