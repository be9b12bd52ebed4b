/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/first_match.h"

#include "base/json_text.h"
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* `192.0.2.1`, or {"prefix": {"addr": "192.0.2.0", "len": 24}}. */
static bool read_address(const json_t *right, sa_family_t family, struct cidr *out)
{
	const json_t *prefix = json_object_get(right, "prefix");
	char text[ENDPOINT_TEXT_MAX];

	if (prefix)
		snprintf(text, sizeof(text), "%s/%lld", json_text(prefix, "addr"),
			 (long long)json_integer_value(json_object_get(prefix, "len")));
	else
		snprintf(text, sizeof(text), "%s",
			 json_is_string(right) ? json_string_value(right) : "");
	return !endpoint_parse_cidr(text, out, NULL) && out->family == family;
}

static struct first_match of_address(const char *protocol, const char *field, const json_t *right)
{
	struct first_match first = { .of_source = !strcmp(field, "saddr") };

	if ((first.of_source || !strcmp(field, "daddr")) &&
	    read_address(right, strcmp(protocol, "ip") ? AF_INET6 : AF_INET, &first.cidr))
		first.kind = FIRST_MATCH_ADDRESS;
	return first;
}

static struct first_match of_port(const char *protocol, const char *field, const json_t *right)
{
	json_int_t port = json_integer_value(right);
	struct first_match first = { .of_source = !strcmp(field, "sport"),
				     .protocol = !strcmp(protocol, "tcp")   ? IPPROTO_TCP
						 : !strcmp(protocol, "udp") ? IPPROTO_UDP
									    : 0,
				     .port = (uint16_t)port };

	if ((first.of_source || !strcmp(field, "dport")) && json_is_integer(right) && port >= 0 &&
	    port <= UINT16_MAX)
		first.kind = FIRST_MATCH_PORT;
	return first;
}

struct first_match first_match_of(const json_t *rule)
{
	const json_t *statement = json_array_get(json_object_get(rule, "expr"), 0);
	const json_t *match = json_object_get(statement, "match");
	const json_t *payload = json_object_get(json_object_get(match, "left"), "payload");
	const json_t *right = json_object_get(match, "right");
	const char *protocol = json_text(payload, "protocol"), *field = json_text(payload, "field");

	if (strcmp(json_text(match, "op"), "==") != 0)
		return (struct first_match){ FIRST_MATCH_OTHER };
	if (!strcmp(protocol, "ip") || !strcmp(protocol, "ip6"))
		return of_address(protocol, field, right);
	if (!strcmp(protocol, "tcp") || !strcmp(protocol, "udp") || !strcmp(protocol, "th"))
		return of_port(protocol, field, right);
	return (struct first_match){ FIRST_MATCH_OTHER };
}

bool first_match_fails(const struct first_match *first, uint8_t protocol,
		       const struct endpoint *source, const struct endpoint *destination)
{
	const struct endpoint *end = first->of_source ? source : destination;

	switch (first->kind) {
	case FIRST_MATCH_ADDRESS:
		return !endpoint_in_cidr(end, &first->cidr);
	case FIRST_MATCH_PORT:
		return end->port != first->port || (first->protocol && first->protocol != protocol);
	default:
		return false;
	}
}
