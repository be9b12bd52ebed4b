/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * predicate - which packets a specification matches, and why it does not match one.
 */
#ifndef TPROXY_INTERCEPT_PREDICATE_H
#define TPROXY_INTERCEPT_PREDICATE_H

#include "base/endpoint.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/* Can one packet be in both predicates? */
bool predicate_overlaps(const struct intercept *a, const struct intercept *b);

/* Is the packet of a connection client -> destination in the predicate (ignoring device, mark and
 * protocol)? */
bool predicate_matches(const struct intercept *spec, const struct endpoint *client,
		       const struct endpoint *destination);

/* A connection's first packet as our rules see it. */
struct predicate_packet {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0: any */
	struct endpoint client, destination;
	const char *iif; /* its input interface; NULL: any, or none */
	uint32_t mark;
	bool marked; /* the mark is known */
	bool own;    /* this host opens the connection */
	bool here;   /* its destination is this host, or a group */
};

/* The terms of a specification, in the order in which a packet is checked. */
enum predicate_term {
	PREDICATE_TAKES, /* none excludes it */
	PREDICATE_DIVERT_ONLY,
	PREDICATE_FAMILY,
	PREDICATE_PROTOCOL,
	PREDICATE_LOCAL,
	PREDICATE_PORT,
	PREDICATE_NOT_PORT,
	PREDICATE_MARK,	    /* it already has the intercept mark, */
	PREDICATE_UPSTREAM, /* or that of the upstream leg */
	PREDICATE_IIF,
	PREDICATE_NOT_MARK,
	PREDICATE_HERE, /* its destination is this host's own */
	PREDICATE_SRC,
	PREDICATE_DST,
	PREDICATE_NOT_SRC,
	PREDICATE_NOT_DST,
};

/* Longest text of a term, with its \0. */
#define PREDICATE_TEXT_MAX 240

/* The first term that excludes the packet, with an explanation in text (may be NULL): `port 443 is
 * not among 80,8000-8100`. */
enum predicate_term predicate_excludes(const struct intercept *spec,
				       const struct predicate_packet *packet,
				       char text[PREDICATE_TEXT_MAX]);

/* Change the specification's term so that it no longer excludes this packet. False: no option of it
 * would do that, or out of memory. Nothing else changes. */
bool predicate_admit(struct intercept *spec, enum predicate_term term,
		     const struct predicate_packet *packet);

#endif
