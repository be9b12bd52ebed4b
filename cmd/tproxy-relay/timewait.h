/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timewait - a client reuses its port while the remains of its last connection are still here.
 *
 * The upstream leg of a relayed connection has the client's address and port. If the client ended
 * the connection first, that leg goes to TIME_WAIT on this host, in the client's place. connect()
 * from the same port to the same server then takes it over if the connection had timestamps, and
 * else fails with EADDRNOTAVAIL for a minute (tcp_twsk_unique()). But a TIME_WAIT protects the port
 * of its own host, and here the client's kernel decides whether the port may be reused, and has
 * just done so. Without a relay its SYN would have reached the server. So the relay removes the
 * TIME_WAIT.
 *
 * A leg that a process still holds most likely belongs to a connection that the client has reset a
 * moment ago, and that another thread, or the relay that this one replaces, is about to end: the
 * client's own end of it is gone, or this connection could not exist.
 */
#ifndef TPROXY_RELAY_TIMEWAIT_H
#define TPROXY_RELAY_TIMEWAIT_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>

/* What blocks a connection. */
enum timewait_verdict {
	TIMEWAIT_BARRED,  /* a TIME_WAIT that may not be removed, or the cause is unknown */
	TIMEWAIT_TAKEN,	  /* a socket that a process holds; see below */
	TIMEWAIT_ENDING,  /* the last connection, whose end is not acknowledged yet: retry soon */
	TIMEWAIT_CLEARED, /* it was in TIME_WAIT and is removed */
};

/*
 * Start the helper that does this, in the current network namespace, as that user and with
 * CAP_NET_ADMIN only (if we have it). Call this while there is one thread; any thread may use the
 * helper. NULL with *why.
 */
struct timewait;
struct timewait *timewait_new(const struct privilege_user *user, bool sandbox, struct failure *why);
void timewait_free(struct timewait *r);

/*
 * Connecting from `local` to `peer` has failed because of such a socket, as *why says: remove it if
 * only the kernel holds it. *why says so if CAP_NET_ADMIN is missing.
 */
enum timewait_verdict timewait_clear(struct timewait *r, const struct endpoint *local,
				     const struct endpoint *peer, struct failure *why);

#endif
