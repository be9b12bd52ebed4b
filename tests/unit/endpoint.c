/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/endpoint.h"
#include "check.h"

#include <arpa/inet.h>

static struct failure why;

/* Parsed and printed again: the text itself unless said otherwise. */
static void round_trip(const char *text, const char *expected)
{
	char buf[ENDPOINT_TEXT_MAX];
	struct endpoint e;

	CHECK(endpoint_parse(text, &e, &why) == 0);
	CHECK_TEXT(endpoint_format(&e, buf), expected);
}

static void refused(const char *text, const char *reason)
{
	struct endpoint e;

	CHECK(endpoint_parse(text, &e, &why) == -1);
	CHECK_TEXT(why.detail, reason);
}

static void test_endpoints(void)
{
	static const char *const form = "not an endpoint like 192.0.2.1:80 or [2001:db8::1]:80";

	round_trip("192.0.2.1:80", "192.0.2.1:80");
	round_trip("[2001:db8::1]:65535", "[2001:db8::1]:65535");
	round_trip("[2001:DB8:0:0::1]:1", "[2001:db8::1]:1");
	round_trip("[fe80::1%lo]:80", "[fe80::1%lo]:80");
	round_trip("[::ffff:192.0.2.1]:80", "192.0.2.1:80"); /* one connection, one spelling */
	refused("", form);
	refused("80", form);
	refused("2001:db8::1:80", form);
	refused("[2001:db8::1]80", form);
	refused("[2001:db8::1", form);
	refused("[192.0.2.1]:80", "brackets are for IPv6 addresses");
	refused("192.0.2.1:0", "'0' is not a port from 1 to 65535");
	refused("192.0.2.1:65536", "'65536' is not a port from 1 to 65535");
	refused("192.0.2.1:", "'' is not a port from 1 to 65535");
	refused("192.0.2.1:-1", "'-1' is not a port from 1 to 65535");
	refused("192.0.2.1: 80", "' 80' is not a port from 1 to 65535");
	refused("example.org:80", "'example.org' is not an IPv4 or IPv6 address");
	refused("192.0.2.256:80", "'192.0.2.256' is not an IPv4 or IPv6 address");
	refused("[2001:db8::1%lo]:80", "only a link-local address takes %lo");
	refused("[fe80::1%nowhere]:80", "no interface 'nowhere'");
}

static void listens(const char *text, enum endpoint_bare bare, const char *first,
		    const char *second)
{
	struct endpoint_list list = { 0 };
	char buf[ENDPOINT_TEXT_MAX];

	CHECK(endpoint_parse_listener(text, bare, &list, &why) == 0);
	CHECK(list.count == (second ? 2 : 1));
	CHECK_TEXT(endpoint_format(&list.at[0], buf), first);
	if (second && list.count == 2)
		CHECK_TEXT(endpoint_format(&list.at[1], buf), second);
	endpoint_list_free(&list);
}

static void test_listeners(void)
{
	struct endpoint_list list = { 0 };

	listens("3129", ENDPOINT_BARE_LOOPBACK, "127.0.0.1:3129", "[::1]:3129");
	listens("3129", ENDPOINT_BARE_ANY, "*:3129", "[::]:3129");
	listens("*:3129", ENDPOINT_BARE_LOOPBACK, "*:3129", "[::]:3129");
	listens("[::]:3129", ENDPOINT_BARE_LOOPBACK, "[::]:3129", NULL);
	CHECK(endpoint_parse_listener("0", ENDPOINT_BARE_ANY, &list, &why) == -1);
	CHECK(endpoint_parse_listener("", ENDPOINT_BARE_ANY, &list, &why) == -1);
	CHECK(endpoint_parse_listener("*:", ENDPOINT_BARE_ANY, &list, &why) == -1);
	CHECK(list.count == 0);
	endpoint_list_free(&list);
}

static void cidr_refused(const char *text, const char *reason)
{
	struct cidr c;

	CHECK(endpoint_parse_cidr(text, &c, &why) == -1);
	CHECK_TEXT(why.detail, reason);
}

static void test_cidr_forms(void)
{
	char buf[ENDPOINT_TEXT_MAX];
	struct cidr c;

	CHECK(endpoint_parse_cidr("192.0.2.0/24", &c, &why) == 0);
	CHECK_TEXT(endpoint_format_cidr(&c, buf), "192.0.2.0/24");
	CHECK(endpoint_parse_cidr("2001:db8::1", &c, &why) == 0);
	CHECK_TEXT(endpoint_format_cidr(&c, buf), "2001:db8::1/128");
	CHECK(endpoint_parse_cidr("0.0.0.0/0", &c, &why) == 0);
	cidr_refused("192.0.2.1/24", "has host bits set; the network is 192.0.2.0/24");
	cidr_refused("192.0.2.0/33", "/33 is not a prefix length from 0 to 32");
	cidr_refused("2001:db8::/", "/ is not a prefix length from 0 to 128");
	cidr_refused("192.0.2/24", "'192.0.2' is not an IPv4 or IPv6 address");
}

static bool inside(const char *address, const char *prefix)
{
	struct endpoint e;
	struct cidr c;

	CHECK(endpoint_parse_address(address, &e, &why) == 0);
	CHECK(endpoint_parse_cidr(prefix, &c, &why) == 0);
	return endpoint_in_cidr(&e, &c);
}

static void test_cidr_membership(void)
{
	CHECK(inside("192.0.2.255", "192.0.2.0/24"));
	CHECK(!inside("192.0.3.0", "192.0.2.0/24"));
	CHECK(inside("192.0.2.129", "192.0.2.128/25"));
	CHECK(!inside("192.0.2.127", "192.0.2.128/25"));
	CHECK(inside("203.0.113.9", "0.0.0.0/0"));
	CHECK(!inside("2001:db8::1", "0.0.0.0/0"));
	CHECK(inside("2001:db8:1::1", "2001:db8::/31"));
	CHECK(!inside("2001:dba::1", "2001:db8::/31"));
	CHECK(inside("2001:db8::1", "2001:db8::1/128"));
}

/* A comma list of prefixes, merged. */
static struct cidr_list merged(const char *prefixes)
{
	char copy[256], *save = NULL;
	struct cidr_list list = { 0 };
	struct cidr c;

	strcpy(copy, prefixes);
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		CHECK(endpoint_parse_cidr(p, &c, &why) == 0);
		CHECK(endpoint_cidr_add(&list, &c, &why) == 0);
	}
	endpoint_cidr_merge(&list);
	return list;
}

/* The same as a comma list again. */
static void merges(const char *prefixes, const char *expected)
{
	char text[256] = "", buf[ENDPOINT_TEXT_MAX];
	struct cidr_list list = merged(prefixes);

	for (size_t i = 0; i < list.count; i++) {
		strcat(text, i ? "," : "");
		strcat(text, endpoint_format_cidr(&list.at[i], buf));
	}
	CHECK_TEXT(text, expected);
	endpoint_cidr_free(&list);
}

static void test_cidr_merge(void)
{
	merges("", "");
	merges("10.0.0.0/8,10.1.0.0/16", "10.0.0.0/8");
	merges("10.1.0.0/16,10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8");
	merges("192.0.2.0/25,192.0.2.128/25", "192.0.2.0/24");
	merges("192.0.2.128/25,192.0.3.0/25", "192.0.2.128/25,192.0.3.0/25"); /* no halves of one */
	merges("10.0.0.0/10,10.64.0.0/10,10.128.0.0/9", "10.0.0.0/8");
	merges("::/1,8000::/1,0.0.0.0/0", "0.0.0.0/0,::/0");
	merges("0.0.0.0/1,128.0.0.0/1", "0.0.0.0/0");
}

/* Is the address in the merged list, as both ways of looking say? */
static void in_merged(const char *prefixes, const char *address, bool expected)
{
	struct cidr_list list = merged(prefixes);
	struct endpoint e;

	CHECK(endpoint_parse_address(address, &e, &why) == 0);
	CHECK(endpoint_in_merged(&e, &list) == expected);
	CHECK(endpoint_in_cidrs(&e, &list) == expected);
	endpoint_cidr_free(&list);
}

static void test_merged_membership(void)
{
	const char *const some = "10.0.0.0/8,192.0.2.1,192.0.2.3,255.255.255.255,::1,2001:db8::/32";

	in_merged("", "192.0.2.1", false);
	in_merged(some, "9.255.255.255", false);
	in_merged(some, "10.0.0.0", true);
	in_merged(some, "10.255.255.255", true);
	in_merged(some, "11.0.0.0", false);
	in_merged(some, "192.0.2.1", true);
	in_merged(some, "192.0.2.2", false);
	in_merged(some, "192.0.2.3", true);
	in_merged(some, "255.255.255.255", true);
	in_merged(some, "::", false);
	in_merged(some, "::1", true);
	in_merged(some, "2001:db8:ffff::", true);
	in_merged(some, "2001:db9::", false);
	in_merged("0.0.0.0/0", "::1", false);
	in_merged("0.0.0.0/0,::/0", "ffff::", true);
}

static void ports(const char *text, const char *expected)
{
	struct port_list list = { 0 };
	char out[256] = "";

	CHECK(endpoint_parse_ports(text, &list, &why) == 0);
	for (size_t i = 0; i < list.count; i++)
		sprintf(out + strlen(out), "%s%u-%u", i ? "," : "", list.at[i].first,
			list.at[i].last);
	CHECK_TEXT(out, expected);
	endpoint_ports_free(&list);
}

static void ports_refused(const char *text, const char *reason)
{
	struct port_list list = { 0 };

	CHECK(endpoint_parse_ports(text, &list, &why) == -1);
	CHECK_TEXT(why.detail, reason);
	endpoint_ports_free(&list);
}

static void test_ports(void)
{
	struct port_list list = { 0 };

	ports("80", "80-80");
	ports("443,80,8000-8100", "80-80,443-443,8000-8100");
	ports("80,81,82", "80-82");
	ports("1-10,5-6,10-20", "1-20");
	ports("65535,1-65535", "1-65535");
	ports_refused("", "not a port list like 80,443,8000-8100");
	ports_refused("80,", "not a port list like 80,443,8000-8100");
	ports_refused("0", "'0' is not a port from 1 to 65535");
	ports_refused("90-80", "range 90-80 runs backwards");
	ports_refused("80-", "'' is not a port from 1 to 65535");
	CHECK(endpoint_parse_ports("80,100-200", &list, &why) == 0);
	CHECK(endpoint_port_in(80, &list) && endpoint_port_in(200, &list));
	CHECK(!endpoint_port_in(81, &list) && !endpoint_port_in(201, &list));
	endpoint_ports_free(&list);
}

static void test_sockaddrs(void)
{
	struct endpoint a = { 0 }, b;
	union endpoint_sockaddr sa;
	socklen_t length;

	CHECK(endpoint_parse("[2001:db8::1]:443", &a, &why) == 0);
	length = endpoint_to_sockaddr(&a, &sa);
	b = endpoint_from_sockaddr(&sa, length);
	CHECK(endpoint_equal(&a, &b));
	CHECK(endpoint_hash(&a, 1) == endpoint_hash(&b, 1));
	CHECK(endpoint_hash(&a, 1) != endpoint_hash(&a, 2));
	b.port++;
	CHECK(!endpoint_equal(&a, &b) && endpoint_same_address(&a, &b));
	CHECK(endpoint_compare(&a, &b) < 0 && endpoint_compare(&b, &a) > 0);
	b = endpoint_from_sockaddr(&sa, 2);
	CHECK(!endpoint_is_set(&b));
	CHECK(endpoint_to_sockaddr(&b, &sa) == 0);
}

int main(void)
{
	test_endpoints();
	test_listeners();
	test_cidr_forms();
	test_cidr_membership();
	test_cidr_merge();
	test_merged_membership();
	test_ports();
	test_sockaddrs();
	return check_done();
}
