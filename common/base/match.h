/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * match - CIDR[:PORTS], which selects endpoints.
 */
#ifndef TPROXY_BASE_MATCH_H
#define TPROXY_BASE_MATCH_H

#include "base/endpoint.h"
#include "base/options.h"
#include <stdbool.h>
#include <stddef.h>

struct match {
	struct cidr cidr;	/* AF_UNSPEC: any address */
	struct port_list ports; /* empty: any port */
};

/* A zeroed one is empty. The owner calls match_list_free(). */
struct match_list {
	struct match *at;
	size_t count;
};

/*
 * Add `192.0.2.0/24`, `192.0.2.0/24:80,443`, `2001:db8::/32:80`, `[2001:db8::1]:80`, or `*:80` for
 * any address. An IPv6 address with ports needs its /LENGTH or brackets. Returns 0, or -1 with *why
 * saying what would be right.
 */
int match_list_add(struct match_list *list, const char *text, struct failure *why);
void match_list_free(struct match_list *list);

/* The text that match_list_add() parses, shortened with `...` to fit: `10.0.0.0/8:80,443`. Returns
 * buf. */
const char *match_format(const struct match *one, char *buf, size_t size);

/* Does this entry select the endpoint; which entry of the list does (NULL: none); does any? An
 * empty list selects nothing. */
bool match_has(const struct match *one, const struct endpoint *e);
const struct match *match_list_find(const struct match_list *list, const struct endpoint *e);
bool match_list_has(const struct match_list *list, const struct endpoint *e);

/* Does one entry of the list select everything that `one` does? Two entries that cover it only
 * together are not recognised, except an `any address' in both families. */
bool match_list_covers(const struct match_list *list, const struct match *one);

/* For option tables. Field: struct match_list; accumulates. */
option_setter match_option;

#endif
