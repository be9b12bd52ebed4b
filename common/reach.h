/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reach - `CIDR[:PORTS]`: the endpoints that an option speaks of (--local, --peer, --allow-dst).
 *
 * Written `192.0.2.0/24`, `192.0.2.7:80,443`, `2001:db8::/32`, `[2001:db8::/32]:80` (also
 * `[2001:db8::]/32:80`), and `*:22` for any address of both families.
 */
#ifndef TPROXY_REACH_H
#define TPROXY_REACH_H

#include <stdbool.h>
#include <stddef.h>
#include "endpoint.h"
#include "options.h"
#include "report.h"

/* One of them. A prefix of family AF_UNSPEC is any address, an empty port list any port. */
struct reach {
	struct cidr cidr;
	struct port_list ports;
};

/* A growing list; a zeroed one is empty. The owner calls reach_free(). */
struct reach_list {
	struct reach *at;
	size_t count;
};

/* Parse one and append it. Returns 0, or -1 with *why->detail saying what would be right. */
int reach_parse(const char *text, struct reach_list *list, struct failure *why);
void reach_free(struct reach_list *list);

/* Is the endpoint one of them? An empty list holds nothing. */
bool reach_holds(const struct reach_list *list, const struct endpoint *e);

/* For option tables; the field is a struct reach_list, which accumulates. */
option_setter reach_option;

#endif
