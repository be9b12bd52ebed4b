/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/ct_use.h"

#include "firewall/xtables_legacy.h"
#include "intercept/nft_text.h"
#include "net/netlink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How often to begin again when the rules change while they are read. */
#define ATTEMPTS 50

/* nf_tables' own expressions, by their names in the kernel. */
static const char *const tracking[] = { "ct",		"nat",	    "masq",	 "redir",
					"flow_offload", "synproxy", "connlimit", NULL };

/* Extensions of iptables, `libxt_NAME`. (`CT --notrack` is a target CT that tracks nothing; as rare as it is
 * alone, it is taken for a use.) */
static const char *const translating_extensions[] = { "MASQUERADE", "SNAT", "NETMAP", NULL };
static const char *const tracking_extensions[] = {
	"conntrack", "state",	 "connmark",	"connlimit", "connbytes", "connlabel", "helper",
	"CT",	     "CONNMARK", "CONNSECMARK", "SYNPROXY",  "DNAT",	  "REDIRECT",  NULL,
};

/* Objects that a rule refers to. */
static const unsigned tracking_objects[] = { NFT_OBJECT_CT_HELPER, NFT_OBJECT_CONNLIMIT,
					     NFT_OBJECT_CT_TIMEOUT, NFT_OBJECT_CT_EXPECT,
					     NFT_OBJECT_SYNPROXY };

struct search {
	enum ct_use use;
	char *evidence;
};

/* What one rule comes to. */
struct verdict {
	enum ct_use use;
	bool has_source; /* it asks for a source address */
};

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words))
		words++;
	return *words;
}

/* Source translation that is limited to some sources (as a container bridge's is) need not concern
 * the upstream leg. */
static enum ct_use judge(const struct verdict *v)
{
	return v->use == CT_USE_SNAT && v->has_source ? CT_USE_TRACK : v->use;
}

static void note_extension(struct verdict *v, const char *name)
{
	if (is_one_of(name, translating_extensions))
		v->use = CT_USE_SNAT;
	else if (is_one_of(name, tracking_extensions) && v->use == CT_USE_NONE)
		v->use = CT_USE_TRACK;
}

/* --- nf_tables -------------------------------------------------------------------------------- */

static uint32_t number_of(struct nlattr *attribute)
{
	return attribute ? ntohl(nla_get_u32(attribute)) : UINT32_MAX;
}

static void note_payload(struct verdict *v, struct nlattr *const *data)
{
	uint32_t offset = number_of(data[NFTA_PAYLOAD_OFFSET]);

	/* Where struct iphdr and struct ipv6hdr have the source; at 8 IPv4 has a byte, the TTL. */
	v->has_source |= number_of(data[NFTA_PAYLOAD_BASE]) == NFT_PAYLOAD_NETWORK_HEADER &&
			 (offset == 12 || (offset == 8 && number_of(data[NFTA_PAYLOAD_LEN]) > 1));
}

static void note_object(struct verdict *v, struct nlattr *const *data)
{
	uint32_t type = number_of(data[NFTA_OBJREF_IMM_TYPE]);

	for (size_t i = 0; i < sizeof(tracking_objects) / sizeof(*tracking_objects); i++)
		if (type == tracking_objects[i] && v->use == CT_USE_NONE)
			v->use = CT_USE_TRACK;
}

static void note_expression(struct verdict *v, struct nlattr *expression);

static void note_expressions(struct verdict *v, struct nlattr *list)
{
	struct nlattr *expression;
	int left;

	if (list)
		nla_for_each_nested(expression, list, left) note_expression(v, expression);
}

/* `data` is of the kind `name`; which attribute is what depends on that. */
static void note_data(struct verdict *v, const char *name, struct nlattr *const *data)
{
	if (!strcmp(name, "payload"))
		note_payload(v, data);
	else if (!strcmp(name, "objref"))
		note_object(v, data);
	else if (!strcmp(name, "dynset"))
		note_expressions(v, data[NFTA_DYNSET_EXPRESSIONS]);
	if (!strcmp(name, "dynset") && data[NFTA_DYNSET_EXPR])
		note_expression(v, data[NFTA_DYNSET_EXPR]);
	if ((!strcmp(name, "match") || !strcmp(name, "target")) && data[NFTA_MATCH_NAME])
		note_extension(v, nla_get_string(data[NFTA_MATCH_NAME]));
	if (!strcmp(name, "masq") ||
	    (!strcmp(name, "nat") && number_of(data[NFTA_NAT_TYPE]) == NFT_NAT_SNAT))
		v->use = CT_USE_SNAT;
}

/* More attributes than any of these expressions has. */
#define DATA_MAX 16

static void note_expression(struct verdict *v, struct nlattr *expression)
{
	struct nlattr *at[NFTA_EXPR_MAX + 1], *data[DATA_MAX + 1] = { NULL };
	const char *name;

	if (nla_parse_nested(at, NFTA_EXPR_MAX, expression, NULL) || !at[NFTA_EXPR_NAME])
		return;
	name = nla_get_string(at[NFTA_EXPR_NAME]);
	if (is_one_of(name, tracking) && v->use == CT_USE_NONE)
		v->use = CT_USE_TRACK;
	if (at[NFTA_EXPR_DATA] && !nla_parse_nested(data, DATA_MAX, at[NFTA_EXPR_DATA], NULL))
		note_data(v, name, data);
}

static const char *family_name(int family)
{
	return family == NFPROTO_IPV4	  ? "ip"
	       : family == NFPROTO_IPV6	  ? "ip6"
	       : family == NFPROTO_INET	  ? "inet"
	       : family == NFPROTO_ARP	  ? "arp"
	       : family == NFPROTO_BRIDGE ? "bridge"
					  : "netdev";
}

static void read_rule(struct nlmsghdr *message, void *context)
{
	struct search *s = context;
	const struct nfgenmsg *header = nlmsg_data(message);
	struct nlattr *at[NFTA_RULE_MAX + 1];
	struct verdict v = { 0 };
	const char *table;

	if (nlmsg_parse(message, sizeof(*header), at, NFTA_RULE_MAX, NULL) ||
	    !at[NFTA_RULE_TABLE] || !at[NFTA_RULE_CHAIN])
		return;
	table = nla_get_string(at[NFTA_RULE_TABLE]);
	if (header->nfgen_family == NFPROTO_INET &&
	    !strncmp(table, NFT_TEXT_PREFIX, strlen(NFT_TEXT_PREFIX)))
		return;
	note_expressions(&v, at[NFTA_RULE_EXPRESSIONS]);
	if (judge(&v) <= s->use)
		return;
	s->use = judge(&v);
	if (s->evidence)
		snprintf(s->evidence, CT_USE_EVIDENCE_MAX, "%s %.60s chain %.50s",
			 family_name(header->nfgen_family), table,
			 nla_get_string(at[NFTA_RULE_CHAIN]));
}

static int read_rules(struct netlink *channel, struct search *s)
{
	const struct nfgenmsg header = { .nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0 };
	struct nl_msg *message = nlmsg_alloc_simple(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE,
						    NLM_F_DUMP);

	if (message && nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO)) {
		nlmsg_free(message);
		message = NULL;
	}
	return netlink_ask(channel, message, read_rule, s);
}

/* --- iptables-legacy -------------------------------------------------------------------------- */

static int visit_legacy(const struct xtables_legacy_use *use, void *context)
{
	struct search *s = context;
	struct verdict v = { .has_source = use->has_source };

	note_extension(&v, use->extension);
	if (judge(&v) <= s->use)
		return 0;
	s->use = judge(&v);
	if (s->evidence)
		snprintf(s->evidence, CT_USE_EVIDENCE_MAX,
			 "iptables-legacy %s table %.31s chain %.31s rule %u", use->family,
			 use->table, use->chain, use->rule);
	return 0;
}

int ct_use_find(enum ct_use *use, char evidence[CT_USE_EVIDENCE_MAX], struct failure *why)
{
	struct netlink *channel = netlink_open(NETLINK_NETFILTER, why);
	struct search s;
	int err = -EAGAIN;

	if (!channel)
		return -1;
	for (int i = 0; i < ATTEMPTS && err == -EAGAIN; i++) {
		s = (struct search){ .evidence = evidence };
		if (evidence)
			evidence[0] = '\0';
		err = read_rules(channel, &s);
	}
	netlink_close(channel);
	if (err)
		return report_fail(why, -err, "NFT_MSG_GETRULE", "rules of this network namespace");
	xtables_legacy_each_use(visit_legacy, &s);
	*use = s.use;
	return 0;
}
