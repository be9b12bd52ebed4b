/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/match.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_FORMS "CIDR[:PORTS], as 192.0.2.0/24:80,443 or [2001:db8::/32]:80"

/*
 * Find where the ports begin: after `]:`, after the colon that follows a /LENGTH, or after the only
 * colon. Returns NULL if there are none. *start and *length are the prefix.
 */
static const char *split(const char *text, const char **start, size_t *length)
{
	const char *slash = strchr(text, '/'), *colon;

	*start = text;
	if (*text == '[') {
		*start = text + 1;
		*length = strcspn(*start, "]");
		colon = (*start)[*length] ? *start + *length + 1 : NULL;
		return colon && *colon == ':' ? colon + 1 : colon && *colon ? colon : NULL;
	}
	colon = strchr(slash ? slash : text, ':');
	if (colon && !slash && strchr(colon + 1, ':'))
		colon = NULL; /* an IPv6 address without ports */
	*length = colon ? (size_t)(colon - text) : strlen(text);
	return colon ? colon + 1 : NULL;
}

static int parse(const char *text, struct match *out, struct failure *why)
{
	char prefix[ENDPOINT_TEXT_MAX];
	const char *start, *ports;
	size_t length;

	*out = (struct match){ 0 };
	ports = split(text, &start, &length);
	if (length >= sizeof(prefix) || (*text == '[' && start[length] != ']'))
		return report_refuse(why, "must be " MATCH_FORMS);
	snprintf(prefix, sizeof(prefix), "%.*s", (int)length, start);
	if (strcmp(prefix, "*") != 0 && endpoint_parse_cidr(prefix, &out->cidr, why) < 0)
		return -1;
	if (ports && endpoint_parse_ports(ports, &out->ports, why) < 0) {
		endpoint_ports_free(&out->ports);
		return -1;
	}
	return 0;
}

int match_list_add(struct match_list *list, const char *text, struct failure *why)
{
	struct match *grown, one;

	if (parse(text, &one, why) < 0)
		return -1;
	grown = realloc(list->at, (list->count + 1) * sizeof(*grown));
	if (!grown) {
		endpoint_ports_free(&one.ports);
		return report_fail(why, ENOMEM, "malloc", "%s", text);
	}
	list->at = grown;
	list->at[list->count++] = one;
	return 0;
}

void match_list_free(struct match_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		endpoint_ports_free(&list->at[i].ports);
	free(list->at);
	*list = (struct match_list){ 0 };
}

bool match_has(const struct match *one, const struct endpoint *e)
{
	return (one->cidr.family == AF_UNSPEC || endpoint_in_cidr(e, &one->cidr)) &&
	       (!one->ports.count || endpoint_port_in(e->port, &one->ports));
}

const struct match *match_list_find(const struct match_list *list, const struct endpoint *e)
{
	for (size_t i = 0; i < list->count; i++)
		if (match_has(&list->at[i], e))
			return &list->at[i];
	return NULL;
}

bool match_list_has(const struct match_list *list, const struct endpoint *e)
{
	return match_list_find(list, e) != NULL;
}

const char *match_format(const struct match *one, char *buf, size_t size)
{
	char text[ENDPOINT_TEXT_MAX];
	bool brackets = one->cidr.family == AF_INET6 && one->ports.count;
	size_t used;

	if (one->cidr.family == AF_UNSPEC)
		snprintf(text, sizeof(text), "*");
	else
		endpoint_format_cidr(&one->cidr, text);
	used = (size_t)snprintf(buf, size, brackets ? "[%s]" : "%s", text);
	for (size_t i = 0; i < one->ports.count && used < size; i++) {
		const struct port_range *r = &one->ports.at[i];

		if (used + sizeof(",65535-65535,...") > size) {
			snprintf(buf + used, size - used, "...");
			break;
		}
		used += (size_t)snprintf(buf + used, size - used,
					 r->first == r->last ? "%s%u" : "%s%u-%u", i ? "," : ":",
					 r->first, r->last);
	}
	return buf;
}

static bool covers_ports(const struct port_list *list, const struct port_list *ports)
{
	static struct port_range every[] = { { 1, 65535 } };
	static const struct port_list all = { every, 1 };
	const struct port_list *asked = ports->count ? ports : &all;

	for (size_t i = 0; i < asked->count && list->count; i++) {
		size_t at = 0;

		while (at < list->count && list->at[at].last < asked->at[i].last)
			at++;
		if (at == list->count || list->at[at].first > asked->at[i].first)
			return false;
	}
	return true;
}

static bool covers(const struct match *wide, const struct match *one)
{
	struct endpoint first = { .family = one->cidr.family };

	memcpy(&first.addr, &one->cidr.addr, sizeof(first.addr));
	if (wide->cidr.family != AF_UNSPEC &&
	    (wide->cidr.length > one->cidr.length || !endpoint_in_cidr(&first, &wide->cidr)))
		return false;
	return covers_ports(&wide->ports, &one->ports);
}

bool match_list_covers(const struct match_list *list, const struct match *one)
{
	struct match each = *one;

	if (one->cidr.family == AF_UNSPEC) {
		each.cidr.family = AF_INET;
		if (!match_list_covers(list, &each))
			return false;
		each.cidr.family = AF_INET6;
	}
	for (size_t i = 0; i < list->count; i++)
		if (covers(&list->at[i], &each))
			return true;
	return false;
}

int match_option(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	return match_list_add(field, arg, why);
}
