/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/rule_use.h"

#include "net/nft_message.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <stddef.h>
#include <string.h>

/* nf_tables' own expressions, by their kernel names. */
static const char *const tracking[] = { "ct",		"nat",	    "masq",	 "redir",
					"flow_offload", "synproxy", "connlimit", NULL };

/* iptables extensions, `libxt_NAME`. (`CT --notrack` is a CT target that tracks nothing; it is rare
 * on its own, and counts as a use.) */
static const char *const translating_extensions[] = { "MASQUERADE", "SNAT", "NETMAP", NULL };
static const char *const tracking_extensions[] = {
	"conntrack", "state",	 "connmark",	"connlimit", "connbytes", "connlabel", "helper",
	"CT",	     "CONNMARK", "CONNSECMARK", "SYNPROXY",  "DNAT",	  "REDIRECT",  NULL,
};

/* Objects that a rule refers to. */
static const unsigned tracking_objects[] = { NFT_OBJECT_CT_HELPER, NFT_OBJECT_CONNLIMIT,
					     NFT_OBJECT_CT_TIMEOUT, NFT_OBJECT_CT_EXPECT,
					     NFT_OBJECT_SYNPROXY };

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words))
		words++;
	return *words;
}

void rule_use_note_extension(struct rule_use *use, const char *name)
{
	if (is_one_of(name, translating_extensions))
		use->translates = true;
	else if (is_one_of(name, tracking_extensions))
		use->tracks = true;
}

static uint32_t number_of(struct nlattr *attribute)
{
	return attribute ? ntohl(nla_get_u32(attribute)) : UINT32_MAX;
}

static void note_payload(struct rule_use *use, struct nlattr *const *data)
{
	uint32_t offset = number_of(data[NFTA_PAYLOAD_OFFSET]);

	/* The offsets of the source in struct iphdr and struct ipv6hdr; at 8 IPv4 has a byte, the
	 * TTL. */
	use->has_source |= number_of(data[NFTA_PAYLOAD_BASE]) == NFT_PAYLOAD_NETWORK_HEADER &&
			   (offset == 12 || (offset == 8 && number_of(data[NFTA_PAYLOAD_LEN]) > 1));
}

static void note_object(struct rule_use *use, struct nlattr *const *data)
{
	uint32_t type = number_of(data[NFTA_OBJREF_IMM_TYPE]);

	for (size_t i = 0; i < sizeof(tracking_objects) / sizeof(*tracking_objects); i++)
		use->tracks |= type == tracking_objects[i];
}

/* A number in host order: a zone, if a zone is set to it afterwards. */
static void note_value(struct rule_use *use, struct nlattr *const *data)
{
	struct nlattr *value[NFTA_DATA_MAX + 1];

	if (!data[NFTA_IMMEDIATE_DATA] ||
	    nla_parse_nested(value, NFTA_DATA_MAX, data[NFTA_IMMEDIATE_DATA], NULL) ||
	    !value[NFTA_DATA_VALUE] || nla_len(value[NFTA_DATA_VALUE]) < (int)sizeof(uint16_t))
		return;
	memcpy(&use->value, nla_data(value[NFTA_DATA_VALUE]), sizeof(use->value));
}

static void note_ct(struct rule_use *use, struct nlattr *const *data)
{
	if (data[NFTA_CT_SREG] && number_of(data[NFTA_CT_KEY]) == NFT_CT_ZONE)
		use->zone = use->value;
}

static void note_expression(struct rule_use *use, struct nlattr *expression);

static void note_expressions(struct rule_use *use, struct nlattr *list)
{
	struct nlattr *expression;
	int left;

	if (list)
		nla_for_each_nested(expression, list, left) note_expression(use, expression);
}

/* `data` is of the kind `name`; the meaning of the attributes depends on that. */
static void note_data(struct rule_use *use, const char *name, struct nlattr *const *data)
{
	if (!strcmp(name, "payload"))
		note_payload(use, data);
	else if (!strcmp(name, "objref"))
		note_object(use, data);
	else if (!strcmp(name, "immediate"))
		note_value(use, data);
	else if (!strcmp(name, "ct"))
		note_ct(use, data);
	else if (!strcmp(name, "dynset"))
		note_expressions(use, data[NFTA_DYNSET_EXPRESSIONS]);
	if (!strcmp(name, "dynset") && data[NFTA_DYNSET_EXPR])
		note_expression(use, data[NFTA_DYNSET_EXPR]);
	if ((!strcmp(name, "match") || !strcmp(name, "target")) && data[NFTA_MATCH_NAME])
		rule_use_note_extension(use, nla_get_string(data[NFTA_MATCH_NAME]));
	if (!strcmp(name, "masq") ||
	    (!strcmp(name, "nat") && number_of(data[NFTA_NAT_TYPE]) == NFT_NAT_SNAT))
		use->translates = true;
}

/* More attributes than any of these expressions has. */
#define DATA_MAX 16

static void note_expression(struct rule_use *use, struct nlattr *expression)
{
	struct nlattr *at[NFTA_EXPR_MAX + 1], *data[DATA_MAX + 1] = { NULL };
	const char *name;

	if (nla_parse_nested(at, NFTA_EXPR_MAX, expression, NULL) || !at[NFTA_EXPR_NAME])
		return;
	name = nla_get_string(at[NFTA_EXPR_NAME]);
	use->tracks |= is_one_of(name, tracking);
	if (at[NFTA_EXPR_DATA] && !nla_parse_nested(data, DATA_MAX, at[NFTA_EXPR_DATA], NULL))
		note_data(use, name, data);
}

struct visit {
	rule_use_visitor *visit;
	void *context;
};

static void read_rule(struct nlmsghdr *message, void *context)
{
	const struct visit *v = context;
	const struct nfgenmsg *header = nlmsg_data(message);
	struct nlattr *at[NFTA_RULE_MAX + 1];
	struct rule_use use = { .family = header->nfgen_family };

	if (nlmsg_parse(message, sizeof(*header), at, NFTA_RULE_MAX, NULL) ||
	    !at[NFTA_RULE_TABLE] || !at[NFTA_RULE_CHAIN])
		return;
	use.table = nla_get_string(at[NFTA_RULE_TABLE]);
	use.chain = nla_get_string(at[NFTA_RULE_CHAIN]);
	note_expressions(&use, at[NFTA_RULE_EXPRESSIONS]);
	v->visit(&use, v->context);
}

int rule_use_each(struct netlink *channel, rule_use_visitor *visit, void *context)
{
	struct visit v = { visit, context };

	return netlink_ask(channel, nft_message_rules(NFPROTO_UNSPEC, NULL, NULL), read_rule, &v);
}

static void read_generation(struct nlmsghdr *message, void *context)
{
	struct nlattr *at[NFTA_GEN_MAX + 1];
	struct nla_policy policy[NFTA_GEN_MAX + 1] = { [NFTA_GEN_ID] = { .type = NLA_U32 } };

	if (nlmsg_valid_hdr(message, sizeof(struct nfgenmsg)) &&
	    !nlmsg_parse(message, sizeof(struct nfgenmsg), at, NFTA_GEN_MAX, policy) &&
	    at[NFTA_GEN_ID])
		*(uint32_t *)context = number_of(at[NFTA_GEN_ID]);
}

int rule_use_generation(struct netlink *channel, uint32_t *generation)
{
	return netlink_ask(channel, nft_message(NFT_MSG_GETGEN, 0, NFPROTO_UNSPEC), read_generation,
			   generation);
}
