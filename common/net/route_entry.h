/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * route_entry - a routing rule or a route from the kernel's dump.
 *
 * A rule of ours has a mark and a table and nothing else, or, for answers, the loopback addresses
 * as source, `iif lo` and a table; a route of ours is `local default dev lo`. If another program
 * adds anything to either (a source, an interface, `not`, a metric), it is no longer the same.
 */
#ifndef TPROXY_NET_ROUTE_ENTRY_H
#define TPROXY_NET_ROUTE_ENTRY_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include <linux/netlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

/* Longest description, with its \0. */
#define ROUTE_ENTRY_TEXT_MAX 240

/* One family's rule and route. */
struct route_plan {
	sa_family_t family;
	struct mark mark;
	uint32_t table, pref;
	bool answers; /* also the rule for packets from this host's loopback addresses to others */
};

/* A rule's conditions besides the mark. */
struct route_selector {
	struct cidr source, destination;	      /* family 0: any */
	char iif[IFNAMSIZ];			      /* "": any; `lo`: also what this host sends */
	uint8_t protocol;			      /* 0: any */
	uint16_t source_port[2], destination_port[2]; /* first and last; 0: any */
	bool has_uid;
	uint32_t uid[2];
	bool other; /* one that is not here: tos, oif, ... */
};

struct route_entry {
	struct route_plan plan; /* of a route: only family and table; answers: it is that rule */
	uint8_t protocol, type;
	uint8_t action, dst_length; /* of a rule; of a route */
	uint32_t oif;
	struct endpoint dst;
	bool narrow, inverted;		/* of a rule: conditions besides the mark; `not` */
	struct route_selector selector; /* of a rule */
	bool plain;			/* nothing that ours do not have */
};

/* The loopback addresses: 127.0.0.0/8, ::1/128. */
struct cidr route_entry_loopback(sa_family_t family);

/* Parse an RTM_NEWRULE or RTM_NEWROUTE message; false: it is neither, or broken. */
bool route_entry_read_rule(struct nlmsghdr *message, struct route_entry *e);
bool route_entry_read_route(struct nlmsghdr *message, struct route_entry *e);

/* Roughly what ip-rule(8) and ip-route(8) print, shortened to fit. Returns buf. */
const char *route_entry_describe(struct nlmsghdr *message, char buf[ROUTE_ENTRY_TEXT_MAX]);

/* A 32-bit attribute if it is there, else the fallback. */
struct nlattr;
uint32_t route_entry_u32(const struct nlattr *attribute, uint32_t otherwise);

/* Store an address attribute in an endpoint without port; the endpoint is unchanged if the
 * attribute is missing. */
void route_entry_read_address(struct endpoint *out, sa_family_t family,
			      const struct nlattr *attribute);

#endif
