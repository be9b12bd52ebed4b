/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * legs - the sockets of relayed connections, and whose connections they are.
 *
 * A relayed connection has two sockets on this host: the client leg, accepted under the
 * destination's address, and the upstream leg, opened to the server, often from the client's
 * address and port. By its ends alone, either looks like the other leg of a connection in the
 * opposite direction. The kernel tells them apart: accept() returns a socket without
 * SOCK_BINDPORT_LOCK (sk_clone_lock()); bind() to a port sets it.
 *
 * The client leg shows which instance a connection belongs to: its ends are the client and the
 * destination, and both are in the predicate of one instance. An upstream leg belongs to the
 * instance of its client leg, which has the same client address and port; an upstream leg without a
 * client leg is judged by its own ends and its mark.
 *
 * Only sockets that depend on the divert rules are reported: transparent ones whose own address is
 * not this host's.
 */
#ifndef TPROXY_SETUP_LEGS_H
#define TPROXY_SETUP_LEGS_H

#include "base/report.h"
#include "intercept/intercept.h"
#include "net/route.h"
#include "net/sockdiag.h"
#include <stdbool.h>
#include <stddef.h>

/* Which instance's connections are wanted, among which instances. */
struct legs_question {
	struct route *route;
	const struct intercept *spec;  /* the instance, with its lists */
	const struct intercept *other; /* the other installed instances, with theirs */
	size_t others;
};

struct leg {
	struct sockdiag_socket socket;
	bool upstream; /* opened here, not accepted */
	bool remains;  /* left by a closed connection: TIME_WAIT, or FIN_WAIT_2 without a socket */
	bool ours;
};

/* The legs that belong to the instance. */
struct legs {
	struct leg *at;
	size_t count, room;
	size_t living; /* of these, sockets that may still send to their peer */
};

/*
 * Find the instance's legs. Returns 0, or -1 with *why; the caller frees *legs in any case.
 *
 * A dump is not a snapshot: a socket that changes its state meanwhile may be missing.
 */
int legs_find(const struct legs_question *question, struct legs *legs, struct failure *why);
void legs_free(struct legs *legs);

/* The number of legs of that kind, and of the connections they form: two legs are one
 * connection. */
size_t legs_count(const struct legs *legs, bool (*kind)(const struct leg *leg));
size_t legs_connections(const struct legs *legs, bool (*kind)(const struct leg *leg));

#endif
