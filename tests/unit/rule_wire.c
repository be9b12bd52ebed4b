/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules as the kernel tells them, in nft's JSON words, and what they ask for first. */
#include "firewall/rule_wire.h"
#include "check.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/xt_mark.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdbool.h>
#include <stdlib.h>

static struct nl_msg *message;

static void put(int type, uint32_t number)
{
	CHECK(!nla_put_u32(message, type, htonl(number)));
}

static void put_value(int type, const void *bytes, int size)
{
	struct nlattr *data = nla_nest_start(message, type);

	CHECK(data && !nla_put(message, NFTA_DATA_VALUE, size, bytes));
	nla_nest_end(message, data);
}

static struct nlattr *expression, *inner;

static void begin(const char *name)
{
	expression = nla_nest_start(message, NFTA_LIST_ELEM);
	CHECK(expression && !nla_put_string(message, NFTA_EXPR_NAME, name));
	inner = nla_nest_start(message, NFTA_EXPR_DATA);
	CHECK(inner != NULL);
}

static void end(void)
{
	nla_nest_end(message, inner);
	nla_nest_end(message, expression);
}

static void plain(const char *name)
{
	begin(name);
	end();
}

static void meta(uint32_t key)
{
	begin("meta");
	put(NFTA_META_KEY, key);
	put(NFTA_META_DREG, 1);
	end();
}

static void payload(uint32_t base, uint32_t offset, uint32_t size)
{
	begin("payload");
	put(NFTA_PAYLOAD_DREG, 1);
	put(NFTA_PAYLOAD_BASE, base);
	put(NFTA_PAYLOAD_OFFSET, offset);
	put(NFTA_PAYLOAD_LEN, size);
	end();
}

static void ct(uint32_t key)
{
	begin("ct");
	put(NFTA_CT_KEY, key);
	put(NFTA_CT_DREG, 1);
	end();
}

/* `& mask ^ change`, in register `reg`. */
static void bitwise(uint32_t reg, const void *mask, const void *change, int size)
{
	begin("bitwise");
	put(NFTA_BITWISE_SREG, reg);
	put(NFTA_BITWISE_DREG, reg);
	put(NFTA_BITWISE_LEN, (uint32_t)size);
	put_value(NFTA_BITWISE_MASK, mask, size);
	put_value(NFTA_BITWISE_XOR, change, size);
	end();
}

static void compare(uint32_t operation, const void *bytes, int size)
{
	begin("cmp");
	put(NFTA_CMP_SREG, 1);
	put(NFTA_CMP_OP, operation);
	put_value(NFTA_CMP_DATA, bytes, size);
	end();
}

static void is(uint8_t number)
{
	compare(NFT_CMP_EQ, &number, 1);
}

static void look_up(const char *set, uint32_t flags)
{
	begin("lookup");
	CHECK(!nla_put_string(message, NFTA_LOOKUP_SET, set));
	put(NFTA_LOOKUP_SREG, 1);
	put(NFTA_LOOKUP_FLAGS, flags);
	end();
}

static void verdict(int code, const char *chain)
{
	struct nlattr *data, *list;

	begin("immediate");
	put(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = nla_nest_start(message, NFTA_IMMEDIATE_DATA);
	list = nla_nest_start(message, NFTA_DATA_VERDICT);
	put(NFTA_VERDICT_CODE, (uint32_t)code);
	CHECK(!chain || !nla_put_string(message, NFTA_VERDICT_CHAIN, chain));
	nla_nest_end(message, list);
	nla_nest_end(message, data);
	end();
}

static void rule(void)
{
	nlmsg_free(message);
	message = nlmsg_alloc();
	CHECK(message && nlmsg_put(message, 0, 0, 0, 0, 0));
}

static struct rule_wire wire(uint8_t family)
{
	struct nlmsghdr *header = nlmsg_hdr(message);

	return (struct rule_wire){ family, nlmsg_data(header), nlmsg_datalen(header) };
}

/* The statements of the rule, in a table of that family; "-": it takes libnftables. */
static void says(uint8_t family, const char *expected)
{
	const struct rule_wire w = wire(family);
	json_t *statements = rule_wire_statements(&w);
	char *text = statements ? json_dumps(statements, JSON_COMPACT) : NULL;

	CHECK_TEXT(text ? text : "-", expected);
	free(text);
	json_decref(statements);
}

/* `saddr 10.0.0.0/24`, `dport 80 tcp`, `-`. */
static void asks(uint8_t family, const char *expected)
{
	const struct rule_wire w = wire(family);
	const struct first_match first = rule_wire_first(&w);
	char text[ENDPOINT_TEXT_MAX + 16] = "-", buf[ENDPOINT_TEXT_MAX];

	if (first.kind == FIRST_MATCH_ADDRESS)
		snprintf(text, sizeof(text), "%s %s", first.of_source ? "saddr" : "daddr",
			 endpoint_format_cidr(&first.cidr, buf));
	if (first.kind == FIRST_MATCH_PORT)
		snprintf(text, sizeof(text), "%s %u %s", first.of_source ? "sport" : "dport",
			 first.port, first.protocol == IPPROTO_TCP ? "tcp" : "udp");
	CHECK_TEXT(text, expected);
}

#define MATCH(op, left, right) \
	"{\"match\":{\"op\":\"" op "\",\"left\":" left ",\"right\":" right "}}"
#define FIELD(protocol, field) \
	"{\"payload\":{\"protocol\":\"" protocol "\",\"field\":\"" field "\"}}"
#define META(key)    "{\"meta\":{\"key\":\"" key "\"}}"
#define PREFIX(a, l) "{\"prefix\":{\"addr\":\"" a "\",\"len\":" l "}}"
#define DROP	     ",{\"drop\":null}]"

static const uint8_t none[16];

/* `ip saddr`, `ip daddr` of so many bytes. */
static void saddr(uint32_t size)
{
	payload(NFT_PAYLOAD_NETWORK_HEADER, 12, size);
}

static void daddr(uint32_t size)
{
	payload(NFT_PAYLOAD_NETWORK_HEADER, 16, size);
}

static void test_addresses(void)
{
	const uint8_t host[] = { 10, 0, 1, 200 }, net[] = { 10, 0, 1, 128 },
		      mask[] = { 255, 255, 255, 128 }, gaps[] = { 255, 0, 255, 0 };

	rule();
	saddr(4);
	compare(NFT_CMP_EQ, host, 4);
	verdict(NF_DROP, NULL);
	says(NFPROTO_IPV4, "[" MATCH("==", FIELD("ip", "saddr"), "\"10.0.1.200\"") DROP);
	asks(NFPROTO_IPV4, "saddr 10.0.1.200/32");
	/* Nobody has said that the packets are of IPv4. */
	says(NFPROTO_INET, "-");
	says(NFPROTO_IPV6, "-");
	asks(NFPROTO_INET, "-");
	says(NFPROTO_NETDEV, "-");
	says(NFPROTO_BRIDGE, "-");
	asks(NFPROTO_BRIDGE, "-");

	rule();
	daddr(3);
	compare(NFT_CMP_NEQ, host, 3);
	verdict(NF_DROP, NULL);
	says(NFPROTO_IPV4, "[" MATCH("!=", FIELD("ip", "daddr"), PREFIX("10.0.1.0", "24")) DROP);
	asks(NFPROTO_IPV4, "-");

	rule();
	daddr(3);
	compare(NFT_CMP_EQ, host, 3);
	asks(NFPROTO_IPV4, "daddr 10.0.1.0/24");

	rule();
	saddr(4);
	bitwise(1, mask, none, 4);
	compare(NFT_CMP_EQ, net, 4);
	verdict(NF_DROP, NULL);
	says(NFPROTO_IPV4, "[" MATCH("==", FIELD("ip", "saddr"), PREFIX("10.0.1.128", "25")) DROP);
	asks(NFPROTO_IPV4, "saddr 10.0.1.128/25");

	rule();
	saddr(4);
	bitwise(1, gaps, none, 4);
	compare(NFT_CMP_EQ, none, 4);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");

	rule();
	saddr(4);
	bitwise(1, mask, host, 4);
	compare(NFT_CMP_EQ, net, 4);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");

	/* What is compared is not what was loaded. */
	rule();
	saddr(4);
	bitwise(2, mask, none, 4);
	compare(NFT_CMP_EQ, net, 4);
	says(NFPROTO_IPV4, "-");

	/* Greater than; two fields at once. */
	rule();
	saddr(4);
	compare(NFT_CMP_GT, net, 4);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");
	rule();
	saddr(8);
	compare(NFT_CMP_EQ, none, 8);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");
}

static void test_v6(void)
{
	struct in6_addr address;

	rule();
	payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16);
	CHECK(inet_pton(AF_INET6, "2001:db8::1", &address) == 1);
	compare(NFT_CMP_EQ, &address, 16);
	verdict(NF_DROP, NULL);
	says(NFPROTO_IPV6, "[" MATCH("==", FIELD("ip6", "daddr"), "\"2001:db8::1\"") DROP);
	asks(NFPROTO_IPV6, "daddr 2001:db8::1/128");

	rule();
	payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 4);
	compare(NFT_CMP_EQ, &address, 4);
	verdict(NF_DROP, NULL);
	says(NFPROTO_IPV6, "[" MATCH("==", FIELD("ip6", "saddr"), PREFIX("2001:db8::", "32")) DROP);
	asks(NFPROTO_IPV6, "saddr 2001:db8::/32");

	/* No packet here has such an address, and rule_eval knows. */
	rule();
	payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 16);
	CHECK(inet_pton(AF_INET6, "::ffff:192.0.2.1", &address) == 1);
	compare(NFT_CMP_EQ, &address, 16);
	asks(NFPROTO_IPV6, "-");
}

static void ports(uint32_t offset, uint16_t port)
{
	const uint16_t number = htons(port);

	payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2);
	compare(NFT_CMP_EQ, &number, 2);
}

static void test_protocols(void)
{
	const uint8_t host[] = { 10, 0, 0, 1 };

	/* As nft says it: ip saddr 10.0.0.1 tcp dport 80 drop */
	rule();
	meta(NFT_META_NFPROTO);
	is(NFPROTO_IPV4);
	saddr(4);
	compare(NFT_CMP_EQ, host, 4);
	meta(NFT_META_L4PROTO);
	is(IPPROTO_TCP);
	ports(2, 80);
	verdict(NF_DROP, NULL);
	says(NFPROTO_INET, "[" MATCH("==", FIELD("ip", "saddr"), "\"10.0.0.1\"") "," MATCH(
				   "==", FIELD("tcp", "dport"), "80") DROP);
	asks(NFPROTO_INET, "saddr 10.0.0.1/32");

	/* As iptables does it. */
	rule();
	meta(NFT_META_L4PROTO);
	is(IPPROTO_UDP);
	saddr(4);
	compare(NFT_CMP_EQ, host, 4);
	ports(0, 53);
	verdict(NF_DROP, NULL);
	says(NFPROTO_IPV4,
	     "[" MATCH("==", META("l4proto"), "\"udp\"") "," MATCH(
		     "==", FIELD("ip", "saddr"),
		     "\"10.0.0.1\"") "," MATCH("==", FIELD("udp", "sport"), "53") DROP);
	asks(NFPROTO_IPV4, "saddr 10.0.0.1/32");

	/* The first match is only for IPv4, and nothing else in the rule says so. */
	rule();
	meta(NFT_META_NFPROTO);
	is(NFPROTO_IPV4);
	payload(NFT_PAYLOAD_NETWORK_HEADER, 9, 1);
	is(IPPROTO_TCP);
	ports(2, 22);
	verdict(NF_DROP, NULL);
	says(NFPROTO_INET, "[" MATCH("==", FIELD("ip", "protocol"),
				     "\"tcp\"") "," MATCH("==", FIELD("tcp", "dport"), "22") DROP);
	asks(NFPROTO_INET, "dport 22 tcp");

	rule();
	meta(NFT_META_NFPROTO);
	is(NFPROTO_IPV6);
	meta(NFT_META_L4PROTO);
	is(IPPROTO_TCP);
	ports(2, 22);
	verdict(NF_DROP, NULL);
	says(NFPROTO_INET, "[" MATCH("==", META("nfproto"),
				     "\"ipv6\"") "," MATCH("==", FIELD("tcp", "dport"), "22") DROP);
	asks(NFPROTO_INET, "dport 22 tcp");
}

/* A port of what; a protocol that is not named here; all but one. */
static void test_unknown_protocols(void)
{
	rule();
	ports(2, 22);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");
	rule();
	meta(NFT_META_L4PROTO);
	is(IPPROTO_SCTP);
	ports(2, 22);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");
	rule();
	meta(NFT_META_L4PROTO);
	compare(NFT_CMP_NEQ, (const uint8_t[]){ IPPROTO_TCP }, 1);
	ports(2, 22);
	says(NFPROTO_IPV4, "-");
	asks(NFPROTO_IPV4, "-");
}

static void test_others(void)
{
	const char name[IFNAMSIZ] = "eth0";
	const uint32_t states = NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_INVALID_BIT,
		       nothing = 0;

	rule();
	meta(NFT_META_IIFNAME);
	compare(NFT_CMP_EQ, name, IFNAMSIZ);
	meta(NFT_META_OIFNAME);
	compare(NFT_CMP_NEQ, name, 3);
	verdict(NFT_JUMP, "other");
	says(NFPROTO_INET,
	     "[" MATCH("==", META("iifname"), "\"eth0\"") "," MATCH(
		     "!=", META("oifname"), "\"eth*\"") ",{\"jump\":{\"target\":\"other\"}}]");
	asks(NFPROTO_INET, "-");

	rule();
	meta(NFT_META_IIFNAME);
	compare(NFT_CMP_EQ, "a*b", 4);
	says(NFPROTO_INET, "-");

	rule();
	ct(NFT_CT_STATE);
	bitwise(1, &states, none, 4);
	compare(NFT_CMP_NEQ, &nothing, 4);
	plain("counter");
	plain("log");
	plain("reject");
	says(NFPROTO_INET, "[" MATCH("in", "{\"ct\":{\"key\":\"state\"}}",
				     "[\"invalid\",\"established\"]") ",{\"counter\":null},{"
								      "\"log\":null},{\"reject\":"
								      "null}]");
	rule();
	ct(NFT_CT_STATE);
	compare(NFT_CMP_EQ, &states, 4);
	says(NFPROTO_INET, "-");
}

static void test_sets(void)
{
	rule();
	saddr(4);
	look_up("bad", 0);
	daddr(4);
	look_up("good", NFT_LOOKUP_F_INV);
	verdict(NFT_RETURN, NULL);
	says(NFPROTO_IPV4, "[" MATCH("==", FIELD("ip", "saddr"), "\"@bad\"") "," MATCH(
				   "!=", FIELD("ip", "daddr"), "\"@good\"") ",{\"return\":null}]");
	asks(NFPROTO_IPV4, "-");
	rule();
	saddr(4);
	look_up("__set0", 0);
	says(NFPROTO_IPV4, "-");
}

static void test_order(void)
{
	rule();
	plain("counter");
	saddr(4);
	compare(NFT_CMP_EQ, none, 4);
	verdict(NF_ACCEPT, NULL);
	says(NFPROTO_IPV4, "[{\"counter\":null}," MATCH("==", FIELD("ip", "saddr"),
							"\"0.0.0.0\"") ",{\"accept\":null}]");
	asks(NFPROTO_IPV4, "-");
	rule();
	verdict(NFT_GOTO, "c");
	says(NFPROTO_IPV4, "[{\"goto\":{\"target\":\"c\"}}]");
	rule();
	meta(NFT_META_MARK);
	compare(NFT_CMP_EQ, none, 4);
	says(NFPROTO_IPV4, "-");
	rule();
	plain("tproxy");
	says(NFPROTO_IPV4, "-");
	rule();
	says(NFPROTO_IPV4, "[]");
	asks(NFPROTO_IPV4, "-");
}

/* What is decoded is in xtables' test. */
static void test_extensions(void)
{
	const struct xt_mark_mtinfo1 mark = { .mark = 1, .mask = 3 };

	rule();
	begin("match");
	CHECK(!nla_put_string(message, NFTA_MATCH_NAME, "mark"));
	CHECK(!nla_put(message, NFTA_MATCH_INFO, sizeof(mark), &mark));
	end();
	begin("target");
	CHECK(!nla_put_string(message, NFTA_TARGET_NAME, "LOG"));
	CHECK(!nla_put(message, NFTA_TARGET_INFO, sizeof(mark), &mark));
	end();
	says(NFPROTO_IPV4, "[" MATCH("==", "{\"&\":[{\"meta\":{\"key\":\"mark\"}},3]}",
				     "1") ",{\"xt\":{\"type\":\"target\",\"name\":\"LOG\"}}]");
}

/* Of a rule in a buffer of just its size, so that who reads on is caught. Is it told? */
static bool tells_of(int size)
{
	struct rule_wire w = wire(NFPROTO_IPV4);
	char *bytes = malloc((size_t)size + !size);
	json_t *statements;

	CHECK(bytes != NULL);
	memcpy(bytes, w.data, (size_t)size);
	w.data = bytes;
	w.size = size;
	statements = rule_wire_statements(&w);
	rule_wire_first(&w);
	json_decref(statements);
	free(bytes);
	return statements;
}

/* What the kernel does not tell: expressions that are cut off, names without an end. */
static void test_hostile(void)
{
	int match, whole;

	rule();
	saddr(4);
	look_up("bad", 0);
	match = wire(NFPROTO_IPV4).size;
	verdict(NFT_JUMP, "other");
	whole = wire(NFPROTO_IPV4).size;
	for (int size = 0; size <= whole; size++)
		CHECK(tells_of(size) == (size == 0 || size == match || size == whole));

	rule();
	saddr(4);
	begin("lookup");
	CHECK(!nla_put(message, NFTA_LOOKUP_SET, 4, "evil"));
	put(NFTA_LOOKUP_SREG, 1);
	end();
	says(NFPROTO_IPV4, "-");

	rule();
	begin("match");
	CHECK(!nla_put(message, NFTA_MATCH_NAME, 4, "mark"));
	CHECK(!nla_put(message, NFTA_MATCH_INFO, sizeof(none), none));
	end();
	says(NFPROTO_IPV4, "-");
}

int main(void)
{
	test_addresses();
	test_v6();
	test_protocols();
	test_unknown_protocols();
	test_others();
	test_sets();
	test_order();
	test_extensions();
	test_hostile();
	nlmsg_free(message);
	return check_done();
}
