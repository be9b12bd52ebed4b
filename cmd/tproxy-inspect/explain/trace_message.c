/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/trace_message.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <netlink/msg.h>
#include <string.h>

#define TRACE_TYPE (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE)

static struct nla_policy policy[NFTA_TRACE_MAX + 1] = {
	[NFTA_TRACE_TABLE] = { .type = NLA_STRING, .maxlen = NFT_NAME_MAXLEN },
	[NFTA_TRACE_CHAIN] = { .type = NLA_STRING, .maxlen = NFT_NAME_MAXLEN },
	[NFTA_TRACE_RULE_HANDLE] = { .type = NLA_U64 },
	[NFTA_TRACE_TYPE] = { .type = NLA_U32 },
	[NFTA_TRACE_VERDICT] = { .type = NLA_NESTED },
	[NFTA_TRACE_ID] = { .type = NLA_U32 },
	[NFTA_TRACE_IIF] = { .type = NLA_U32 },
	[NFTA_TRACE_OIF] = { .type = NLA_U32 },
	[NFTA_TRACE_MARK] = { .type = NLA_U32 },
	[NFTA_TRACE_POLICY] = { .type = NLA_U32 },
};

static uint32_t number_of(struct nlattr *attribute)
{
	return attribute ? ntohl(nla_get_u32(attribute)) : 0;
}

/* --- headers ---------------------------------------------------------------------------------- */

/* A header of at most `size` bytes into `out`, the rest zeros; returns how many there are. */
static size_t take(struct nlattr *attribute, void *out, size_t size)
{
	size_t length = attribute ? (size_t)nla_len(attribute) : 0;

	memset(out, 0, size);
	if (length > size)
		length = size;
	if (length)
		memcpy(out, nla_data(attribute), length);
	return length;
}

/* How many bytes the network header says follow it; -1: it is none. */
static int read_ipv4(const struct iphdr *ip, struct trace_packet *p)
{
	int header = ip->ihl * 4, total = ntohs(ip->tot_len), fragment = ntohs(ip->frag_off);

	if (ip->version != 4 || header < (int)sizeof(*ip) || fragment & IP_OFFMASK)
		return -1;
	p->fragment = fragment & IP_MF;
	p->protocol = ip->protocol;
	p->source.family = p->destination.family = AF_INET;
	p->source.addr.v4.s_addr = ip->saddr;
	p->destination.addr.v4.s_addr = ip->daddr;
	return total > header ? total - header : 0;
}

/* Behind extension headers the protocol is not said: 0. */
static int read_ipv6(const struct ip6_hdr *ip, struct trace_packet *p)
{
	if (ip->ip6_vfc >> 4 != 6)
		return -1;
	p->protocol = ip->ip6_nxt;
	p->source.family = p->destination.family = AF_INET6;
	p->source.addr.v6 = ip->ip6_src;
	p->destination.addr.v6 = ip->ip6_dst;
	return ntohs(ip->ip6_plen);
}

static int read_network(struct nlattr *attribute, struct trace_packet *p)
{
	union {
		struct iphdr v4;
		struct ip6_hdr v6;
	} ip;
	size_t length = take(attribute, &ip, sizeof(ip));

	if (length >= sizeof(ip.v4) && ip.v4.version == 4)
		return read_ipv4(&ip.v4, p);
	return length >= sizeof(ip.v6) ? read_ipv6(&ip.v6, p) : -1;
}

static bool read_transport(struct nlattr *attribute, int length, struct trace_packet *p)
{
	union {
		struct tcphdr tcp;
		struct udphdr udp;
	} h;
	size_t seen = take(attribute, &h, sizeof(h));
	int header = p->protocol == IPPROTO_TCP ? h.tcp.th_off * 4 : (int)sizeof(h.udp);

	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
		return false;
	if (seen < (p->protocol == IPPROTO_TCP ? sizeof(h.tcp) : sizeof(h.udp)))
		return false;
	p->source.port = ntohs(h.udp.uh_sport); /* TCP has them in the same place */
	p->destination.port = ntohs(h.udp.uh_dport);
	p->payload = length > header ? (uint32_t)(length - header) : 0;
	if (p->protocol == IPPROTO_TCP) {
		p->flags = h.tcp.th_flags;
		p->sequence = ntohl(h.tcp.th_seq);
	}
	return true;
}

/* --- the message ------------------------------------------------------------------------------ */

/* A verdict of 32 bits, of which a queue's number is the upper half. */
static int read_verdict(struct nlattr *nested)
{
	struct nlattr *at[NFTA_VERDICT_MAX + 1];
	struct nla_policy code[NFTA_VERDICT_MAX + 1] = { [NFTA_VERDICT_CODE] = {
								 .type = NLA_U32 } };
	int verdict;

	if (!nested || nla_parse_nested(at, NFTA_VERDICT_MAX, nested, code) ||
	    !at[NFTA_VERDICT_CODE])
		return NFT_CONTINUE;
	verdict = (int)number_of(at[NFTA_VERDICT_CODE]);
	return verdict >= 0 ? verdict & NF_VERDICT_MASK : verdict;
}

static void read_what_happens(struct nlattr *const *at, struct trace_message *out)
{
	out->verdict = read_verdict(at[NFTA_TRACE_VERDICT]);
	if (number_of(at[NFTA_TRACE_TYPE]) == NFT_TRACETYPE_POLICY) {
		out->verdict = (int)(number_of(at[NFTA_TRACE_POLICY]) & NF_VERDICT_MASK);
		return;
	}
	if (at[NFTA_TRACE_RULE_HANDLE])
		out->handle = be64toh(nla_get_u64(at[NFTA_TRACE_RULE_HANDLE]));
}

bool trace_message_parse(struct nlmsghdr *message, struct trace_message *out)
{
	struct nlattr *at[NFTA_TRACE_MAX + 1];
	int length;

	*out = (struct trace_message){ 0 };
	if (message->nlmsg_type != TRACE_TYPE ||
	    !nlmsg_valid_hdr(message, sizeof(struct nfgenmsg)) ||
	    nlmsg_parse(message, sizeof(struct nfgenmsg), at, NFTA_TRACE_MAX, policy) ||
	    !at[NFTA_TRACE_ID] || !at[NFTA_TRACE_TABLE] || !at[NFTA_TRACE_CHAIN])
		return false;
	out->id = number_of(at[NFTA_TRACE_ID]);
	out->family = ((const struct nfgenmsg *)nlmsg_data(message))->nfgen_family;
	out->table = nla_get_string(at[NFTA_TRACE_TABLE]);
	out->chain = nla_get_string(at[NFTA_TRACE_CHAIN]);
	out->iif = number_of(at[NFTA_TRACE_IIF]);
	out->oif = number_of(at[NFTA_TRACE_OIF]);
	out->mark = number_of(at[NFTA_TRACE_MARK]);
	read_what_happens(at, out);
	length = read_network(at[NFTA_TRACE_NETWORK_HEADER], &out->packet);
	out->packet.known = length >= 0 &&
			    read_transport(at[NFTA_TRACE_TRANSPORT_HEADER], length, &out->packet);
	return true;
}
