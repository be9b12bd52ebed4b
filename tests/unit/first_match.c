/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a rule asks of a packet first: recognised only if evaluating the rule would end the same
 * way. */
#include "firewall/first_match.h"
#include "check.h"
#include <netinet/in.h>

static struct endpoint at(const char *text)
{
	struct endpoint e;
	struct failure why;

	CHECK(endpoint_parse(text, &e, &why) == 0);
	return e;
}

static struct first_match of(const char *statement)
{
	json_t *rule = json_pack("{s:[o]}", "expr", json_loads(statement, 0, NULL));
	struct first_match first = first_match_of(rule);

	json_decref(rule);
	return first;
}

/* "-": any rule may match; else whether it ends for a TCP packet 192.0.2.2:40000 -> 198.51.100.2:80
 * and for the same of UDP. */
static const char *fails(const char *protocol, const char *field, const char *op, const char *right)
{
	const struct endpoint from = at("192.0.2.2:40000"), to = at("198.51.100.2:80");
	struct first_match first;
	char text[256];

	snprintf(text, sizeof(text),
		 "{\"match\":{\"op\":\"%s\",\"left\":{\"payload\":{\"protocol\":\"%s\",\"field\":"
		 "\"%s\"}},"
		 "\"right\":%s}}",
		 op, protocol, field, right);
	first = of(text);
	if (first.kind == FIRST_MATCH_OTHER)
		return "-";
	return first_match_fails(&first, IPPROTO_TCP, &from, &to)   ? "both"
	       : first_match_fails(&first, IPPROTO_UDP, &from, &to) ? "udp"
								    : "none";
}

int main(void)
{
	CHECK_TEXT(fails("ip", "saddr", "==", "\"192.0.2.2\""), "none");
	CHECK_TEXT(fails("ip", "saddr", "==", "\"192.0.2.3\""), "both");
	CHECK_TEXT(
		fails("ip", "daddr", "==", "{\"prefix\":{\"addr\":\"198.51.100.0\",\"len\":24}}"),
		"none");
	CHECK_TEXT(fails("ip", "daddr", "==", "{\"prefix\":{\"addr\":\"192.0.2.0\",\"len\":24}}"),
		   "both");
	CHECK_TEXT(fails("ip6", "saddr", "==", "\"2001:db8::2\""), "both");
	CHECK_TEXT(fails("tcp", "dport", "==", "80"), "udp");
	CHECK_TEXT(fails("th", "dport", "==", "80"), "none");
	CHECK_TEXT(fails("udp", "sport", "==", "40000"), "both");
	CHECK_TEXT(fails("th", "sport", "==", "80"), "both");
	CHECK_TEXT(fails("ip", "saddr", "!=", "\"192.0.2.3\""), "-");
	CHECK_TEXT(fails("ip", "saddr", "==", "\"@s\""), "-");
	CHECK_TEXT(fails("ip", "protocol", "==", "\"udp\""), "-");
	CHECK_TEXT(fails("ip6", "saddr",
			 "==", "{\"prefix\":{\"addr\":\"::ffff:0.0.0.0\",\"len\":96}}"),
		   "-");
	CHECK_TEXT(fails("ip6", "saddr", "==", "\"::ffff:192.0.2.3\""), "-");
	CHECK_TEXT(fails("tcp", "dport", "==", "65616"), "-");
	CHECK_TEXT(fails("tcp", "dport", "==", "{\"range\":[1,2]}"), "-");
	CHECK_TEXT(fails("ether", "saddr", "==", "\"02:00:00:00:00:01\""), "-");
	CHECK(of("{\"drop\":null}").kind == FIRST_MATCH_OTHER);
	return check_done();
}
