/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The longest prefix as text, with its brackets. */
#define PREFIX_MAX ENDPOINT_TEXT_MAX

/* Where the ports begin, or NULL: after a `]`, else after the only colon. */
static const char *find_ports(const char *text)
{
	const char *bracket = strchr(text, ']');
	const char *colon = strchr(bracket ? bracket : text, ':');

	if (!colon || (!bracket && strchr(colon + 1, ':')))
		return NULL;
	return colon;
}

/* The prefix without its brackets: `[2001:db8::]/32` and `[2001:db8::/32]` are `2001:db8::/32`. */
static void strip_brackets(char *prefix)
{
	char *to = prefix;

	for (const char *from = prefix; *from; from++)
		if (*from != '[' && *from != ']')
			*to++ = *from;
	*to = '\0';
}

static int append(struct reach_list *list, const struct reach *one, struct failure *why)
{
	struct reach *at = realloc(list->at, (list->count + 1) * sizeof(*at));

	if (!at)
		return report_refuse(why, "out of memory");
	list->at = at;
	at[list->count++] = *one;
	return 0;
}

int reach_parse(const char *text, struct reach_list *list, struct failure *why)
{
	const char *ports = find_ports(text);
	size_t length = ports ? (size_t)(ports - text) : strlen(text);
	struct reach one = { 0 };
	char prefix[PREFIX_MAX];

	if (length >= sizeof(prefix))
		return report_refuse(why, "not a CIDR[:PORTS]");
	memcpy(prefix, text, length);
	prefix[length] = '\0';
	strip_brackets(prefix);
	if (strcmp(prefix, "*") != 0 && endpoint_parse_cidr(prefix, &one.cidr, why) < 0)
		return -1;
	if ((ports && endpoint_parse_ports(ports + 1, &one.ports, why) < 0) ||
	    append(list, &one, why) < 0) {
		endpoint_ports_free(&one.ports);
		return -1;
	}
	return 0;
}

void reach_free(struct reach_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		endpoint_ports_free(&list->at[i].ports);
	free(list->at);
	*list = (struct reach_list){ 0 };
}

bool reach_holds(const struct reach_list *list, const struct endpoint *e)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct reach *one = &list->at[i];

		if (one->cidr.family != AF_UNSPEC && !endpoint_in_cidr(e, &one->cidr))
			continue;
		if (!one->ports.count || endpoint_port_in(e->port, &one->ports))
			return true;
	}
	return false;
}

int reach_option(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	return reach_parse(arg, field, why);
}
