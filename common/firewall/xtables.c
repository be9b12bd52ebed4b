/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/xtables.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netfilter/xt_CT.h>
#include <linux/netfilter/xt_NFQUEUE.h>
#include <linux/netfilter/xt_TPROXY.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_connlimit.h>
#include <linux/netfilter/xt_connmark.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_hashlimit.h>
#include <linux/netfilter/xt_iprange.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_owner.h>
#include <linux/netfilter/xt_pkttype.h>
#include <linux/netfilter/xt_rpfilter.h>
#include <linux/netfilter/xt_socket.h>
#include <linux/netfilter/xt_state.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <stdint.h>
#include <string.h>

/* --- statements ------------------------------------------------------------------------------- */

/* {"match": ...}; takes over left and right. */
json_t *xtables_match(bool inverted, json_t *left, json_t *right)
{
	return json_pack("{s:{s:s,s:o,s:o}}", "match", "op", inverted ? "!=" : "==", "left", left,
			 "right", right);
}

json_t *xtables_payload(const char *protocol, const char *field)
{
	return json_pack("{s:{s:s,s:s}}", "payload", "protocol", protocol, "field", field);
}

json_t *xtables_meta(const char *key)
{
	return json_pack("{s:{s:s}}", "meta", "key", key);
}

static json_t *masked_mark(uint32_t mask)
{
	return json_pack("{s:[o,I]}", "&", xtables_meta("mark"), (json_int_t)mask);
}

/* --- matches ---------------------------------------------------------------------------------- */

/* Append the statements equivalent to the extension; false: unknown extension. */
typedef bool decoder(const void *info, size_t size, json_t *out);

bool xtables_append(json_t *out, json_t *statement)
{
	return statement && !json_array_append_new(out, statement);
}

static bool append_ports(json_t *out, const char *protocol, const char *field,
			 const uint16_t range[2], bool inverted)
{
	unsigned first = range[0], last = range[1];

	if (first == 0 && last == 0xffff)
		return true;
	return xtables_append(out, xtables_match(inverted, xtables_payload(protocol, field),
						 json_pack("{s:[i,i]}", "range", first, last)));
}

static bool decode_tcp(const void *info, size_t size, json_t *out)
{
	const struct xt_tcp *t = info;

	if (size < sizeof(*t) || t->option)
		return false;
	if (t->flg_mask &&
	    !xtables_append(out,
			    xtables_match(t->invflags & XT_TCP_INV_FLAGS,
					  json_pack("{s:[o,i]}", "&",
						    xtables_payload("tcp", "flags"), t->flg_mask),
					  json_integer(t->flg_cmp))))
		return false;
	return append_ports(out, "tcp", "sport", t->spts, t->invflags & XT_TCP_INV_SRCPT) &&
	       append_ports(out, "tcp", "dport", t->dpts, t->invflags & XT_TCP_INV_DSTPT);
}

static bool decode_udp(const void *info, size_t size, json_t *out)
{
	const struct xt_udp *t = info;

	return size >= sizeof(*t) &&
	       append_ports(out, "udp", "sport", t->spts, t->invflags & XT_UDP_INV_SRCPT) &&
	       append_ports(out, "udp", "dport", t->dpts, t->invflags & XT_UDP_INV_DSTPT);
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

static json_t *ct_tuple(const char *direction, const char *key)
{
	return json_pack("{s:{s:s,s:s}}", "ct", "dir", direction, "key", key);
}

/* Revision 3 has ranges of ports. */
static bool append_ct_ports(json_t *out, const struct xt_conntrack_mtinfo3 *t)
{
	const struct {
		unsigned flag;
		const char *direction, *key;
		unsigned first, last;
	} ports[] = {
		{ XT_CONNTRACK_ORIGSRC_PORT, "original", "proto-src", t->origsrc_port,
		  t->origsrc_port_high },
		{ XT_CONNTRACK_ORIGDST_PORT, "original", "proto-dst", t->origdst_port,
		  t->origdst_port_high },
		{ XT_CONNTRACK_REPLSRC_PORT, "reply", "proto-src", t->replsrc_port,
		  t->replsrc_port_high },
		{ XT_CONNTRACK_REPLDST_PORT, "reply", "proto-dst", t->repldst_port,
		  t->repldst_port_high },
	};
	bool fine = true;

	for (size_t i = 0; fine && i < sizeof(ports) / sizeof(*ports); i++)
		if (t->match_flags & ports[i].flag)
			fine = xtables_append(
				out, xtables_match(t->invert_flags & ports[i].flag,
						   ct_tuple(ports[i].direction, ports[i].key),
						   json_pack("{s:[i,i]}", "range", ports[i].first,
							     ports[i].last)));
	return fine;
}

/* What it looks at besides is not known here. */
static bool append_other(json_t *out, const char *name)
{
	return xtables_append(out, json_pack("{s:{s:s,s:s}}", "xt", "type", "match", "name", name));
}

static bool decode_conntrack(const void *info, size_t size, json_t *out)
{
	const unsigned ports = XT_CONNTRACK_ORIGSRC_PORT | XT_CONNTRACK_ORIGDST_PORT |
			       XT_CONNTRACK_REPLSRC_PORT | XT_CONNTRACK_REPLDST_PORT;
	const struct xt_conntrack_mtinfo3 *t = info;
	unsigned known = XT_CONNTRACK_STATE | XT_CONNTRACK_DIRECTION;

	/* Revision 2 is a prefix of it. */
	if (size < sizeof(struct xt_conntrack_mtinfo2))
		return false;
	if (t->match_flags & XT_CONNTRACK_STATE &&
	    !xtables_append(out, xtables_match(t->invert_flags & XT_CONNTRACK_STATE, ct_state(),
					       states(t->state_mask))))
		return false;
	if (t->match_flags & XT_CONNTRACK_DIRECTION &&
	    !xtables_append(out, xtables_match(t->invert_flags & XT_CONNTRACK_DIRECTION,
					       json_pack("{s:{s:s}}", "ct", "key", "direction"),
					       json_string("original"))))
		return false;
	if (size >= sizeof(*t) && t->match_flags & ports) {
		known |= ports;
		if (!append_ct_ports(out, t))
			return false;
	}
	return !(t->match_flags & ~(known | XT_CONNTRACK_STATE_ALIAS)) ||
	       append_other(out, "conntrack");
}

/* The tail of an IPv4 address in the union is empty; no range of IPv6 ends with such an address. */
static bool append_range(json_t *out, const char *field, const union nf_inet_addr *first,
			 const union nf_inet_addr *last, bool inverted)
{
	bool four = !last->all[1] && !last->all[2] && !last->all[3];
	char low[INET6_ADDRSTRLEN], high[INET6_ADDRSTRLEN];
	int family = four ? AF_INET : AF_INET6;

	inet_ntop(family, first, low, sizeof(low));
	inet_ntop(family, last, high, sizeof(high));
	return xtables_append(out,
			      xtables_match(inverted, xtables_payload(four ? "ip" : "ip6", field),
					    json_pack("{s:[s,s]}", "range", low, high)));
}

static bool decode_iprange(const void *info, size_t size, json_t *out)
{
	const struct xt_iprange_mtinfo *t = info;

	if (size < sizeof(*t))
		return false;
	if (t->flags & IPRANGE_SRC &&
	    !append_range(out, "saddr", &t->src_min, &t->src_max, t->flags & IPRANGE_SRC_INV))
		return false;
	return !(t->flags & IPRANGE_DST) ||
	       append_range(out, "daddr", &t->dst_min, &t->dst_max, t->flags & IPRANGE_DST_INV);
}

static bool decode_pkttype(const void *info, size_t size, json_t *out)
{
	const struct xt_pkttype_info *t = info;
	const char *name;

	if (size < sizeof(*t))
		return false;
	name = t->pkttype == PACKET_HOST	? "host"
	       : t->pkttype == PACKET_BROADCAST ? "broadcast"
	       : t->pkttype == PACKET_MULTICAST ? "multicast"
						: "other";
	return xtables_append(out,
			      xtables_match(t->invert, xtables_meta("pkttype"), json_string(name)));
}

/* `over`: it matches what exceeds the amount. */
static bool append_amount(json_t *out, const char *word, bool over)
{
	return xtables_append(out, json_pack("{s:{s:b}}", word, "inv", over));
}

/* --connlimit-above, unless inverted: --connlimit-upto. */
static bool decode_connlimit(const void *info, size_t size, json_t *out)
{
	const struct xt_connlimit_info *t = info;

	return size >= sizeof(*t) &&
	       append_amount(out, "ct count", !(t->flags & XT_CONNLIMIT_INVERT));
}

/* --hashlimit-above. Revisions 2 and 3 have a longer name in front. */
static bool decode_hashlimit(const void *info, size_t size, json_t *out)
{
	const struct xt_hashlimit_mtinfo1 *first = info;
	const struct xt_hashlimit_mtinfo2 *second = info;

	if (size < sizeof(*first))
		return false;
	return append_amount(out, "limit",
			     (size < sizeof(*second) ? first->cfg.mode : second->cfg.mode) &
				     XT_HASHLIMIT_INVERT);
}

static bool decode_state(const void *info, size_t size, json_t *out)
{
	const struct xt_state_info *t = info;

	return size >= sizeof(*t) &&
	       xtables_append(out, xtables_match(false, ct_state(), states(t->statemask)));
}

static bool decode_mark(const void *info, size_t size, json_t *out)
{
	const struct xt_mark_mtinfo1 *t = info;

	return size >= sizeof(*t) &&
	       xtables_append(
		       out, xtables_match(t->invert, masked_mark(t->mask), json_integer(t->mark)));
}

/* --ports: `th sport . th dport { 0-65535 . 80, 80 . 0-65535 }`. */
static bool append_either(json_t *out, json_t *set, bool inverted)
{
	json_t *pairs = json_array(), *range;
	size_t i;

	json_array_foreach(set, i, range)
		for (int first = 0; first < 2; first++)
			json_array_append_new(pairs,
					      first ? json_pack("{s:[O,{s:[i,i]}]}", "concat",
								range, "range", 0, UINT16_MAX)
						    : json_pack("{s:[{s:[i,i]},O]}", "concat",
								"range", 0, UINT16_MAX, range));
	json_decref(set);
	return xtables_append(
		out, xtables_match(inverted,
				   json_pack("{s:[o,o]}", "concat", xtables_payload("th", "sport"),
					     xtables_payload("th", "dport")),
				   json_pack("{s:o}", "set", pairs)));
}

static bool decode_multiport(const void *info, size_t size, json_t *out)
{
	const struct xt_multiport_v1 *t = info;
	json_t *set;

	if (size < sizeof(*t) || t->count > XT_MULTI_PORTS)
		return false;
	set = json_array();
	for (unsigned i = 0; i < t->count; i++) {
		unsigned first = t->ports[i];

		/* A range uses two entries. */
		if (t->pflags[i] && ++i == t->count)
			break;
		json_array_append_new(set, json_pack("{s:[i,i]}", "range", first, t->ports[i]));
	}
	if (t->flags == XT_MULTIPORT_EITHER)
		return append_either(out, set, t->invert);
	return xtables_append(
		out, xtables_match(t->invert,
				   xtables_payload("th", t->flags == XT_MULTIPORT_SOURCE ? "sport"
											 : "dport"),
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
	return xtables_append(out, xtables_match(inverted, fib("type", flag, false), list));
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
	       xtables_append(out,
			      xtables_match(false,
					    json_pack("{s:{s:s}}", "socket", "key", "transparent"),
					    json_integer(1)));
}

/* Without --invert it matches if there is a route back. */
static bool decode_rpfilter(const void *info, size_t size, json_t *out)
{
	const struct xt_rpfilter_info *t = info;

	return size >= sizeof(*t) &&
	       xtables_append(out,
			      xtables_match(false,
					    fib("oif", "saddr", t->flags & XT_RPFILTER_VALID_MARK),
					    json_boolean(!(t->flags & XT_RPFILTER_INVERT))));
}

static bool append_owner(json_t *out, const char *key, bool inverted, unsigned first, unsigned last)
{
	return xtables_append(out, xtables_match(inverted, xtables_meta(key),
						 json_pack("{s:[I,I]}", "range", (json_int_t)first,
							   (json_int_t)last)));
}

static bool decode_owner(const void *info, size_t size, json_t *out)
{
	const struct xt_owner_match_info *t = info;

	if (size < sizeof(*t) || t->match & ~(XT_OWNER_UID | XT_OWNER_GID))
		return false;
	if (t->match & XT_OWNER_UID &&
	    !append_owner(out, "skuid", t->invert & XT_OWNER_UID, t->uid_min, t->uid_max))
		return false;
	return !(t->match & XT_OWNER_GID) ||
	       append_owner(out, "skgid", t->invert & XT_OWNER_GID, t->gid_min, t->gid_max);
}

static json_t *ct_mark(void)
{
	return json_pack("{s:{s:s}}", "ct", "key", "mark");
}

static bool decode_connmark(const void *info, size_t size, json_t *out)
{
	const struct xt_connmark_mtinfo1 *t = info;

	return size >= sizeof(*t) &&
	       xtables_append(out, xtables_match(t->invert,
						 json_pack("{s:[o,I]}", "&", ct_mark(),
							   (json_int_t)t->mask),
						 json_integer(t->mark)));
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
	       xtables_append(out, json_pack("{s:{s:o,s:{s:[o,I]}}}", "mangle", "key",
					     xtables_meta("mark"), "value", "^",
					     masked_mark(~t->mask), (json_int_t)t->mark));
}

/* (to & ~kept) ^ (from & taken) into `to`. */
static json_t *merge(json_t *key, json_t *to, uint32_t kept, json_t *from, uint32_t taken)
{
	return json_pack("{s:{s:o,s:{s:[{s:[o,I]},{s:[o,I]}]}}}", "mangle", "key", key, "value",
			 "^", "&", to, (json_int_t)(uint32_t)~kept, "&", from, (json_int_t)taken);
}

/* What connmark_tg() does, without shifts. */
static bool decode_CONNMARK(const void *info, size_t size, json_t *out)
{
	const struct xt_connmark_tginfo1 *t = info;
	const struct xt_connmark_tginfo2 *shifted = info;
	unsigned mode;

	/* Both have the same size; without a shift the first has zeros where the second has its
	 * mode. */
	if (size < sizeof(*t) || shifted->shift_bits)
		return false;
	mode = shifted->mode ? shifted->mode : t->mode;
	if (mode == XT_CONNMARK_SET)
		return xtables_append(out, json_pack("{s:{s:o,s:{s:[{s:[o,I]},I]}}}", "mangle",
						     "key", ct_mark(), "value", "^", "&", ct_mark(),
						     (json_int_t)(uint32_t)~t->ctmask,
						     (json_int_t)t->ctmark));
	if (mode == XT_CONNMARK_SAVE)
		return xtables_append(out, merge(ct_mark(), ct_mark(), t->ctmask,
						 xtables_meta("mark"), t->nfmask));
	return mode == XT_CONNMARK_RESTORE &&
	       xtables_append(out, merge(xtables_meta("mark"), xtables_meta("mark"), t->nfmask,
					 ct_mark(), t->ctmask));
}

/* Revision 1 begins like revision 0, and revisions 2 and 3 begin like revision 1, followed by
 * whether packets pass if nobody reads the queue. */
static bool decode_NFQUEUE(const void *info, size_t size, json_t *out)
{
	const struct xt_NFQ_info_v3 *t = info;
	bool bypass;

	if (size < sizeof(struct xt_NFQ_info))
		return false;
	bypass = size >= sizeof(*t) && t->flags & NFQ_FLAG_BYPASS;
	return xtables_append(out, json_pack("{s:{s:i,s:[s]}}", "queue", "num", t->queuenum,
					     "flags", bypass ? "bypass" : "none"));
}

static bool decode_SYNPROXY(const void *info, size_t size, json_t *out)
{
	(void)info;
	(void)size;
	return xtables_append(out, json_pack("{s:n}", "synproxy"));
}

static bool decode_CT(const void *info, size_t size, json_t *out)
{
	const struct xt_ct_target_info *t = info;

	return size >= sizeof(*t) && t->flags & XT_CT_NOTRACK &&
	       xtables_append(out, json_pack("{s:n}", "notrack"));
}

static bool decode_NOTRACK(const void *info, size_t size, json_t *out)
{
	(void)info;
	(void)size;
	return xtables_append(out, json_pack("{s:n}", "notrack"));
}

static bool decode_TPROXY(const void *info, size_t size, json_t *out)
{
	const struct xt_tproxy_target_info_v1 *t = info;

	return size >= sizeof(*t) &&
	       xtables_append(out, json_pack("{s:{s:i}}", "tproxy", "port", ntohs(t->lport)));
}

static bool decode_REJECT(const void *info, size_t size, json_t *out)
{
	(void)info;
	(void)size;
	return xtables_append(out, json_pack("{s:n}", "reject"));
}

/* Decode one; an unknown one is named. */
void xtables_decode(const char *type, const char *name, const void *info, size_t size, json_t *out)
{
	static const struct {
		const char *type, *name;
		decoder *decode;
	} known[] = {
		{ "match", "tcp", decode_tcp },
		{ "match", "udp", decode_udp },
		{ "match", "conntrack", decode_conntrack },
		{ "match", "state", decode_state },
		{ "match", "iprange", decode_iprange },
		{ "match", "pkttype", decode_pkttype },
		{ "match", "connlimit", decode_connlimit },
		{ "match", "hashlimit", decode_hashlimit },
		{ "match", "mark", decode_mark },
		{ "match", "multiport", decode_multiport },
		{ "match", "addrtype", decode_addrtype },
		{ "match", "socket", decode_socket },
		{ "match", "rpfilter", decode_rpfilter },
		{ "match", "owner", decode_owner },
		{ "match", "connmark", decode_connmark },
		{ "match", "comment", decode_comment },
		{ "target", "MARK", decode_MARK },
		{ "target", "CONNMARK", decode_CONNMARK },
		{ "target", "NFQUEUE", decode_NFQUEUE },
		{ "target", "SYNPROXY", decode_SYNPROXY },
		{ "target", "CT", decode_CT },
		{ "target", "NOTRACK", decode_NOTRACK },
		{ "target", "TPROXY", decode_TPROXY },
		{ "target", "REJECT", decode_REJECT },
	};
	/* Netlink aligns to 4 bytes, and some of these need 8. None that is known is longer. */
	uint64_t aligned[64] = { 0 };

	if (size > sizeof(aligned))
		size = sizeof(aligned);
	if (size)
		memcpy(aligned, info, size);
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(known[i].type, type) && !strcmp(known[i].name, name) &&
		    known[i].decode(aligned, size, out))
			return;
	xtables_append(out, json_pack("{s:{s:s,s:s}}", "xt", "type", type, "name", name));
}
