/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inetd - a connection that another program has accepted: it is on fd 0, and often on fd 1 and 2,
 * too.
 *
 * The kernel knows who it is from and where it was going. Only the program that read a PROXY header
 * knows what that said; it passes it on in the environment (tproxy-listen(1)). We trust that if
 * TPROXY_COOKIE shows that it is about this very socket.
 */
#ifndef TPROXY_RELAY_INETD_H
#define TPROXY_RELAY_INETD_H

#include "base/quantity.h"
#include "base/report.h"
#include "socket/transparent.h"
#include <stdbool.h>

/* Is that descriptor the same socket as fd 0? */
bool inetd_is_client(int fd);

struct inetd_client {
	struct transparent_connection connection; /* as transparent_accept() would have it */
	bool loops; /* its other end is on this host: an upstream leg that has come back */
};

/*
 * Take the connection, as from a listener with those options. The client's places among fd 0, 1 and
 * 2 are /dev/null's then, so that closing the connection's descriptor ends it. An upstream leg of
 * this or another relay is known by the mark; without CAP_NET_ADMIN, which it takes to see marks,
 * by being held by a process of the same name. Returns STATUS_DONE; or with *why STATUS_USAGE when
 * fd 0 is no connection, and STATUS_REFUSED when its ends cannot be known.
 */
int inetd_take(const struct transparent_listen_options *options, const struct mark *legs,
	       struct inetd_client *out, struct failure *why);

#endif
