/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reopen - a client uses its port again while what is left of its last connection is still here.
 *
 * The upstream leg of a relayed connection has the client's address and port. When the client ended
 * the connection first, that leg goes to TIME_WAIT on this host, in the client's place. connect() from
 * the same port to the same server then takes it over if the connection had timestamps, and else says
 * EADDRNOTAVAIL for a minute (tcp_twsk_unique()). But a TIME_WAIT guards its own host's port, and
 * whether that may be used again is for the client's kernel to say, which has just said so. Without a
 * relay its SYN would have reached the server. So the relay takes the TIME_WAIT away.
 *
 * A leg that is held is most likely that of a connection which the client has reset a moment ago, and
 * which another thread, or the relay that this one replaces, is about to end: the client's own end of
 * it is gone, or this connection would not be.
 */
#ifndef TPROXY_REOPEN_H
#define TPROXY_REOPEN_H

#include "endpoint.h"
#include "report.h"

/* What is in the way of a connection. */
enum reopen_verdict {
	REOPEN_BARRED, /* a TIME_WAIT that may not be taken away, or it could not be found out */
	REOPEN_TAKEN,  /* a socket that somebody holds; see below */
	REOPEN_ENDING, /* the last connection, whose end is not acknowledged yet: a matter of time */
	REOPEN_CLEARED, /* it was in TIME_WAIT; now there is nothing */
};

/* A channel to the network namespace it was opened in, for any thread. NULL with *why. */
struct reopen;
struct reopen *reopen_new(struct failure *why);
void reopen_free(struct reopen *r);

/*
 * Connecting from `local` to `peer` has failed because there is such a socket, as *why says: clear the
 * way, if nothing but the kernel holds it. Needs CAP_NET_ADMIN; *why says so where that is what lacks.
 */
enum reopen_verdict reopen_clear(struct reopen *r, const struct endpoint *local,
				 const struct endpoint *peer, struct failure *why);

#endif
