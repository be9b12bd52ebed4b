/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * legs - the sockets of relayed connections, and whose connections they are.
 *
 * A relayed connection has two sockets on this host: the client leg, accepted under the
 * destination's address, and the upstream leg, opened to the server, often from the client's
 * address and port. Read by itself the one looks like the other of a connection the other way
 * round. The kernel tells them apart: accept() gives a socket without SOCK_BINDPORT_LOCK
 * (sk_clone_lock()), bind() to a port one with it.
 *
 * Whose a connection is follows from its client leg, whose ends are the client and the destination:
 * both are in the predicate of one instance. An upstream leg belongs to the instance of its client
 * leg, which has the same client address and port; one that has lost it is judged by its own ends
 * and its mark.
 *
 * Only sockets that live through the divert rules are told of: transparent ones whose own address
 * is not this host's.
 */
#ifndef TPROXY_SETUP_LEGS_H
#define TPROXY_SETUP_LEGS_H

#include "base/report.h"
#include "intercept/intercept.h"
#include "net/route.h"
#include "net/sockdiag.h"
#include <stdbool.h>
#include <stddef.h>

/* Whose connections are asked for, among whom. */
struct legs_question {
	struct route *route;
	const struct intercept *spec;  /* the instance, lists and all */
	const struct intercept *other; /* the other installed ones, likewise */
	size_t others;
};

struct leg {
	struct sockdiag_socket socket;
	bool upstream; /* it was opened here, not accepted */
	bool remains; /* what a closed connection leaves: TIME_WAIT, or FIN_WAIT_2 without a socket */
	bool ours;
};

/* What belongs to the instance. */
struct legs {
	struct leg *at;
	size_t count, room;
	size_t living; /* of these, sockets that still have something to say to their peer */
};

/*
 * Find the instance's legs. Returns 0, or -1 with *why; the caller frees *legs in any case.
 *
 * A dump is no snapshot: what changes its state meanwhile may be missing.
 */
int legs_find(const struct legs_question *question, struct legs *legs, struct failure *why);
void legs_free(struct legs *legs);

/* How many legs of that kind there are, and how many connections they make up: two legs are one. */
size_t legs_count(const struct legs *legs, bool (*kind)(const struct leg *leg));
size_t legs_connections(const struct legs *legs, bool (*kind)(const struct leg *leg));

#endif
