/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/selection.h"

#include "base/json_text.h"
#include <stdio.h>
#include <string.h>

/* nft cannot build sets of sets, but a set may contain a list. */
#define DEPTH_MAX 4

enum kind { KIND_OTHER, KIND_NEUTRAL, KIND_SOURCE, KIND_DESTINATION, KIND_PORT };

struct reading {
	const struct firewall *firewall;
	const struct firewall_chain *chain;
	struct selection *out;
	enum kind kind;
};

/* ---- values ---- */

static bool add_cidr(struct cidr at[], unsigned *count, const char *text)
{
	if (*count == SELECTION_MAX || endpoint_parse_cidr(text, &at[*count], NULL) < 0)
		return false;
	++*count;
	return true;
}

static bool add_address(struct reading *r, const char *text)
{
	return r->kind == KIND_SOURCE ? add_cidr(r->out->source, &r->out->sources, text)
				      : add_cidr(r->out->destination, &r->out->destinations, text);
}

static bool add_ports(struct reading *r, const json_t *first, const json_t *last)
{
	struct selection *out = r->out;

	if (r->kind != KIND_PORT || out->ports == SELECTION_MAX || !json_is_integer(first) ||
	    !json_is_integer(last))
		return false;
	out->port[out->ports++] = (struct port_range){ (uint16_t)json_integer_value(first),
						       (uint16_t)json_integer_value(last) };
	return true;
}

static bool add_prefix(struct reading *r, const json_t *prefix)
{
	char text[ENDPOINT_TEXT_MAX];

	snprintf(text, sizeof(text), "%s/%lld", json_text(prefix, "addr"),
		 (long long)json_integer_value(json_object_get(prefix, "len")));
	return add_address(r, text);
}

static bool add(struct reading *r, const json_t *value, unsigned depth);

static bool add_all(struct reading *r, const json_t *list, unsigned depth)
{
	bool whole = json_is_array(list) && depth < DEPTH_MAX;
	json_t *item;
	size_t i;

	if (!whole)
		return false;
	json_array_foreach((json_t *)list, i, item)
		whole &= add(r, item, depth + 1);
	return whole;
}

/* Returns false if the value, or a part of it, is unknown or too much. */
static bool add(struct reading *r, const json_t *value, unsigned depth)
{
	const json_t *inner = json_object_get(json_object_get(value, "elem"), "val");
	const char *text = json_string_value(value);

	if (inner)
		value = inner;
	if (text && *text == '@')
		return add_all(r, firewall_elements(r->firewall, r->chain, text + 1), depth);
	if (text)
		return r->kind != KIND_PORT && add_address(r, text);
	if (json_is_integer(value))
		return add_ports(r, value, value);
	if ((inner = json_object_get(value, "prefix")))
		return r->kind != KIND_PORT && add_prefix(r, inner);
	if ((inner = json_object_get(value, "range")))
		return add_ports(r, json_array_get(inner, 0), json_array_get(inner, 1));
	inner = json_object_get(value, "set");
	return add_all(r, inner ? inner : value, depth);
}

/* ---- statements ---- */

static bool is_one_of(const char *word, const char *const words[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(word, words[i]))
			return true;
	return false;
}

#define IS_ONE_OF(word, words) is_one_of(word, words, sizeof(words) / sizeof(*(words)))

/* What a match looks at. Protocols, flags and states of connections are those of the example
 * anyway. */
static enum kind kind_of(const json_t *left)
{
	static const char *const metas[] = { "l4proto", "nfproto", "protocol" };
	const json_t *payload = json_object_get(left, "payload");
	const char *protocol = json_text(payload, "protocol"), *field = json_text(payload, "field");

	if (!strcmp(field, "daddr") && strcmp(protocol, "ether"))
		return KIND_DESTINATION;
	if (!strcmp(field, "saddr") && strcmp(protocol, "ether"))
		return KIND_SOURCE;
	if (!strcmp(field, "dport"))
		return KIND_PORT;
	if (!strcmp(field, "protocol") || !strcmp(field, "nexthdr"))
		return KIND_NEUTRAL;
	if (IS_ONE_OF(json_text(json_object_get(left, "meta"), "key"), metas))
		return KIND_NEUTRAL;
	return !strcmp(json_text(json_object_get(left, "ct"), "key"), "state") ? KIND_NEUTRAL
									       : KIND_OTHER;
}

static void read_match(struct reading *r, const json_t *match)
{
	r->kind = kind_of(json_object_get(match, "left"));
	if (r->kind == KIND_OTHER || !strcmp(json_text(match, "op"), "!="))
		r->out->exact = false;
	else if (r->kind != KIND_NEUTRAL && !add(r, json_object_get(match, "right"), 0))
		r->out->exact = false;
	if (r->kind == KIND_SOURCE)
		r->out->exact = false;
}

/* The keys of a verdict map: each one may be a different packet. */
static void read_map(struct reading *r, const json_t *map)
{
	const json_t *data = json_object_get(map, "data"), *elements = json_object_get(data, "set");
	json_t *element;
	size_t i;

	r->kind = kind_of(json_object_get(map, "key"));
	r->out->exact = false;
	if (json_is_string(data) && *json_string_value(data) == '@')
		elements = firewall_elements(r->firewall, r->chain, json_string_value(data) + 1);
	json_array_foreach((json_t *)elements, i, element)
		if (r->kind > KIND_NEUTRAL)
			add(r, json_array_get(element, 0), 0);
}

/* Does the rule apply to the same packets with the statement as without it? */
static bool is_harmless(const json_t *statement)
{
	static const char *const words[] = { "counter", "log",	"drop", "reject",
					     "accept",	"jump", "goto", "return" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (json_object_get(statement, words[i]))
			return true;
	return !strcmp(json_text(json_object_get(statement, "xt"), "name"), "comment") ||
	       !strcmp(json_text(json_object_get(statement, "xt"), "type"), "target");
}

void selection_read(const struct firewall *firewall, const struct firewall_chain *chain,
		    const json_t *rule, struct selection *out)
{
	struct reading r = { .firewall = firewall, .chain = chain, .out = out };
	const json_t *found;
	json_t *statement;
	size_t i;

	*out = (struct selection){ .exact = true };
	json_array_foreach(json_object_get(rule, "expr"), i, statement) {
		if ((found = json_object_get(statement, "match")))
			read_match(&r, found);
		else if ((found = json_object_get(statement, "vmap")))
			read_map(&r, found);
		else if (!is_harmless(statement))
			out->exact = false;
	}
}
