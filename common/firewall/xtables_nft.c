/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/xtables_nft.h"

#include "firewall/xtables.h"
#include "net/netlink.h"
#include "net/nft_message.h"
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct compat {
	json_t *objects;
	size_t at; /* where the next rule probably is: the kernel tells them in the same order */
};

static bool is_rule(json_t *rule, const char *table, const char *chain, uint64_t handle,
		    const char *family)
{
	json_t *at = json_object_get(rule, "handle");

	return rule && (uint64_t)json_integer_value(at) == handle &&
	       !strcmp(json_string_value(json_object_get(rule, "table")), table) &&
	       !strcmp(json_string_value(json_object_get(rule, "chain")), chain) &&
	       !strcmp(json_string_value(json_object_get(rule, "family")), family);
}

static json_t *find_rule(struct compat *compat, const char *table, const char *chain,
			 uint64_t handle, const char *family)
{
	size_t count = json_array_size(compat->objects);

	for (size_t i = 0; i < count; i++) {
		size_t at = (compat->at + i) % count;
		json_t *rule = json_object_get(json_array_get(compat->objects, at), "rule");

		if (!is_rule(rule, table, chain, handle, family))
			continue;
		compat->at = at + 1;
		return rule;
	}
	return NULL;
}

/* Replace the first {"xt"} at or after *at with the statements. */
static void replace(json_t *expressions, size_t *at, json_t *statements)
{
	json_t *statement;
	size_t i;

	while (*at < json_array_size(expressions) &&
	       !json_object_get(json_array_get(expressions, *at), "xt"))
		++*at;
	if (*at == json_array_size(expressions))
		return;
	json_array_remove(expressions, *at);
	json_array_foreach(statements, i, statement)
		json_array_insert(expressions, (*at)++, statement);
}

/* An expression called `match` or `target`: NFTA_MATCH_* and NFTA_TARGET_* have the same
 * numbers. */
bool xtables_nft_append(struct nlattr *expression, json_t *out)
{
	struct nla_policy expr[NFTA_EXPR_MAX + 1] = { [NFTA_EXPR_NAME] = { .type = NLA_STRING } };
	struct nla_policy target[NFTA_TARGET_MAX + 1] = { [NFTA_TARGET_NAME] = {
								  .type = NLA_STRING } };
	struct nlattr *e[NFTA_EXPR_MAX + 1], *t[NFTA_TARGET_MAX + 1];
	const char *type;

	if (nla_parse_nested(e, NFTA_EXPR_MAX, expression, expr) || !e[NFTA_EXPR_NAME] ||
	    !e[NFTA_EXPR_DATA])
		return false;
	type = nla_get_string(e[NFTA_EXPR_NAME]);
	if ((strcmp(type, "match") && strcmp(type, "target")) ||
	    nla_parse_nested(t, NFTA_TARGET_MAX, e[NFTA_EXPR_DATA], target) ||
	    !t[NFTA_TARGET_NAME] || !t[NFTA_TARGET_INFO])
		return false;
	xtables_decode(type, nla_get_string(t[NFTA_TARGET_NAME]), nla_data(t[NFTA_TARGET_INFO]),
		       (size_t)nla_len(t[NFTA_TARGET_INFO]), out);
	return true;
}

static void decode_expression(struct nlattr *expression, json_t *expressions, size_t *at)
{
	json_t *statements = json_array();

	if (xtables_nft_append(expression, statements))
		replace(expressions, at, statements);
	json_decref(statements);
}

static void read_compat_rule(struct nlmsghdr *message, void *context)
{
	const struct nfgenmsg *header = nlmsg_data(message);
	struct nlattr *a[NFTA_RULE_MAX + 1], *expression;
	struct compat *compat = context;
	json_t *rule;
	size_t at = 0;
	int rest;

	if (nlmsg_parse(message, sizeof(*header), a, NFTA_RULE_MAX, NULL) || !a[NFTA_RULE_TABLE] ||
	    !a[NFTA_RULE_CHAIN] || !a[NFTA_RULE_HANDLE] || !a[NFTA_RULE_EXPRESSIONS])
		return;
	rule = find_rule(compat, nla_get_string(a[NFTA_RULE_TABLE]),
			 nla_get_string(a[NFTA_RULE_CHAIN]),
			 be64toh(nla_get_u64(a[NFTA_RULE_HANDLE])),
			 header->nfgen_family == NFPROTO_IPV4 ? "ip" : "ip6");
	if (!rule)
		return;
	nla_for_each_nested(expression, a[NFTA_RULE_EXPRESSIONS], rest)
		decode_expression(expression, json_object_get(rule, "expr"), &at);
}

static const char *text_of(const json_t *rule, const char *key)
{
	return json_string_value(json_object_get(rule, key));
}

/* In the rules of that family, or, of the chain that this rule is in. */
static void decode_compat(json_t *objects, unsigned char family, const json_t *rule)
{
	struct netlink *channel = netlink_open(NETLINK_NETFILTER, NULL);
	struct compat compat = { objects, 0 };

	if (channel)
		netlink_ask(channel,
			    rule ? nft_message_rules(family, text_of(rule, "table"),
						     text_of(rule, "chain"))
				 : nft_message_rules(family, NULL, NULL),
			    read_compat_rule, &compat);
	netlink_close(channel);
}

static bool has_extensions(const json_t *objects)
{
	json_t *object, *statement;
	size_t i, j;

	json_array_foreach((json_t *)objects, i, object)
		json_array_foreach(json_object_get(json_object_get(object, "rule"), "expr"), j,
				   statement)
			if (json_object_get(statement, "xt"))
				return true;
	return false;
}

static bool is_same_chain(const json_t *a, const json_t *b)
{
	static const char *const keys[] = { "family", "table", "chain" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (strcmp(text_of(a, keys[i]), text_of(b, keys[i])) != 0)
			return false;
	return true;
}

/* One of the rules, if all are in the same chain; else NULL. */
static const json_t *rule_of_one_chain(const json_t *objects)
{
	const json_t *first = NULL;
	json_t *object;
	size_t i;

	json_array_foreach((json_t *)objects, i, object) {
		const json_t *rule = json_object_get(object, "rule");

		if (rule && first && !is_same_chain(rule, first))
			return NULL;
		if (rule && !first)
			first = rule;
	}
	return first;
}

void xtables_nft_decode(json_t *objects)
{
	const json_t *rule = rule_of_one_chain(objects);

	if (!has_extensions(objects))
		return;
	if (!rule || !strcmp(text_of(rule, "family"), "ip"))
		decode_compat(objects, NFPROTO_IPV4, rule);
	if (!rule || !strcmp(text_of(rule, "family"), "ip6"))
		decode_compat(objects, NFPROTO_IPV6, rule);
}
