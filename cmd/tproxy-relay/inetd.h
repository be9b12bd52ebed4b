/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inetd - a connection that another program has accepted, on fd 0 and often on fd 1 and 2, too.
 *
 * The kernel knows its client and its original destination. What a PROXY header said is known only
 * to the program that read it, which passes it on in the environment (tproxy-listen(1)). We trust
 * the environment if TPROXY_COOKIE shows that it is about this very socket.
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
	struct transparent_connection connection; /* as transparent_accept() fills it in */
	bool loops; /* its other end is an upstream leg on this host, which has come back */
};

/*
 * Take the connection, as from a listener with those options. Of fd 0, 1 and 2, those that were the
 * client become /dev/null, so that closing the connection's descriptor ends it. An upstream leg of
 * this or another relay is recognised by its mark; without CAP_NET_ADMIN, which reading marks
 * requires, by its owner being a process of the same name. Returns STATUS_DONE; or with *why
 * STATUS_USAGE if fd 0 is not a connection, and STATUS_REFUSED if its ends cannot be determined.
 */
int inetd_take(const struct transparent_listen_options *options, const struct mark *legs,
	       struct inetd_client *out, struct failure *why);

#endif
