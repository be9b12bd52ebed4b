/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/xtables.h"

#include "net/netlink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/xt_TPROXY.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_rpfilter.h>
#include <linux/netfilter/xt_socket.h>
#include <linux/netfilter/xt_state.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <netlink/attr.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- statements ------------------------------------------------------------------------------- */

/* {"match": ...}; takes over left and right. */
static json_t *make_match(bool inverted, json_t *left, json_t *right)
{
	return json_pack("{s:{s:s,s:o,s:o}}", "match", "op", inverted ? "!=" : "==", "left", left,
			 "right", right);
}

static json_t *payload(const char *protocol, const char *field)
{
	return json_pack("{s:{s:s,s:s}}", "payload", "protocol", protocol, "field", field);
}

static json_t *meta(const char *key)
{
	return json_pack("{s:{s:s}}", "meta", "key", key);
}

static json_t *masked_mark(uint32_t mask)
{
	return json_pack("{s:[o,I]}", "&", meta("mark"), (json_int_t)mask);
}

/* --- matches ---------------------------------------------------------------------------------- */

/* Appends the statements that the extension comes to; false: not one of those that are known. */
typedef bool decoder(const void *info, size_t size, json_t *out);

static bool append(json_t *out, json_t *statement)
{
	return statement && !json_array_append_new(out, statement);
}

static bool append_ports(json_t *out, const char *field, unsigned first, unsigned last,
			 bool inverted)
{
	if (first == 0 && last == 0xffff)
		return true;
	return append(out, make_match(inverted, payload("tcp", field),
				      json_pack("{s:[i,i]}", "range", first, last)));
}

static bool decode_tcp(const void *info, size_t size, json_t *out)
{
	const struct xt_tcp *t = info;

	if (size < sizeof(*t) || t->option)
		return false;
	if (t->flg_mask && !append(out, make_match(t->invflags & XT_TCP_INV_FLAGS,
						   json_pack("{s:[o,i]}", "&",
							     payload("tcp", "flags"), t->flg_mask),
						   json_integer(t->flg_cmp))))
		return false;
	return append_ports(out, "sport", t->spts[0], t->spts[1], t->invflags & XT_TCP_INV_SRCPT) &&
	       append_ports(out, "dport", t->dpts[0], t->dpts[1], t->invflags & XT_TCP_INV_DSTPT);
}

static json_t *states(unsigned mask)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {
		{ XT_CONNTRACK_STATE_INVALID, "invalid" },
		{ XT_CONNTRACK_STATE_BIT(IP_CT_ESTABLISHED), "established" },
		{ XT_CONNTRACK_STATE_BIT(IP_CT_RELATED), "related" },
		{ XT_CONNTRACK_STATE_BIT(IP_CT_NEW), "new" },
		{ XT_CONNTRACK_STATE_UNTRACKED, "untracked" },
	};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (mask & names[i].bit)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *ct_state(void)
{
	return json_pack("{s:{s:s}}", "ct", "key", "state");
}

static bool decode_conntrack(const void *info, size_t size, json_t *out)
{
	const struct xt_conntrack_mtinfo3 *t = info;

	/* Revision 2 is its beginning. */
	if (size < sizeof(struct xt_conntrack_mtinfo2) || t->match_flags != XT_CONNTRACK_STATE)
		return false;
	return append(out, make_match(t->invert_flags & XT_CONNTRACK_STATE, ct_state(),
				      states(t->state_mask)));
}

static bool decode_state(const void *info, size_t size, json_t *out)
{
	const struct xt_state_info *t = info;

	return size >= sizeof(*t) &&
	       append(out, make_match(false, ct_state(), states(t->statemask)));
}

static bool decode_mark(const void *info, size_t size, json_t *out)
{
	const struct xt_mark_mtinfo1 *t = info;

	return size >= sizeof(*t) &&
	       append(out, make_match(t->invert, masked_mark(t->mask), json_integer(t->mark)));
}

static bool decode_multiport(const void *info, size_t size, json_t *out)
{
	const struct xt_multiport_v1 *t = info;
	json_t *set;

	if (size < sizeof(*t) || t->flags == XT_MULTIPORT_EITHER || t->count > XT_MULTI_PORTS)
		return false;
	set = json_array();
	for (unsigned i = 0; i < t->count; i++) {
		unsigned first = t->ports[i];

		if (t->pflags[i])
			i++;
		json_array_append_new(set, json_pack("{s:[i,i]}", "range", first, t->ports[i]));
	}
	return append(out,
		      make_match(t->invert,
				 payload("th", t->flags == XT_MULTIPORT_SOURCE ? "sport" : "dport"),
				 json_pack("{s:o}", "set", set)));
}

static json_t *fib(const char *result, const char *flag, bool with_mark)
{
	json_t *flags = json_pack("[s]", flag);

	if (with_mark)
		json_array_append_new(flags, json_string("mark"));
	return json_pack("{s:{s:s,s:o}}", "fib", "result", result, "flags", flags);
}

static bool append_addrtype(json_t *out, const char *flag, unsigned mask, bool inverted)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {
		{ XT_ADDRTYPE_UNICAST, "unicast" },	{ XT_ADDRTYPE_LOCAL, "local" },
		{ XT_ADDRTYPE_BROADCAST, "broadcast" }, { XT_ADDRTYPE_ANYCAST, "anycast" },
		{ XT_ADDRTYPE_MULTICAST, "multicast" },
	};
	json_t *list;

	if (!mask)
		return true;
	list = json_array();
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (mask & names[i].bit)
			json_array_append_new(list, json_string(names[i].name));
	return append(out, make_match(inverted, fib("type", flag, false), list));
}

static bool decode_addrtype(const void *info, size_t size, json_t *out)
{
	const struct xt_addrtype_info_v1 *t = info;

	return size >= sizeof(*t) &&
	       append_addrtype(out, "saddr", t->source, t->flags & XT_ADDRTYPE_INVERT_SOURCE) &&
	       append_addrtype(out, "daddr", t->dest, t->flags & XT_ADDRTYPE_INVERT_DEST);
}

static bool decode_socket(const void *info, size_t size, json_t *out)
{
	const struct xt_socket_mtinfo1 *t = info;

	return size >= sizeof(*t) && t->flags & XT_SOCKET_TRANSPARENT &&
	       append(out, make_match(false, json_pack("{s:{s:s}}", "socket", "key", "transparent"),
				      json_integer(1)));
}

/* Without --invert it matches when there is a way back. */
static bool decode_rpfilter(const void *info, size_t size, json_t *out)
{
	const struct xt_rpfilter_info *t = info;

	return size >= sizeof(*t) &&
	       append(out, make_match(false, fib("oif", "saddr", t->flags & XT_RPFILTER_VALID_MARK),
				      json_boolean(!(t->flags & XT_RPFILTER_INVERT))));
}

static bool decode_comment(const void *info, size_t size, json_t *out)
{
	(void)info;
	(void)size;
	(void)out;
	return true;
}

/* --- targets ---------------------------------------------------------------------------------- */

static bool decode_MARK(const void *info, size_t size, json_t *out)
{
	const struct xt_mark_tginfo2 *t = info;

	return size >= sizeof(*t) &&
	       append(out, json_pack("{s:{s:o,s:{s:[o,I]}}}", "mangle", "key", meta("mark"),
				     "value", "^", masked_mark(~t->mask), (json_int_t)t->mark));
}

static bool decode_TPROXY(const void *info, size_t size, json_t *out)
{
	const struct xt_tproxy_target_info_v1 *t = info;

	return size >= sizeof(*t) &&
	       append(out, json_pack("{s:{s:i}}", "tproxy", "port", ntohs(t->lport)));
}

static bool decode_REJECT(const void *info, size_t size, json_t *out)
{
	(void)info;
	(void)size;
	return append(out, json_pack("{s:n}", "reject"));
}

/* Decode one; what is not known is named. */
static void decode(const char *type, const char *name, const void *info, size_t size, json_t *out)
{
	static const struct {
		const char *type, *name;
		decoder *decode;
	} known[] = {
		{ "match", "tcp", decode_tcp },
		{ "match", "conntrack", decode_conntrack },
		{ "match", "state", decode_state },
		{ "match", "mark", decode_mark },
		{ "match", "multiport", decode_multiport },
		{ "match", "addrtype", decode_addrtype },
		{ "match", "socket", decode_socket },
		{ "match", "rpfilter", decode_rpfilter },
		{ "match", "comment", decode_comment },
		{ "target", "MARK", decode_MARK },
		{ "target", "TPROXY", decode_TPROXY },
		{ "target", "REJECT", decode_REJECT },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(known[i].type, type) && !strcmp(known[i].name, name) &&
		    known[i].decode(info, size, out))
			return;
	append(out, json_pack("{s:{s:s,s:s}}", "xt", "type", type, "name", name));
}

/* --- iptables-nft ----------------------------------------------------------------------------- */

struct compat {
	json_t *objects;
};

static json_t *find_rule(json_t *objects, const char *table, const char *chain, uint64_t handle,
			 const char *family)
{
	json_t *object;
	size_t i;

	json_array_foreach(objects, i, object) {
		json_t *rule = json_object_get(object, "rule");
		json_t *at = json_object_get(rule, "handle");

		if (rule && (uint64_t)json_integer_value(at) == handle &&
		    !strcmp(json_string_value(json_object_get(rule, "table")), table) &&
		    !strcmp(json_string_value(json_object_get(rule, "chain")), chain) &&
		    !strcmp(json_string_value(json_object_get(rule, "family")), family))
			return rule;
	}
	return NULL;
}

/* Put the statements in place of the first {"xt"} at or after *at. */
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

/* An expression called `match` or `target`: NFTA_MATCH_* and NFTA_TARGET_* have the same numbers. */
static void decode_expression(struct nlattr *expression, json_t *expressions, size_t *at)
{
	struct nlattr *e[NFTA_EXPR_MAX + 1], *t[NFTA_TARGET_MAX + 1];
	const char *type;
	json_t *statements;

	if (nla_parse_nested(e, NFTA_EXPR_MAX, expression, NULL) || !e[NFTA_EXPR_NAME] ||
	    !e[NFTA_EXPR_DATA])
		return;
	type = nla_get_string(e[NFTA_EXPR_NAME]);
	if ((strcmp(type, "match") && strcmp(type, "target")) ||
	    nla_parse_nested(t, NFTA_TARGET_MAX, e[NFTA_EXPR_DATA], NULL) || !t[NFTA_TARGET_NAME] ||
	    !t[NFTA_TARGET_INFO])
		return;
	statements = json_array();
	decode(type, nla_get_string(t[NFTA_TARGET_NAME]), nla_data(t[NFTA_TARGET_INFO]),
	       (size_t)nla_len(t[NFTA_TARGET_INFO]), statements);
	replace(expressions, at, statements);
	json_decref(statements);
}

static uint64_t handle_of(const struct nlattr *attribute)
{
	uint32_t half[2];

	memcpy(half, nla_data(attribute), sizeof(half));
	return (uint64_t)ntohl(half[0]) << 32 | ntohl(half[1]);
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
	rule = find_rule(compat->objects, nla_get_string(a[NFTA_RULE_TABLE]),
			 nla_get_string(a[NFTA_RULE_CHAIN]), handle_of(a[NFTA_RULE_HANDLE]),
			 header->nfgen_family == NFPROTO_IPV4 ? "ip" : "ip6");
	if (!rule)
		return;
	nla_for_each_nested(expression, a[NFTA_RULE_EXPRESSIONS], rest)
		decode_expression(expression, json_object_get(rule, "expr"), &at);
}

static void decode_compat(json_t *objects, unsigned char family)
{
	struct netlink *channel = netlink_open(NETLINK_NETFILTER, NULL);
	struct nfgenmsg header = { .nfgen_family = family };
	struct nl_msg *message = nlmsg_alloc_simple((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETRULE,
						    NLM_F_DUMP);
	struct compat compat = { objects };

	if (!channel || !message || nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO))
		nlmsg_free(message);
	else
		netlink_ask(channel, message, read_compat_rule, &compat);
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

/* --- iptables-legacy -------------------------------------------------------------------------- */

/* The same structure twice in the kernel's interface, with other addresses. */
struct family {
	const char *name, *list;
	int domain, level, get_info, get_entries;
	size_t entry_size;
};
static const struct family families[] = {
	{ "ip", "/proc/net/ip_tables_names", AF_INET, SOL_IP, IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES,
	  sizeof(struct ipt_entry) },
	{ "ip6", "/proc/net/ip6_tables_names", AF_INET6, SOL_IPV6, IP6T_SO_GET_INFO,
	  IP6T_SO_GET_ENTRIES, sizeof(struct ip6t_entry) },
};

/* struct ipt_getinfo and struct ip6t_getinfo are the same, and so is the head of the entries. */
struct legacy {
	const struct family *family;
	const char *table;
	struct ipt_getinfo info;
	const char *entries;
	char chain[XT_EXTENSION_MAXNAMELEN];
	unsigned rule;
};

/* Target and next offset of an entry: at other places for IPv6. */
static unsigned short target_offset(const struct legacy *l, const char *entry)
{
	return l->family->domain == AF_INET ? ((const struct ipt_entry *)entry)->target_offset
					    : ((const struct ip6t_entry *)entry)->target_offset;
}

static unsigned short next_offset(const struct legacy *l, const char *entry)
{
	return l->family->domain == AF_INET ? ((const struct ipt_entry *)entry)->next_offset
					    : ((const struct ip6t_entry *)entry)->next_offset;
}

static void add_address(json_t *out, const struct family *f, const char *field, const void *address,
			const void *mask, bool inverted)
{
	size_t size = f->domain == AF_INET ? 4 : 16;
	char text[INET6_ADDRSTRLEN];
	int length = 0;

	for (size_t i = 0; i < size; i++)
		length += __builtin_popcount(((const unsigned char *)mask)[i]);
	if (!length)
		return;
	inet_ntop(f->domain, address, text, sizeof(text));
	append(out, make_match(inverted, payload(f->name, field),
			       json_pack("{s:{s:s,s:i}}", "prefix", "addr", text, "len", length)));
}

static void add_interface(json_t *out, const char *key, const char *name, bool inverted)
{
	char pattern[IFNAMSIZ + 1];
	size_t length = strnlen(name, IFNAMSIZ);

	if (!length)
		return;
	snprintf(pattern, sizeof(pattern), "%.*s", IFNAMSIZ, name);
	if (pattern[length - 1] == '+')
		pattern[length - 1] = '*';
	append(out, make_match(inverted, meta(key), json_string(pattern)));
}

static void add_protocol(json_t *out, unsigned protocol, bool inverted)
{
	if (protocol)
		append(out, make_match(inverted, meta("l4proto"),
				       protocol == IPPROTO_TCP ? json_string("tcp")
							       : json_sprintf("%u", protocol)));
}

/* What both families' entries begin with. */
struct head {
	const void *source, *source_mask, *destination, *destination_mask;
	const char *iif, *oif;
	unsigned protocol, inverted; /* the bits IPT_INV_*, which are IP6T_INV_*, too */
};

static struct head head_of(const struct legacy *l, const char *entry)
{
	if (l->family->domain == AF_INET) {
		const struct ipt_ip *ip = &((const struct ipt_entry *)entry)->ip;

		return (struct head){ &ip->src,	   &ip->smsk,	 &ip->dst,  &ip->dmsk,
				      ip->iniface, ip->outiface, ip->proto, ip->invflags };
	}

	const struct ip6t_ip6 *ip = &((const struct ip6t_entry *)entry)->ipv6;

	return (struct head){ &ip->src,	   &ip->smsk,	 &ip->dst,  &ip->dmsk,
			      ip->iniface, ip->outiface, ip->proto, ip->invflags };
}

static void add_head(json_t *out, const struct legacy *l, const char *entry)
{
	struct head h = head_of(l, entry);

	add_address(out, l->family, "saddr", h.source, h.source_mask, h.inverted & IPT_INV_SRCIP);
	add_address(out, l->family, "daddr", h.destination, h.destination_mask,
		    h.inverted & IPT_INV_DSTIP);
	add_interface(out, "iifname", h.iif, h.inverted & IPT_INV_VIA_IN);
	add_interface(out, "oifname", h.oif, h.inverted & IPT_INV_VIA_OUT);
	add_protocol(out, h.protocol, h.inverted & IPT_INV_PROTO);
}

/* User chains begin with an entry whose target is called ERROR and holds the chain's name. */
static const char *chain_name(const struct legacy *l, unsigned offset)
{
	static const char *const hooks[] = { "PREROUTING", "INPUT", "FORWARD", "OUTPUT",
					     "POSTROUTING" };
	const char *entry = l->entries + offset;
	const struct xt_entry_target *target = (const void *)(entry + target_offset(l, entry));

	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++)
		if (l->info.valid_hooks >> i & 1 && l->info.hook_entry[i] == offset)
			return hooks[i];
	return strcmp(target->u.user.name, XT_ERROR_TARGET) ? NULL : (const char *)target->data;
}

static void add_jump(json_t *out, const struct legacy *l, unsigned offset)
{
	/* A jump goes to the entry after the chain's name. */
	for (unsigned at = 0, step = 1; step && at < l->info.size; at += step) {
		const char *name = chain_name(l, at);

		step = next_offset(l, l->entries + at);
		if (name && at + step == offset)
			append(out, json_pack("{s:{s:s}}", "jump", "target", name));
	}
}

static void add_verdict(json_t *out, const struct legacy *l, int verdict)
{
	if (verdict >= 0)
		add_jump(out, l, (unsigned)verdict);
	else
		append(out, json_pack("{s:n}", verdict == XT_RETURN	   ? "return"
					       : verdict == -NF_ACCEPT - 1 ? "accept"
									   : "drop"));
}

static json_t *read_statements(const struct legacy *l, const char *entry)
{
	const struct xt_entry_target *target = (const void *)(entry + target_offset(l, entry));
	json_t *out = json_array();
	const char *end = (const char *)target;

	add_head(out, l, entry);
	for (const char *at = entry + l->family->entry_size; at < end;) {
		const struct xt_entry_match *m = (const void *)at;

		decode("match", m->u.user.name, m->data, m->u.match_size - sizeof(*m), out);
		at += m->u.match_size;
		if (!m->u.match_size)
			break;
	}
	if (!*target->u.user.name)
		add_verdict(out, l, ((const struct xt_standard_target *)target)->verdict);
	else
		decode("target", target->u.user.name, target->data,
		       target->u.target_size - sizeof(*target), out);
	return out;
}

static const char *policy_of(const struct legacy *l, unsigned hook)
{
	const char *entry = l->entries + l->info.underflow[hook];
	const struct xt_standard_target *t = (const void *)(entry + target_offset(l, entry));

	return t->verdict == -NF_ACCEPT - 1 ? "accept" : "drop";
}

static void add_chain(const struct legacy *l, json_t *objects, const char *name, unsigned offset)
{
	static const char *const hooks[] = { "prerouting", "input", "forward", "output",
					     "postrouting" };
	bool nat = !strcmp(l->table, "nat");
	json_t *chain = json_pack("{s:s,s:s,s:s,s:b}", "family", l->family->name, "table", l->table,
				  "name", name, "legacy", 1);

	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++) {
		int priority = !strcmp(l->table, "raw")	       ? -300
			       : !strcmp(l->table, "mangle")   ? -150
			       : nat			       ? (i == 0 || i == 3 ? -100 : 100)
			       : !strcmp(l->table, "security") ? 50
							       : 0;

		if (!(l->info.valid_hooks >> i & 1) || l->info.hook_entry[i] != offset)
			continue;
		json_object_set_new(chain, "hook", json_string(hooks[i]));
		json_object_set_new(chain, "type", json_string(nat ? "nat" : "filter"));
		json_object_set_new(chain, "policy", json_string(policy_of(l, i)));
		json_object_set_new(chain, "prio", json_integer(priority));
	}
	json_array_append_new(objects, json_pack("{s:o}", "chain", chain));
}

static bool is_policy(const struct legacy *l, unsigned offset)
{
	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++)
		if (l->info.valid_hooks >> i & 1 && l->info.underflow[i] == offset)
			return true;
	return false;
}

/* Not a chain's head, and not its end. */
static bool is_rule(const struct legacy *l, unsigned offset)
{
	const char *entry = l->entries + offset;
	const struct xt_entry_target *target = (const void *)(entry + target_offset(l, entry));

	return strcmp(target->u.user.name, XT_ERROR_TARGET) && !is_policy(l, offset);
}

static void begin_chain(struct legacy *l, const char *name)
{
	snprintf(l->chain, sizeof(l->chain), "%s", name);
	l->rule = 0;
}

/* Add what an entry is to the array of nft's objects. */
static int add_entry(struct legacy *l, unsigned offset, void *context)
{
	const char *name = chain_name(l, offset);
	json_t *objects = context, *text;

	if (name) {
		add_chain(l, objects, name, offset);
		begin_chain(l, name);
	}
	if (!is_rule(l, offset))
		return 0;
	text = json_sprintf("rule %u", ++l->rule);
	json_array_append_new(objects, json_pack("{s:{s:s,s:s,s:s,s:b,s:o,s:o}}", "rule", "family",
						 l->family->name, "table", l->table, "chain",
						 l->chain, "legacy", 1, "text", text, "expr",
						 read_statements(l, l->entries + offset)));
	return 0;
}

/* The table's entries; NULL if there are none to be had. The caller frees them. */
static struct ipt_get_entries *fetch_table(struct legacy *l, int fd)
{
	struct ipt_get_entries *got;
	socklen_t size = sizeof(l->info);

	snprintf(l->info.name, sizeof(l->info.name), "%s", l->table);
	if (getsockopt(fd, l->family->level, l->family->get_info, &l->info, &size))
		return NULL;
	size = (socklen_t)(sizeof(*got) + l->info.size);
	got = calloc(1, size);
	if (!got)
		return NULL;
	snprintf(got->name, sizeof(got->name), "%s", l->table);
	got->size = l->info.size;
	/* EAGAIN: it was changed in between; it is seen as it is the next time. */
	if (getsockopt(fd, l->family->level, l->family->get_entries, got, &size)) {
		free(got);
		return NULL;
	}
	l->entries = (const char *)got->entrytable;
	return got;
}

/* Called for each entry of each table; a return other than 0 ends it. */
typedef int entry_reader(struct legacy *l, unsigned offset, void *context);

static int read_table(struct legacy *l, int fd, entry_reader *read, void *context)
{
	struct ipt_get_entries *got = fetch_table(l, fd);
	int result = 0;

	for (unsigned at = 0, step = 1; got && !result && step && at < l->info.size; at += step) {
		result = read(l, at, context);
		step = next_offset(l, l->entries + at);
	}
	free(got);
	return result;
}

static int read_family(const struct family *family, entry_reader *read, void *context)
{
	FILE *in = fopen(family->list, "re");
	int fd = in ? socket(family->domain, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW) : -1, result = 0;
	char name[XT_TABLE_MAXNAMELEN];

	while (fd >= 0 && !result && fgets(name, sizeof(name), in)) {
		struct legacy l = { .family = family, .table = name };

		name[strcspn(name, "\n")] = '\0';
		result = read_table(&l, fd, read, context);
	}
	if (fd >= 0)
		close(fd);
	if (in)
		fclose(in);
	return result;
}

static int read_legacy(entry_reader *read, void *context)
{
	int result = 0;

	for (size_t i = 0; !result && i < sizeof(families) / sizeof(*families); i++)
		result = read_family(&families[i], read, context);
	return result;
}

/* Whom an entry's extensions are told to. */
struct telling {
	xtables_visitor *visit;
	void *context;
};

static int tell_extension(const struct telling *t, struct xtables_use *use, const char *name)
{
	char copy[XT_EXTENSION_MAXNAMELEN + 1];

	/* A verdict has no name. */
	snprintf(copy, sizeof(copy), "%.*s", XT_EXTENSION_MAXNAMELEN, *name ? name : "standard");
	use->extension = copy;
	return t->visit(use, t->context);
}

static bool has_source(const struct legacy *l, const char *entry)
{
	const unsigned char *mask = head_of(l, entry).source_mask;

	for (size_t i = 0; i < (l->family->domain == AF_INET ? 4 : 16); i++)
		if (mask[i])
			return true;
	return false;
}

static int tell_entry(struct legacy *l, unsigned offset, void *context)
{
	const char *entry = l->entries + offset, *name = chain_name(l, offset);
	const struct xt_entry_target *target = (const void *)(entry + target_offset(l, entry));
	struct xtables_use use = { l->family->name, l->table, l->chain, 0, NULL, false };
	int result = 0;

	if (name)
		begin_chain(l, name);
	if (!is_rule(l, offset))
		return 0;
	use.rule = ++l->rule;
	use.has_source = has_source(l, entry);
	for (const char *at = entry + l->family->entry_size;
	     !result && at < (const char *)target;) {
		const struct xt_entry_match *m = (const void *)at;

		if (!m->u.match_size)
			break;
		result = tell_extension(context, &use, m->u.user.name);
		at += m->u.match_size;
	}
	return result ? result : tell_extension(context, &use, target->u.user.name);
}

int xtables_each_use(xtables_visitor *visit, void *context)
{
	struct telling telling = { visit, context };

	return read_legacy(tell_entry, &telling);
}

/* Add the names of one family's list, each once. */
static int list_names(FILE *in, char *buf, size_t size)
{
	char name[XT_TABLE_MAXNAMELEN];
	int count = 0;

	while (fgets(name, sizeof(name), in)) {
		size_t used = strlen(buf);

		name[strcspn(name, "\n")] = '\0';
		count++;
		if (!strstr(buf, name))
			snprintf(buf + used, size - used, "%s%s", used ? ", " : "", name);
	}
	return count;
}

int xtables_legacy(char *buf, size_t size)
{
	int count = 0;

	*buf = '\0';
	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++) {
		FILE *in = fopen(families[i].list, "re");

		if (in) {
			count += list_names(in, buf, size);
			fclose(in);
		} else if (errno != ENOENT) {
			return -1;
		}
	}
	return count;
}

void xtables_decode(json_t *objects)
{
	if (has_extensions(objects)) {
		decode_compat(objects, NFPROTO_IPV4);
		decode_compat(objects, NFPROTO_IPV6);
	}
	read_legacy(add_entry, objects);
}
