/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/late_mark.h"

#include <jansson.h>
#include <linux/netfilter_ipv4.h>
#include <stdio.h>
#include <string.h>

/* Where our rules choose the zone, and where they look at marks (intercept/nft_text.c: `raw + 1`,
 * `mangle + 1`). */
#define ZONE_PRIORITY (NF_IP_PRI_RAW + 1)
#define TAKE_PRIORITY (NF_IP_PRI_MANGLE + 1)

/* Jumps in jumps: as many as the kernel allows. */
#define JUMPS_MAX 16

/* --- what a rule makes of a mark ------------------------------------------------------------- */

/* Of each bit: it is as it was, or it has that value; or neither, and nothing is known. */
struct bits {
	uint32_t kept, known, value;
};

static struct bits evaluate(const json_t *e);

static bool is_mark(const json_t *e, const char *of)
{
	const char *key = json_string_value(json_object_get(json_object_get(e, of), "key"));

	return key && !strcmp(key, "mark");
}

/* One bit of a known operand says what becomes of the other's. */
static struct bits combine(char operation, struct bits a, struct bits b)
{
	uint32_t neutral = operation == '&' ? UINT32_MAX : 0; /* leaves the other as it is */
	uint32_t as_a = b.known & ~(b.value ^ neutral), as_b = a.known & ~(a.value ^ neutral);
	uint32_t fixed = a.known & b.known;
	struct bits c = { .known = fixed };

	c.value = operation == '&'   ? a.value & b.value
		  : operation == '|' ? a.value | b.value
				     : a.value ^ b.value;
	if (operation != '^') {
		/* A bit that is not neutral decides. */
		c.known |= (a.known & ~as_b) | (b.known & ~as_a);
		c.value = (c.value & fixed) | (~fixed & ~neutral);
	}
	c.kept = (as_a & a.kept) | (as_b & b.kept);
	return c;
}

static struct bits evaluate(const json_t *e)
{
	static const char *const operations[] = { "&", "|", "^" };

	if (json_is_integer(e))
		return (struct bits){ .known = UINT32_MAX,
				      .value = (uint32_t)json_integer_value(e) };
	if (is_mark(e, "meta"))
		return (struct bits){ .kept = UINT32_MAX };
	/* A connection that begins has none yet. */
	if (is_mark(e, "ct"))
		return (struct bits){ .known = UINT32_MAX };
	for (int i = 0; i < 3; i++) {
		const json_t *operands = json_object_get(e, operations[i]);

		if (json_array_size(operands) == 2)
			return combine(*operations[i], evaluate(json_array_get(operands, 0)),
				       evaluate(json_array_get(operands, 1)));
	}
	return (struct bits){ 0 };
}

/* Can a packet begin to match the mark by this? */
static bool can_become(const struct bits *bits, const struct mark *mark)
{
	return mark->mask & ~bits->kept &&
	       !(mark->mask & bits->known & (mark->value ^ bits->value));
}

static bool excludes(const struct intercept *spec, const json_t *mangle)
{
	struct bits bits = evaluate(json_object_get(mangle, "value"));

	for (unsigned i = 0; is_mark(json_object_get(mangle, "key"), "meta") && i < spec->not_marks;
	     i++)
		if (can_become(&bits, &spec->not_mark[i]))
			return true;
	return false;
}

/* --- the rules ------------------------------------------------------------------------------- */

struct search {
	const struct firewall *firewall;
	const struct intercept *spec;
	const struct firewall_chain *chain; /* of what was found */
	const json_t *rule;
};

static bool search_chain(struct search *s, const struct firewall_chain *chain, unsigned jumps);

static bool search_target(struct search *s, const struct firewall_chain *chain, const json_t *jump,
			  unsigned jumps)
{
	const char *name = json_string_value(json_object_get(jump, "target"));
	const struct firewall_chain *target = name && jumps < JUMPS_MAX
						      ? firewall_target(s->firewall, chain, name)
						      : NULL;

	return target && search_chain(s, target, jumps + 1);
}

/* Jumps stand in verdict maps, too, so every part of a rule is looked at: this one, not yet those
 * in it. */
static bool search_part(struct search *s, const struct firewall_chain *chain, const json_t *rule,
			const json_t *part, unsigned jumps)
{
	const json_t *mangle = json_object_get(part, "mangle");

	if (mangle && excludes(s->spec, mangle)) {
		s->chain = chain;
		s->rule = rule;
		return true;
	}
	return search_target(s, chain, json_object_get(part, "jump"), jumps) ||
	       search_target(s, chain, json_object_get(part, "goto"), jumps);
}

static bool search_rule(struct search *s, const struct firewall_chain *chain, const json_t *rule,
			const json_t *part, unsigned jumps)
{
	const char *key;
	json_t *inner;
	size_t i;

	if (search_part(s, chain, rule, part, jumps))
		return true;
	json_object_foreach((json_t *)part, key, inner)
		if (search_rule(s, chain, rule, inner, jumps))
			return true;
	json_array_foreach((json_t *)part, i, inner)
		if (search_rule(s, chain, rule, inner, jumps))
			return true;
	return false;
}

static bool search_chain(struct search *s, const struct firewall_chain *chain, unsigned jumps)
{
	for (size_t i = 0; i < chain->rules; i++) {
		const json_t *rule = firewall_rule(s->firewall, chain, i);

		if (search_rule(s, chain, rule, rule, jumps))
			return true;
	}
	return false;
}

static bool search_family(struct search *s, sa_family_t family)
{
	const struct firewall_chain *chain;

	for (unsigned i = 0; (chain = firewall_at_hook(s->firewall, "prerouting", family, i)); i++)
		if (chain->runs_at > ZONE_PRIORITY && chain->runs_at <= TAKE_PRIORITY &&
		    search_chain(s, chain, 0))
			return true;
	return false;
}

static bool is_concerned(const struct intercept *spec)
{
	return spec->not_marks && spec->zone != CONNTRACK_OFF;
}

bool late_mark_find(const struct firewall *firewall, const struct intercept *spec,
		    char text[LATE_MARK_TEXT_MAX])
{
	struct search s = { .firewall = firewall, .spec = spec };

	if (!is_concerned(spec) || !((spec->ipv4 && search_family(&s, AF_INET)) ||
				     (spec->ipv6 && search_family(&s, AF_INET6))))
		return false;
	firewall_describe(firewall, s.chain, s.rule, text, LATE_MARK_TEXT_MAX);
	return true;
}

bool late_mark_look(struct nft *rules, const struct intercept *spec,
		    char notice[LATE_MARK_NOTICE_MAX])
{
	struct firewall *firewall = rules && is_concerned(spec) ? firewall_read_some(rules, NULL)
								: NULL;
	char rule[LATE_MARK_TEXT_MAX];
	bool found = firewall && late_mark_find(firewall, spec, rule);

	if (found)
		snprintf(
			notice, LATE_MARK_NOTICE_MAX,
			"%s marks packets after their zone is chosen: connections that --not-mark "
			"excludes by that mark hang; set it at priority raw (iptables: -t raw), or "
			"use --conntrack auto",
			rule);
	firewall_free(firewall);
	return found;
}
