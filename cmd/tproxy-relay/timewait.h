/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timewait - a client uses its port again while what is left of its last connection is still here.
 *
 * The upstream leg of a relayed connection has the client's address and port. When the client ended
 * the connection first, that leg goes to TIME_WAIT on this host, in the client's place. connect()
 * from the same port to the same server then takes it over if the connection had timestamps, and
 * else says EADDRNOTAVAIL for a minute (tcp_twsk_unique()). But a TIME_WAIT guards its own host's
 * port, and whether that may be used again is for the client's kernel to say, which has just said
 * so. Without a relay its SYN would have reached the server. So the relay takes the TIME_WAIT away.
 *
 * A leg that is held is most likely that of a connection which the client has reset a moment ago,
 * and which another thread, or the relay that this one replaces, is about to end: the client's own
 * end of it is gone, or this connection would not be.
 */
#ifndef TPROXY_RELAY_TIMEWAIT_H
#define TPROXY_RELAY_TIMEWAIT_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>

/* What is in the way of a connection. */
enum timewait_verdict {
	TIMEWAIT_BARRED, /* a TIME_WAIT that may not be taken away, or it could not be found out */
	TIMEWAIT_TAKEN,	 /* a socket that somebody holds; see below */
	TIMEWAIT_ENDING, /* the last connection, whose end is not acknowledged yet: a matter of time */
	TIMEWAIT_CLEARED, /* it was in TIME_WAIT; now there is nothing */
};

/*
 * The helper that does it, in the network namespace of now, as that user with CAP_NET_ADMIN (if it
 * is to be had) alone. To be started while there is one thread; for any thread then. NULL with
 * *why.
 */
struct timewait;
struct timewait *timewait_new(const struct privilege_user *user, bool sandbox, struct failure *why);
void timewait_free(struct timewait *r);

/*
 * Connecting from `local` to `peer` has failed because there is such a socket, as *why says: clear
 * the way, if nothing but the kernel holds it. *why says so where CAP_NET_ADMIN is what lacks.
 */
enum timewait_verdict timewait_clear(struct timewait *r, const struct endpoint *local,
				     const struct endpoint *peer, struct failure *why);

#endif
