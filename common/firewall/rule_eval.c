/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A rule is a list of statements; a false match ends it. Each match is true, false, or unknown. A
 * rule whose matches are all true acts as in the kernel. A rule with an unknown match may act or
 * not: its effect is reported as uncertain, the packet goes on to the next rule, and from there on
 * nothing in this base chain is certain, because an accept or return may have ended it.
 */
#include "firewall/rule_eval.h"

#include "base/json_text.h"
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Nested chains: nft allows 16 jumps. */
#define DEPTH_MAX 16

/* RARELY: false unless something is exceeded (`limit rate over`, `quota over`). */
enum truth { FALSE, RARELY, UNKNOWN, TRUE };

static enum truth both(enum truth a, enum truth b)
{
	return a < b ? a : b;
}

static enum truth either(enum truth a, enum truth b)
{
	return a > b ? a : b;
}

static enum truth not(enum truth a) { return a == FALSE ? TRUE : a == TRUE ? FALSE : UNKNOWN; }

static enum truth is(bool value)
{
	return value ? TRUE : FALSE;
}

/* --- values ----------------------------------------------------------------------------------- */

/* The value of an expression for this packet. ABSENT: the packet has no such header, and the kernel
 * ends the rule. */
struct value {
	enum { VALUE_UNKNOWN, VALUE_ABSENT, VALUE_NUMBER, VALUE_TEXT, VALUE_ADDRESS } kind;
	uint64_t number;
	enum { NAMED_NOT, NAMED_USER, NAMED_GROUP } named; /* the number may be written as a name */
	const char *text;
	const struct endpoint *address;
};

static const struct value unknown = { .kind = VALUE_UNKNOWN };
static const struct value absent = { .kind = VALUE_ABSENT };

static struct value number(uint64_t n)
{
	return (struct value){ .kind = VALUE_NUMBER, .number = n };
}

static struct value text(const char *t)
{
	return t ? (struct value){ .kind = VALUE_TEXT, .text = t } : absent;
}

static struct value address(const struct endpoint *e)
{
	return (struct value){ .kind = VALUE_ADDRESS, .address = e };
}

/* The evaluation for one packet. */
struct eval {
	const struct firewall *firewall;
	struct rule_eval_packet *packet;
	rule_eval_visitor *visit;
	void *context;
	const struct firewall_chain *base;
	bool certain; /* the packet has certainly come this far */
	bool doubt;   /* something uncertain may have ended its evaluation */
};

/* The only member of a statement or an expression: its name, "" if there is none, and its value.
 * Rules may be many thousands, and asking for each possible name in turn took most of the time. */
static const char *word_of(const json_t *object, const json_t **value)
{
	void *only = json_object_iter((json_t *)object);

	*value = json_object_iter_value(only);
	return only ? json_object_iter_key(only) : "";
}

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words))
		words++;
	return *words;
}

static const char *protocol_of(const struct rule_eval_packet *p)
{
	return p->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

static struct value meta_of(const struct rule_eval_packet *p, const char *key)
{
	bool four = p->destination.family == AF_INET;

	if (!strcmp(key, "mark"))
		return number(p->mark);
	if (!strcmp(key, "iif") || !strcmp(key, "iifname"))
		return text(p->iif ? p->iif : "");
	if (!strcmp(key, "oif") || !strcmp(key, "oifname"))
		return text(p->oif ? p->oif : "");
	if (!strcmp(key, "l4proto"))
		return text(protocol_of(p));
	if (!strcmp(key, "nfproto"))
		return text(four ? "ipv4" : "ipv6");
	if (!strcmp(key, "protocol"))
		return text(four ? "ip" : "ip6");
	if (!strcmp(key, "pkttype"))
		return text("host");
	if (p->has_uid && !strcmp(key, "skuid"))
		return (struct value){ VALUE_NUMBER, .number = p->uid, .named = NAMED_USER };
	if (p->has_uid && !strcmp(key, "skgid"))
		return (struct value){ VALUE_NUMBER, .number = p->gid, .named = NAMED_GROUP };
	return unknown;
}

static uint64_t tcp_flags(const struct rule_eval_packet *p)
{
	return (p->syn ? 2U : 0) | (p->ack ? 0x10U : 0);
}

static struct value ip_field(const struct rule_eval_packet *p, const char *field)
{
	if (!strcmp(field, "saddr"))
		return address(&p->source);
	if (!strcmp(field, "daddr"))
		return address(&p->destination);
	if (!strcmp(field, "protocol") || !strcmp(field, "nexthdr"))
		return text(protocol_of(p));
	return unknown;
}

static struct value port_field(const struct rule_eval_packet *p, const char *field)
{
	if (!strcmp(field, "sport"))
		return number(p->source.port);
	if (!strcmp(field, "dport"))
		return number(p->destination.port);
	if (!strcmp(field, "flags"))
		return number(tcp_flags(p));
	return unknown;
}

static struct value payload_of(const struct rule_eval_packet *p, const json_t *payload)
{
	const char *protocol = json_text(payload, "protocol"), *field = json_text(payload, "field");
	const char *ours = p->destination.family == AF_INET ? "ip" : "ip6";

	if (!strcmp(protocol, "ip") || !strcmp(protocol, "ip6"))
		return strcmp(protocol, ours) ? absent : ip_field(p, field);
	if (!strcmp(protocol, protocol_of(p)) || !strcmp(protocol, "th"))
		return port_field(p, field);
	if (!strcmp(protocol, "ether") || !*protocol)
		return unknown;
	return absent; /* the other one, icmp, icmpv6, ... */
}

/* `ct original ip saddr`, `ct reply proto-dst`: of the connection's first packet, or of an answer to
 * it. */
static struct value ct_tuple_of(const struct rule_eval_packet *p, const char *direction,
				const char *key)
{
	bool same = p->reply == !strcmp(direction, "reply"), four = p->source.family == AF_INET;
	const struct endpoint *source = same ? &p->source : &p->destination;
	const struct endpoint *destination = same ? &p->destination : &p->source;
	const char *name = strrchr(key, ' ') ? strrchr(key, ' ') + 1 : key;

	if (name != key && !strncmp(key, "ip6", 3) == four)
		return absent;
	if (!strcmp(name, "saddr") || !strcmp(name, "daddr"))
		return address(*name == 's' ? source : destination);
	if (!strcmp(name, "proto-src") || !strcmp(name, "proto-dst"))
		return number(strcmp(name, "proto-src") ? destination->port : source->port);
	return unknown;
}

static struct value ct_of(const struct rule_eval_packet *p, const json_t *ct)
{
	const char *key = json_text(ct, "key"), *direction = json_text(ct, "dir");

	if (*direction)
		return ct_tuple_of(p, direction, key);
	if (!strcmp(key, "state"))
		return text(p->state);
	if (!strcmp(key, "direction"))
		return text(p->reply ? "reply" : "original");
	/* Nobody translated these packets: translation would have been reported. */
	if (!strcmp(key, "status"))
		return text("assured");
	if (!strcmp(key, "mark") && p->ct_mark)
		return number(*p->ct_mark);
	return unknown;
}

static bool has_flag(const json_t *fib, const char *flag)
{
	const json_t *flags = json_object_get(fib, "flags");
	json_t *item;
	size_t i;

	if (json_is_string(flags))
		return !strcmp(json_string_value(flags), flag);
	json_array_foreach((json_t *)flags, i, item)
		if (!strcmp(json_string_value(item), flag))
			return true;
	return false;
}

/* `fib saddr . mark . iif oif`: with our mark the lookup finds our local route, which counts as
 * missing (nft_fib wants a unicast route). */
static struct value fib_of(const struct rule_eval_packet *p, const json_t *fib)
{
	bool saddr = has_flag(fib, "saddr");

	/* (Even in output the source may be another host: a client or a server.) */
	if (!strcmp(json_text(fib, "result"), "type"))
		return text((saddr ? p->source_local : p->local) ? "local" : "unicast");
	if (!saddr)
		return unknown;
	return number(!has_flag(fib, "mark") || p->source_routed);
}

static struct value evaluate(const struct eval *w, const json_t *expression);

/* `meta mark & 0xff`, `tcp flags & (syn | ack)`. */
static uint64_t flag_bits(const json_t *operand, bool *known)
{
	static const char *const names[] = { "fin", "syn", "rst", "psh", "ack", "urg" };
	uint64_t bits = 0;
	json_t *item;
	size_t i;

	*known = true;
	if (json_is_integer(operand))
		return (uint64_t)json_integer_value(operand);
	if (json_is_array(operand)) {
		json_array_foreach((json_t *)operand, i, item)
			bits |= flag_bits(item, known);
		return bits;
	}
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (json_is_string(operand) && !strcmp(json_string_value(operand), names[i]))
			return 1U << i;
	*known = false;
	return 0;
}

static struct value binary(const struct eval *w, char operation, const json_t *operands)
{
	struct value left = evaluate(w, json_array_get(operands, 0));
	const json_t *second = json_array_get(operands, 1);
	bool known;
	uint64_t right = flag_bits(second, &known);

	if (json_is_object(second)) {
		struct value value = evaluate(w, second);

		known = value.kind == VALUE_NUMBER;
		right = value.number;
	}
	if (left.kind != VALUE_NUMBER || !known)
		return left.kind == VALUE_ABSENT ? absent : unknown;
	return number(operation == '&'	 ? left.number & right
		      : operation == '|' ? left.number | right
					 : left.number ^ right);
}

static enum truth look_up(const struct eval *w, const json_t *map, const json_t **data);

static struct value value_in_map(const struct eval *w, const json_t *map)
{
	const json_t *data;

	return look_up(w, map, &data) == TRUE ? evaluate(w, data) : unknown;
}

static struct value evaluate(const struct eval *w, const json_t *e)
{
	const struct rule_eval_packet *p = w->packet;
	const json_t *found;
	const char *word = word_of(e, &found);

	if (json_is_integer(e))
		return number((uint64_t)json_integer_value(e));
	if (!strcmp(word, "payload"))
		return payload_of(p, found);
	if (!strcmp(word, "meta"))
		return meta_of(p, json_text(found, "key"));
	if (!strcmp(word, "ct"))
		return ct_of(p, found);
	if (!strcmp(word, "map"))
		return value_in_map(w, found);
	if (!strcmp(word, "fib"))
		return fib_of(p, found);
	if (!strcmp(word, "socket"))
		return !strcmp(json_text(found, "key"), "transparent") && p->transparent ? number(1)
											 : unknown;
	/* `rt type 0`, `frag`: these packets have no such headers, and clients do not send them
	 * either. */
	if (!strcmp(word, "exthdr"))
		return *json_text(found, "field") ? absent : number(0);
	return *word && strchr("&|^", *word) ? binary(w, *word, found) : unknown;
}

/* --- comparing -------------------------------------------------------------------------------- */

static enum truth equals(const struct eval *w, const struct value *left, const json_t *right);

static enum truth in_prefix(const struct value *left, const json_t *prefix)
{
	char buf[ENDPOINT_TEXT_MAX];
	struct cidr cidr;

	/* IPv4-mapped addresses become IPv4 here (base/endpoint.h), so they do not match as IPv6.
	 * firewalld refuses them. */
	if (left->kind == VALUE_ADDRESS && !strncmp(json_text(prefix, "addr"), "::ffff:", 7))
		return FALSE;
	snprintf(buf, sizeof(buf), "%s/%lld", json_text(prefix, "addr"),
		 (long long)json_integer_value(json_object_get(prefix, "len")));
	if (left->kind != VALUE_ADDRESS || endpoint_parse_cidr(buf, &cidr, NULL))
		return UNKNOWN;
	return is(endpoint_in_cidr(left->address, &cidr));
}

static bool parse_bound(const json_t *bound, const struct value *left, struct endpoint *out)
{
	return json_is_string(bound) &&
	       !endpoint_parse_address(json_string_value(bound), out, NULL) &&
	       out->family == left->address->family;
}

static int compare_addresses(const struct endpoint *a, const struct endpoint *b)
{
	return memcmp(&a->addr, &b->addr, a->family == AF_INET ? 4 : 16);
}

static enum truth in_range(const struct value *left, const json_t *range)
{
	const json_t *first = json_array_get(range, 0), *last = json_array_get(range, 1);
	struct endpoint low, high;

	if (left->kind == VALUE_NUMBER && json_is_integer(first) && json_is_integer(last))
		return is(left->number >= (uint64_t)json_integer_value(first) &&
			  left->number <= (uint64_t)json_integer_value(last));
	if (left->kind != VALUE_ADDRESS || !parse_bound(first, left, &low) ||
	    !parse_bound(last, left, &high))
		return UNKNOWN;
	return is(compare_addresses(left->address, &low) >= 0 &&
		  compare_addresses(left->address, &high) <= 0);
}

static enum truth in_list(const struct eval *w, const struct value *left, const json_t *list)
{
	enum truth result = FALSE;
	json_t *item;
	size_t i;

	json_array_foreach((json_t *)list, i, item)
		result = either(result, equals(w, left, item));
	return result;
}

/* An element of a set may have a timeout, a comment, a counter. */
static const json_t *bare(const json_t *element)
{
	const json_t *inner = json_object_get(json_object_get(element, "elem"), "val");

	return inner ? inner : element;
}

static enum truth equals_text(const struct eval *w, const struct value *left, const char *right)
{
	const json_t *elements;
	struct endpoint e;
	const struct passwd *user;
	const struct group *group;
	bool known;

	if (!strcmp(right, "*")) /* what is not among the others */
		return TRUE;
	if (*right == '@') {
		elements = firewall_elements(w->firewall, w->base, right + 1);
		return elements ? in_list(w, left, elements) : UNKNOWN;
	}
	if (left->kind == VALUE_TEXT) {
		/* `eth*` */
		return is(!fnmatch(right, left->text, 0));
	}
	if (left->kind == VALUE_ADDRESS)
		return endpoint_parse_address(right, &e, NULL)
			       ? UNKNOWN
			       : is(endpoint_same_address(left->address, &e));
	if (left->named == NAMED_USER && (user = getpwnam(right)))
		return is(left->number == user->pw_uid);
	if (left->named == NAMED_GROUP && (group = getgrnam(right)))
		return is(left->number == group->gr_gid);
	if (left->kind == VALUE_NUMBER) {
		json_t *flag = json_string(right);
		uint64_t bits = flag_bits(flag, &known);

		json_decref(flag);
		if (known)
			return is(left->number == bits);
		return *right >= '0' && *right <= '9' ? is(left->number == strtoull(right, NULL, 0))
						      : UNKNOWN;
	}
	return UNKNOWN;
}

static enum truth equals(const struct eval *w, const struct value *left, const json_t *right)
{
	const json_t *inner;

	right = bare(right);
	if (left->kind == VALUE_UNKNOWN)
		return UNKNOWN;
	if (json_is_string(right))
		return equals_text(w, left, json_string_value(right));
	if (json_is_integer(right))
		return left->kind == VALUE_NUMBER
			       ? is(left->number == (uint64_t)json_integer_value(right))
			       : UNKNOWN;
	if (json_is_boolean(right))
		return is(!!left->number == json_is_true(right));
	if ((inner = json_object_get(right, "prefix")))
		return in_prefix(left, inner);
	if ((inner = json_object_get(right, "range")))
		return in_range(left, inner);
	if ((inner = json_object_get(right, "set")))
		return in_list(w, left, inner);
	if (json_is_array(right))
		return in_list(w, left, right);
	return UNKNOWN;
}

/* Flags as a list or joined by |: `tcp flags & (syn | ack) == (syn | ack)`. */
static enum truth equals_flags(const struct value *left, const json_t *right)
{
	const json_t *joined = json_object_get(right, "|");
	bool known;
	uint64_t bits = flag_bits(joined ? joined : right, &known);

	return known ? is(left->number == bits) : UNKNOWN;
}

/* One expression, or several as in `iifname . tcp dport`: each part must match. */
static enum truth equals_key(const struct eval *w, const json_t *key, const json_t *element)
{
	const json_t *parts = json_object_get(key, "concat"), *values;
	struct value left = parts ? unknown : evaluate(w, key);
	enum truth all = TRUE;
	json_t *part;
	size_t i;

	if (!parts)
		return left.kind == VALUE_ABSENT ? FALSE : equals(w, &left, element);
	values = json_object_get(bare(element), "concat");
	if (!values)
		return UNKNOWN;
	json_array_foreach((json_t *)parts, i, part) {
		left = evaluate(w, part);
		all = both(all, left.kind == VALUE_ABSENT
					? FALSE
					: equals(w, &left, json_array_get(values, i)));
	}
	return all;
}

/* The elements of a set or a map: a list in the rule, or a named one. */
static const json_t *elements_of(const struct eval *w, const json_t *list)
{
	if (json_is_string(list) && *json_string_value(list) == '@')
		return firewall_elements(w->firewall, w->base, json_string_value(list) + 1);
	return json_object_get(list, "set");
}

static enum truth equals_concat(const struct eval *w, const json_t *left, const json_t *right)
{
	const json_t *elements = elements_of(w, right);
	enum truth result = FALSE;
	json_t *element;
	size_t i;

	if (!elements)
		return UNKNOWN;
	json_array_foreach((json_t *)elements, i, element)
		result = either(result, equals_key(w, left, element));
	return result;
}

/* `numgen random mod 2`, `jhash ip saddr mod 2`: one of several of a kind; the first stands for
 * them. */
static bool is_spread(const json_t *key)
{
	static const char *const words[] = { "numgen", "jhash", "symhash", NULL };
	const json_t *value;

	return is_one_of(word_of(key, &value), words);
}

static bool is_catch_all(const json_t *element)
{
	const json_t *key = bare(json_array_get(element, 0));

	return json_is_string(key) && !strcmp(json_string_value(key), "*");
}

/* *data: what the map has for this packet. FALSE: nothing, and the rule ends there. */
static enum truth look_up(const struct eval *w, const json_t *map, const json_t **data)
{
	const json_t *key = json_object_get(map, "key"), *rest = NULL;
	const json_t *elements = elements_of(w, json_object_get(map, "data"));
	enum truth result = elements ? FALSE : UNKNOWN;
	json_t *element;
	size_t i;

	*data = NULL;
	if (is_spread(key) && json_array_size(elements)) {
		*data = json_array_get(json_array_get(elements, 0), 1);
		return TRUE;
	}
	json_array_foreach((json_t *)elements, i, element) {
		enum truth hit;

		if (is_catch_all(element)) {
			rest = json_array_get(element, 1);
			continue;
		}
		hit = equals_key(w, key, json_array_get(element, 0));
		if (hit == TRUE)
			*data = json_array_get(element, 1);
		if (hit == TRUE)
			return TRUE;
		result = either(result, hit);
	}
	*data = rest;
	return rest && result == FALSE ? TRUE : result;
}

static enum truth ordered(const struct value *left, const char *op, const json_t *right)
{
	uint64_t bound = (uint64_t)json_integer_value(right);

	if (left->kind != VALUE_NUMBER || !json_is_integer(right))
		return UNKNOWN;
	if (!strcmp(op, "<"))
		return is(left->number < bound);
	if (!strcmp(op, ">"))
		return is(left->number > bound);
	if (!strcmp(op, "<="))
		return is(left->number <= bound);
	return is(left->number >= bound);
}

static enum truth match(const struct eval *w, const json_t *m)
{
	const json_t *left = json_object_get(m, "left"), *right = json_object_get(m, "right");
	const json_t *concat = json_object_get(left, "concat");
	const char *op = json_text(m, "op");
	struct value value = concat ? unknown : evaluate(w, left);
	enum truth result;

	if (value.kind == VALUE_ABSENT)
		return FALSE;
	if (*op == '<' || *op == '>')
		return ordered(&value, op, right);
	if (concat)
		result = equals_concat(w, left, right);
	else if (value.kind == VALUE_NUMBER && json_object_get(left, "&") &&
		 (json_is_array(right) || json_object_get(right, "|")))
		result = equals_flags(&value, right);
	else
		result = equals(w, &value, right);
	return strcmp(op, "!=") ? result : not(result);
}

/* --- rules and chains ------------------------------------------------------------------------- */

/* How a chain, or a rule of it, ended for the packet. */
enum verdict { VERDICT_ON, VERDICT_RETURN, VERDICT_ACCEPT, VERDICT_DROP };

static enum verdict rule_eval_chain(struct eval *w, const struct firewall_chain *chain,
				    unsigned depth);

static void tell(struct eval *w, enum rule_eval_event event, enum truth truth,
		 const struct firewall_chain *chain, const json_t *rule, uint32_t mark)
{
	const struct rule_eval_step step = {
		.event = event,
		.certain = w->certain && truth == TRUE,
		.base = w->base,
		.chain = chain,
		.rule = rule,
		.mark = mark,
		.before = w->packet->mark,
	};

	w->visit(&step, w->context);
}

/* An accept ends this base chain, a drop ends the packet; uncertain ones may not. If a packet may
 * have been dropped and a later rule certainly drops it, it is certainly dropped. */
static enum verdict decide(struct eval *w, enum truth truth, enum verdict verdict)
{
	if (truth == TRUE)
		return verdict;
	if (verdict == VERDICT_DROP || truth == RARELY)
		return VERDICT_ON;
	w->certain = false;
	w->doubt = true;
	return VERDICT_ON;
}

static enum verdict follow(struct eval *w, const struct firewall_chain *chain, const char *name,
			   bool jump, enum truth truth, unsigned depth)
{
	const struct firewall_chain *target = firewall_target(w->firewall, chain, name);
	bool certain = w->certain, doubt = w->doubt;
	enum verdict verdict;

	if (!target || depth == DEPTH_MAX)
		return VERDICT_ON;
	if (truth != TRUE) {
		/* The jump is uncertain, so a verdict in that chain may never be reached. */
		w->certain = w->doubt = false;
		verdict = rule_eval_chain(w, target, depth + 1);
		w->doubt |= verdict != VERDICT_ON;
		w->doubt &= truth != RARELY;
		w->certain = certain && !w->doubt;
		w->doubt |= doubt;
		return VERDICT_ON;
	}
	verdict = rule_eval_chain(w, target, depth + 1);
	if (verdict == VERDICT_ACCEPT || verdict == VERDICT_DROP)
		return verdict;
	return jump ? VERDICT_ON : VERDICT_RETURN;
}

static bool has_bypass(const json_t *queue)
{
	const json_t *flags = json_object_get(queue, "flags");
	json_t *flag;
	size_t i;

	if (json_is_string(flags))
		return !strcmp(json_string_value(flags), "bypass");
	json_array_foreach((json_t *)flags, i, flag)
		if (!strcmp(json_string_value(flag), "bypass"))
			return true;
	return false;
}

/* A queue without a reader drops its packets; with a reader, the verdict is unknown, but usually it
 * lets packets pass. */
static enum verdict rule_eval_queue(struct eval *w, const struct firewall_chain *chain,
				    const json_t *rule, const json_t *queue, enum truth truth)
{
	const json_t *number = json_object_get(queue, "num");
	const json_t *range = json_object_get(number, "range");
	json_int_t first = json_integer_value(range ? json_array_get(range, 0) : number);

	if (has_bypass(queue) || firewall_queue_is_read((unsigned)first))
		return decide(w, both(truth, UNKNOWN), VERDICT_ACCEPT);
	tell(w, RULE_EVAL_DROPPED, truth, chain, rule, w->packet->mark);
	return decide(w, truth, VERDICT_DROP);
}

/* SYNPROXY answers the first packet itself, in the name of a host that is not there, so tproxy's
 * socket never sees the packet. */
static bool drops(const struct eval *w, const char *word)
{
	return !strcmp(word, "drop") || !strcmp(word, "reject") ||
	       (!strcmp(word, "synproxy") && w->packet->protocol == IPPROTO_TCP);
}

static enum verdict apply_verdict(struct eval *w, const struct firewall_chain *chain,
				  const json_t *rule, const json_t *statement, enum truth truth,
				  unsigned depth)
{
	const json_t *found;
	const char *word = word_of(statement, &found);

	if (!strcmp(word, "jump") || !strcmp(word, "goto"))
		return follow(w, chain, json_text(found, "target"), *word == 'j', truth, depth);
	if (!strcmp(word, "accept"))
		return decide(w, truth, VERDICT_ACCEPT);
	if (!strcmp(word, "return"))
		return decide(w, truth, VERDICT_RETURN);
	if (!strcmp(word, "queue"))
		return rule_eval_queue(w, chain, rule, found, truth);
	if (!strcmp(word, "notrack") && truth == TRUE && w->certain)
		w->packet->state = "untracked";
	if (!strcmp(word, "fwd")) /* to another interface: nothing here sees it again */
		return decide(w, truth, VERDICT_DROP);
	if (!drops(w, word))
		return VERDICT_ON;
	tell(w, RULE_EVAL_DROPPED, truth, chain, rule, w->packet->mark);
	return decide(w, truth, VERDICT_DROP);
}

static enum verdict rule_eval_map(struct eval *w, const struct firewall_chain *chain,
				  const json_t *rule, const json_t *map, enum truth truth,
				  unsigned depth)
{
	const json_t *key = json_object_get(map, "key"), *found;
	const json_t *elements = elements_of(w, json_object_get(map, "data"));
	enum truth any = look_up(w, map, &found);
	json_t *element;
	size_t i;

	json_array_foreach((json_t *)elements, i, element) {
		bool rest = is_catch_all(element);
		enum truth hit = is_spread(key)	  ? is(!i)
				 : !rest	  ? equals_key(w, key, json_array_get(element, 0))
				 : any == UNKNOWN ? UNKNOWN
						  : is(found == json_array_get(element, 1));
		enum verdict verdict;

		if (hit == FALSE)
			continue;
		verdict = apply_verdict(w, chain, rule, json_array_get(element, 1),
					both(truth, hit), depth);
		if (verdict != VERDICT_ON || hit == TRUE)
			return verdict;
	}
	return VERDICT_ON;
}

static void set_ct_mark(struct eval *w, const json_t *mangle, enum truth truth)
{
	struct value value = evaluate(w, json_object_get(mangle, "value"));

	if (w->packet->ct_mark && value.kind == VALUE_NUMBER && truth == TRUE && w->certain)
		*w->packet->ct_mark = (uint32_t)value.number;
}

static void set_mark(struct eval *w, const struct firewall_chain *chain, const json_t *rule,
		     const json_t *mangle, enum truth truth)
{
	const json_t *key = json_object_get(mangle, "key");
	struct value value;

	if (!strcmp(json_text(json_object_get(key, "ct"), "key"), "mark"))
		set_ct_mark(w, mangle, truth);
	if (strcmp(json_text(json_object_get(key, "meta"), "key"), "mark"))
		return;
	value = evaluate(w, json_object_get(mangle, "value"));
	if (value.kind != VALUE_NUMBER) {
		value = number(0);
		truth = both(truth, UNKNOWN);
	}
	if (value.number != w->packet->mark)
		tell(w, RULE_EVAL_MARKED, truth, chain, rule, (uint32_t)value.number);
	if (truth == TRUE && w->certain)
		w->packet->mark = (uint32_t)value.number;
}

/* An iptables extension that could not be decoded. */
static enum truth rule_eval_extension(struct eval *w, const struct firewall_chain *chain,
				      const json_t *rule, const json_t *xt, enum truth truth)
{
	const char *name = json_text(xt, "name");

	/* IPv6's extension headers: these packets have none. */
	static const char *const headers[] = {
		"rt", "frag", "hbh", "dst", "ah", "esp", "mh", NULL
	};

	if (is_one_of(name, headers))
		return FALSE;
	if (!strcmp(json_text(xt, "type"), "match"))
		return both(truth, strcmp(name, "comment") ? UNKNOWN : TRUE);
	if (!strcmp(name, "TPROXY"))
		tell(w, RULE_EVAL_TPROXIED, truth, chain, rule, w->packet->mark);
	else if (!strcmp(name, "REDIRECT") || !strcmp(name, "DNAT"))
		tell(w, RULE_EVAL_TRANSLATED, truth, chain, rule, w->packet->mark);
	else if (!strcmp(name, "MASQUERADE") || !strcmp(name, "SNAT") || !strcmp(name, "NETMAP"))
		tell(w, RULE_EVAL_MASKED, truth, chain, rule, w->packet->mark);
	else if (!strcmp(name, "MARK") || !strcmp(name, "CONNMARK"))
		tell(w, RULE_EVAL_MARKED, both(truth, UNKNOWN), chain, rule, w->packet->mark);
	return truth;
}

/* How much there has been is unknown here; usually not as much as somebody meant to be too much. */
static enum truth rule_eval_amount(const char *word, const json_t *found)
{
	static const char *const amounts[] = { "limit", "quota", "ct count", NULL };

	if (!is_one_of(word, amounts))
		return TRUE;
	return json_is_true(json_object_get(found, "inv")) ? RARELY : UNKNOWN;
}

/* What `update @set { ip saddr limit rate over 10/second }` does for the element. */
static enum truth rule_eval_element(const json_t *found)
{
	json_t *list = json_object_get(found, "stmt"), *one;
	enum truth truth = TRUE;
	const json_t *inner = NULL;
	size_t i;

	if (json_is_object(list))
		return rule_eval_amount(word_of(list, &inner), inner);
	json_array_foreach(list, i, one) {
		const char *word = word_of(one, &inner);

		truth = both(truth, rule_eval_amount(word, inner));
	}
	return truth;
}

/* The map that says to what a statement sets something, or NULL. */
static const json_t *map_in(const json_t *statement)
{
	static const char *const places[] = { "value", "addr", "port" };
	const json_t *map = NULL;

	for (size_t i = 0; !map && i < sizeof(places) / sizeof(*places); i++)
		map = json_object_get(json_object_get(statement, places[i]), "map");
	return map;
}

/* A match, or what else ends the rule for some packets: does the packet go on to the next
 * statement? */
static enum truth rule_eval_condition(struct eval *w, const char *word, const json_t *found)
{
	/* They match or not depending on what is unknown here. */
	static const char *const unknowable[] = { "xfrm", "osf", NULL };
	const json_t *map, *data;

	if (!strcmp(word, "match"))
		return match(w, found);
	if (!strcmp(word, "set") || !strcmp(word, "meter"))
		return rule_eval_element(found);
	map = json_is_object(found) && strcmp(word, "vmap") ? map_in(found) : NULL;
	if (map)
		return look_up(w, map, &data);
	return is_one_of(word, unknowable) ? UNKNOWN : rule_eval_amount(word, found);
}

/* Address or port of the destination, which such a rule changes without conntrack. */
static bool is_destination(const json_t *key)
{
	const char *field = json_text(json_object_get(key, "payload"), "field");

	return !strcmp(field, "daddr") || !strcmp(field, "dport");
}

/* What it does to the packet without ending its way. */
static void rule_eval_effect(struct eval *w, const struct firewall_chain *chain, const json_t *rule,
			     const char *word, const json_t *found, enum truth truth)
{
	static const struct {
		const char *word;
		enum rule_eval_event event;
	} effects[] = {
		{ "tproxy", RULE_EVAL_TPROXIED },   { "redirect", RULE_EVAL_TRANSLATED },
		{ "dnat", RULE_EVAL_TRANSLATED },   { "snat", RULE_EVAL_MASKED },
		{ "masquerade", RULE_EVAL_MASKED }, { "fwd", RULE_EVAL_TRANSLATED },
	};

	if (!strcmp(word, "mangle"))
		set_mark(w, chain, rule, found, truth);
	if (!strcmp(word, "mangle") && is_destination(json_object_get(found, "key")))
		tell(w, RULE_EVAL_TRANSLATED, truth, chain, rule, w->packet->mark);
	for (size_t i = 0; i < sizeof(effects) / sizeof(*effects); i++)
		if (!strcmp(word, effects[i].word))
			tell(w, effects[i].event, truth, chain, rule, w->packet->mark);
}

static enum verdict rule_eval_rule(struct eval *w, const struct firewall_chain *chain,
				   const json_t *rule, unsigned depth)
{
	enum truth truth = TRUE;
	enum verdict verdict = VERDICT_ON;
	json_t *statement;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement) {
		const json_t *found;
		const char *word = word_of(statement, &found);

		truth = both(truth, rule_eval_condition(w, word, found));
		if (truth != FALSE && !strcmp(word, "xt"))
			truth = rule_eval_extension(w, chain, rule, found, truth);
		if (truth == FALSE)
			return VERDICT_ON;
		rule_eval_effect(w, chain, rule, word, found, truth);
		if (!strcmp(word, "vmap"))
			verdict = rule_eval_map(w, chain, rule, found, truth, depth);
		else
			verdict = apply_verdict(w, chain, rule, statement, truth, depth);
		if (verdict != VERDICT_ON)
			return verdict;
	}
	return VERDICT_ON;
}

static enum verdict rule_eval_chain(struct eval *w, const struct firewall_chain *chain,
				    unsigned depth)
{
	const struct rule_eval_packet *p = w->packet;

	for (size_t i = 0; i < chain->rules; i++) {
		enum verdict verdict;

		if (chain->first &&
		    first_match_fails(&chain->first[i], p->protocol, &p->source, &p->destination))
			continue;
		verdict = rule_eval_rule(w, chain, firewall_rule(w->firewall, chain, i), depth);
		if (verdict != VERDICT_ON)
			return verdict == VERDICT_RETURN && depth ? VERDICT_ON : verdict;
	}
	return VERDICT_ON;
}

/* Returns false if the packet is certainly dropped. */
static bool rule_eval_base(struct eval *w)
{
	enum verdict verdict;

	w->certain = true;
	verdict = rule_eval_chain(w, w->base, 0);
	if (verdict == VERDICT_DROP)
		return !w->certain;
	if (verdict == VERDICT_ACCEPT || strcmp(w->base->policy, "drop"))
		return true;
	tell(w, RULE_EVAL_DROPPED, TRUE, w->base, NULL, w->packet->mark);
	return !w->certain;
}

static bool is_in_part(const struct eval *w, const struct rule_eval_part *part)
{
	if (!part || part->side == RULE_EVAL_ALL)
		return true;
	return firewall_is_before(w->firewall, w->base, &part->ours) ==
	       (part->side == RULE_EVAL_BEFORE);
}

bool rule_eval_hook(const struct firewall *firewall, const char *hook,
		    const struct rule_eval_part *part, struct rule_eval_packet *packet,
		    rule_eval_visitor *visit, void *context)
{
	struct eval w = {
		.firewall = firewall, .packet = packet, .visit = visit, .context = context
	};
	sa_family_t family = packet->destination.family;

	for (unsigned i = 0; (w.base = firewall_at_hook(firewall, hook, family, i)); i++) {
		/* Only connections that begin go through nat chains. */
		if (!is_in_part(&w, part) ||
		    !firewall_chain_is_at(w.base, packet->iif, packet->oif) ||
		    (!strcmp(w.base->type, "nat") && strcmp(packet->state, "new")))
			continue;
		if (!rule_eval_base(&w))
			return false;
	}
	return true;
}
