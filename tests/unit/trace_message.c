/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What nftrace reports: a message, and what becomes of the packets it is about. */
#include "tproxy-inspect/explain/trace_message.h"
#include "check.h"
#include "tproxy-inspect/explain/packet_fates.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netlink/msg.h>

/* --- messages --------------------------------------------------------------------------------- */

static struct nl_msg *message(uint32_t id, const char *table, const char *chain)
{
	const struct nfgenmsg header = { .nfgen_family = NFPROTO_INET };
	struct nl_msg *m = nlmsg_alloc_simple(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE, 0);

	nlmsg_append(m, (void *)&header, sizeof(header), NLMSG_ALIGNTO);
	nla_put_u32(m, NFTA_TRACE_ID, htonl(id));
	nla_put_string(m, NFTA_TRACE_TABLE, table);
	nla_put_string(m, NFTA_TRACE_CHAIN, chain);
	return m;
}

static void put_rule(struct nl_msg *m, uint64_t handle, int verdict)
{
	struct nlattr *nested;

	nla_put_u32(m, NFTA_TRACE_TYPE, htonl(NFT_TRACETYPE_RULE));
	nla_put_u64(m, NFTA_TRACE_RULE_HANDLE, htobe64(handle));
	nested = nla_nest_start(m, NFTA_TRACE_VERDICT);
	nla_put_u32(m, NFTA_VERDICT_CODE, htonl((uint32_t)verdict));
	nla_nest_end(m, nested);
}

static uint16_t fragment; /* of the next IPv4 headers: IP_MF, and the offset */

static void put_packet(struct nl_msg *m, uint8_t flags, uint32_t sequence, uint16_t payload)
{
	uint8_t ip[20] = { 0x45, 0, 0, 0, 0, 0, 0, 0, 64, IPPROTO_TCP };
	struct tcphdr tcp = { .th_sport = htons(40000), .th_dport = htons(80), .th_off = 5 };

	ip[2] = (uint8_t)((40 + payload) >> 8);
	ip[3] = (uint8_t)(40 + payload);
	ip[6] = (uint8_t)(fragment >> 8);
	ip[7] = (uint8_t)fragment;
	inet_pton(AF_INET, "192.0.2.2", ip + 12);
	inet_pton(AF_INET, "198.51.100.2", ip + 16);
	tcp.th_flags = flags;
	tcp.th_seq = htonl(sequence);
	nla_put(m, NFTA_TRACE_NETWORK_HEADER, sizeof(ip), ip);
	nla_put(m, NFTA_TRACE_TRANSPORT_HEADER, sizeof(tcp), &tcp);
}

static void test_message(void)
{
	struct nl_msg *m = message(7, "filter", "input");
	struct trace_message t;
	char text[ENDPOINT_TEXT_MAX];

	put_rule(m, 12, NF_DROP);
	put_packet(m, TH_SYN, 1000, 0);
	nla_put_u32(m, NFTA_TRACE_IIF, htonl(3));
	nla_put_u32(m, NFTA_TRACE_MARK, htonl(0x101));
	CHECK(trace_message_parse(nlmsg_hdr(m), &t));
	CHECK(t.id == 7 && t.handle == 12 && t.verdict == NF_DROP && t.iif == 3 && !t.oif);
	CHECK(t.mark == 0x101 && t.family == NFPROTO_INET);
	CHECK_TEXT(t.table, "filter");
	CHECK_TEXT(t.chain, "input");
	CHECK(t.packet.known && t.packet.flags == TH_SYN && t.packet.sequence == 1000);
	CHECK_TEXT(endpoint_format(&t.packet.source, text), "192.0.2.2:40000");
	CHECK_TEXT(endpoint_format(&t.packet.destination, text), "198.51.100.2:80");
	/* Another message of the group; one that is cut. */
	nlmsg_hdr(m)->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE;
	CHECK(!trace_message_parse(nlmsg_hdr(m), &t));
	nlmsg_hdr(m)->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE;
	nlmsg_hdr(m)->nlmsg_len = NLMSG_HDRLEN + 2;
	CHECK(!trace_message_parse(nlmsg_hdr(m), &t));
	nlmsg_free(m);
}

static void test_policy(void)
{
	struct nl_msg *m = message(7, "filter", "input");
	struct trace_message t;

	nla_put_u32(m, NFTA_TRACE_TYPE, htonl(NFT_TRACETYPE_POLICY));
	nla_put_u32(m, NFTA_TRACE_POLICY, htonl(NF_DROP));
	CHECK(trace_message_parse(nlmsg_hdr(m), &t));
	CHECK(!t.handle && t.verdict == NF_DROP && !t.packet.known);
	nlmsg_free(m);
	/* The number of a queue is not part of the verdict; a jump is negative. */
	m = message(7, "filter", "input");
	put_rule(m, 1, 5 << 16 | NF_QUEUE);
	CHECK(trace_message_parse(nlmsg_hdr(m), &t) && t.verdict == NF_QUEUE);
	nlmsg_free(m);
	m = message(7, "filter", "input");
	put_rule(m, 1, NFT_JUMP);
	CHECK(trace_message_parse(nlmsg_hdr(m), &t) && t.verdict == NFT_JUMP);
	nlmsg_free(m);
}

/* Only the first fragment has ports. */
static void test_fragment(void)
{
	const struct {
		uint16_t bits;
		bool known, first;
	} cases[] = { { IP_DF, true, false },
		      { IP_MF, true, true },
		      { IP_MF | 185, false, false },
		      { 185, false, false } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct nl_msg *m = message(7, "t", "c");
		struct trace_message t;

		fragment = cases[i].bits;
		put_packet(m, TH_ACK, 1000, 10);
		CHECK(trace_message_parse(nlmsg_hdr(m), &t));
		CHECK(t.packet.known == cases[i].known && t.packet.fragment == cases[i].first);
		nlmsg_free(m);
	}
	fragment = 0;
}

static void test_ipv6(void)
{
	struct nl_msg *m = message(7, "t", "c");
	struct ip6_hdr ip = { 0 };
	const uint8_t udp[8] = { 0x9c, 0x40, 0, 53, 0, 20 };
	struct trace_message t;
	char text[ENDPOINT_TEXT_MAX];

	ip.ip6_flow = htonl(0x60000000);
	ip.ip6_plen = htons(20);
	ip.ip6_nxt = IPPROTO_UDP;
	inet_pton(AF_INET6, "2001:db8:1::2", &ip.ip6_src);
	inet_pton(AF_INET6, "2001:db8:2::2", &ip.ip6_dst);
	nla_put(m, NFTA_TRACE_NETWORK_HEADER, sizeof(ip), &ip);
	CHECK(trace_message_parse(nlmsg_hdr(m), &t) && !t.packet.known);
	nla_put(m, NFTA_TRACE_TRANSPORT_HEADER, sizeof(udp), udp);
	CHECK(trace_message_parse(nlmsg_hdr(m), &t) && t.packet.known);
	CHECK(t.packet.protocol == IPPROTO_UDP && t.packet.payload == 12);
	CHECK_TEXT(endpoint_format(&t.packet.source, text), "[2001:db8:1::2]:40000");
	nlmsg_free(m);
}

/* --- fates ------------------------------------------------------------------------------------ */

static struct packet_fates fates;
static uint64_t now;
#define WALL 1000000 /* this clock runs backwards */

static void reset_fates(void)
{
	memset(&fates, 0, sizeof(fates));
	fates.tuple.protocol = IPPROTO_TCP;
	endpoint_parse("192.0.2.2:40000", &fates.tuple.client, NULL);
	endpoint_parse("198.51.100.2:80", &fates.tuple.destination, NULL);
}

static unsigned enters_by; /* this interface; 0: not said */

static void enter(uint32_t id, uint8_t flags, uint32_t sequence, uint16_t payload)
{
	struct packet_trace_event e = { .ours = true, .begins = true, .hook = TRACE_PREROUTING };
	struct nl_msg *m = message(id, "t", "c");

	put_packet(m, flags, sequence, payload);
	trace_message_parse(nlmsg_hdr(m), &e.message);
	e.message.iif = enters_by;
	now++;
	packet_fates_note(&fates, &e, now, WALL - now);
	nlmsg_free(m);
}

static void pass(uint32_t id, enum packet_trace_hook hook, bool last)
{
	const struct packet_trace_event e = {
		.ours = true,
		.hook = hook,
		.last = last,
		.message = { .id = id, .table = "t", .chain = "c", .verdict = NF_ACCEPT },
	};

	now++;
	packet_fates_note(&fates, &e, now, WALL - now);
}

static void meet_rule(uint32_t id, const char *table, uint64_t handle, int verdict)
{
	const struct packet_trace_event e = {
		.message = { .id = id,
			     .table = table,
			     .chain = "c",
			     .handle = handle,
			     .verdict = verdict },
	};

	now++;
	packet_fates_note(&fates, &e, now, WALL - now);
}

static void test_delivered(void)
{
	reset_fates();
	for (uint32_t id = 1; id <= 3; id++) {
		enter(id, id == 1 ? TH_SYN : TH_ACK, 1000 + (id > 1), id > 1 ? 10 : 0);
		meet_rule(id, "tproxy_web", 4, NF_ACCEPT);
		pass(id, TRACE_PREROUTING, true);
		pass(id, TRACE_INPUT, false);
		pass(id, TRACE_INPUT, true);
	}
	CHECK(fates.count == 1 && fates.at[0].end == END_SOCKET && fates.at[0].packets == 3);
	CHECK(fates.at[0].opening == 1 && fates.at[0].again == 1 && !fates.at[0].resets);
	CHECK(fates.at[0].leg == LEG_REQUEST && fates.packets[LEG_REQUEST] == 3);
	CHECK_TEXT(fates.at[0].instance, "web");
	CHECK(fates.at[0].first_us == WALL - (now - 14));
}

static void test_dropped(void)
{
	reset_fates();
	enter(1, TH_SYN, 1000, 0);
	meet_rule(1, "filter", 9, NFT_CONTINUE);
	meet_rule(1, "filter", 10, NF_DROP);
	meet_rule(1, "filter", 11, NF_DROP); /* its id is nobody's now */
	CHECK(fates.count == 1 && fates.at[0].end == END_DROPPED && fates.at[0].at.handle == 10);
	/* Its id is used again; a packet of somebody else's trace is not ours. */
	enter(1, TH_SYN, 1000, 0);
	enter(1, TH_SYN, 1000, 0);
	meet_rule(2, "filter", 10, NF_DROP);
	pass(2, TRACE_INPUT, true);
	packet_fates_settle(&fates, now, 0);
	CHECK(fates.count == 2 && fates.at[1].end == END_LOST && fates.at[1].packets == 2);
	CHECK(fates.at[1].again == 2 && !fates.at[1].passed);
}

/* What is put together from them is another packet. */
static void test_fragments(void)
{
	reset_fates();
	enter(1, TH_ACK, 1000, 10);
	fragment = IP_MF;
	enter(1, TH_ACK, 1010, 10); /* the id of the first one is used again */
	fragment = 0;
	pass(1, TRACE_INPUT, true);
	packet_fates_settle(&fates, now, 0);
	CHECK(fates.count == 1 && fates.at[0].end == END_LOST && fates.at[0].packets == 1);
	CHECK(fates.packets[LEG_REQUEST] == 1 && fates.fragments[LEG_REQUEST] == 1);
}

/* An acknowledgement and a reset, even one with a text, are not answered. */
static void test_asking(void)
{
	reset_fates();
	enter(1, TH_SYN, 1000, 0);
	enter(2, TH_ACK, 1001, 0);
	enter(3, TH_ACK, 1001, 5);
	enter(4, TH_ACK | TH_FIN, 1006, 0);
	enter(5, TH_ACK | TH_RST, 1007, 5);
	packet_fates_settle(&fates, now, 0);
	CHECK(fates.count == 1 && fates.at[0].packets == 5 && fates.at[0].asking == 3);
	CHECK(!fates.at[0].translated);
}

/* At input it has another destination. */
static void test_translated(void)
{
	struct packet_trace_event e = { .ours = true, .hook = TRACE_INPUT };
	struct nl_msg *m = message(1, "t", "c");

	reset_fates();
	enter(1, TH_SYN, 1000, 0);
	put_packet(m, TH_SYN, 1000, 0);
	trace_message_parse(nlmsg_hdr(m), &e.message);
	packet_fates_note(&fates, &e, ++now, WALL);
	CHECK(!fates.flight[0].fate.translated);
	meet_rule(1, "nat", 12, NF_ACCEPT);
	meet_rule(1, "nat", 0, NF_ACCEPT); /* a policy does not translate */
	e.message.packet.destination.port = 3129;
	packet_fates_note(&fates, &e, ++now, WALL);
	nlmsg_free(m);
	pass(1, TRACE_INPUT, true);
	CHECK(fates.count == 1 && fates.at[0].end == END_SOCKET && fates.at[0].translated);
	CHECK(fates.at[0].redirected && fates.at[0].to.port == 3129);
	CHECK(fates.at[0].by.handle == 12);
	CHECK_TEXT(fates.at[0].by.table, "nat");
}

static void test_queued(void)
{
	reset_fates();
	enter(1, TH_SYN, 1000, 0);
	meet_rule(1, "filter", 9, NF_QUEUE);
	packet_fates_settle(&fates, now + 1000, 5000);
	CHECK(fates.count == 0);
	packet_fates_settle(&fates, now + 6000, 5000);
	CHECK(fates.count == 1 && fates.at[0].end == END_QUEUED && fates.at[0].at.handle == 9);
	/* One that the program gives back. */
	enter(1, TH_SYN, 1000, 0);
	meet_rule(1, "filter", 9, NF_QUEUE);
	pass(1, TRACE_PREROUTING, true);
	pass(1, TRACE_POSTROUTING, true);
	CHECK(fates.count == 2 && fates.at[1].end == END_LEFT && !*fates.at[1].at.table);
}

static void test_bounds(void)
{
	reset_fates();
	for (uint32_t id = 1; id <= 1000; id++) {
		enter(id, TH_ACK, 1000 * id, 1);
		meet_rule(id, "filter", id, NF_DROP);
	}
	CHECK(fates.count == PACKET_FATES_MAX && fates.more == 1000 - PACKET_FATES_MAX);
	reset_fates();
	for (uint32_t id = 1; id <= 1000; id++)
		enter(id, TH_ACK, 1000 * id, 1);
	CHECK(fates.count == 1 && fates.at[0].packets == 1000 - PACKET_FLIGHTS);
	packet_fates_settle(&fates, now, 0);
	CHECK(fates.count == 1 && fates.at[0].packets == 1000);
}

/* Sequence numbers wrap around. */
static void test_sequence(void)
{
	reset_fates();
	enter(1, TH_ACK, 0xfffffff0, 0x20);
	enter(2, TH_ACK, 0x10, 0x20);
	enter(3, TH_ACK, 0xfffffff0, 0x20);
	enter(4, TH_ACK, 0x30, 0); /* carries nothing */
	enter(5, TH_RST, 0x10, 0);
	packet_fates_settle(&fates, now, 0);
	CHECK(fates.count == 1 && fates.at[0].again == 1 && fates.at[0].resets == 1);
}

/* A VRF shows each packet as its member's, and once more as its own: nobody has sent it again. */
static void test_vrf(void)
{
	reset_fates();
	for (uint32_t id = 1; id <= 2; id++) {
		enters_by = id;
		enter(id, TH_SYN, 1000, 0);
		pass(id, TRACE_PREROUTING, true);
	}
	pass(2, TRACE_INPUT, true);
	enters_by = 1;
	enter(3, TH_SYN, 1000, 0);
	pass(3, TRACE_PREROUTING, true);
	enters_by = 0;
	packet_fates_settle(&fates, now, 0);
	CHECK(fates.count == 2 && fates.at[0].end == END_SOCKET && !fates.at[0].again);
	CHECK(fates.at[1].end == END_LOST && fates.at[1].packets == 2 && fates.at[1].again == 1);
}

int main(void)
{
	test_message();
	test_policy();
	test_fragment();
	test_ipv6();
	test_delivered();
	test_dropped();
	test_fragments();
	test_asking();
	test_translated();
	test_queued();
	test_bounds();
	test_sequence();
	test_vrf();
	return check_done();
}
