/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unixdiag - the kernel's own list of local sockets (unix_diag, NETLINK_SOCK_DIAG). In contrast to
 * /proc/net/unix it says whose they are.
 */
#ifndef TPROXY_NET_UNIXDIAG_H
#define TPROXY_NET_UNIXDIAG_H

#include "base/report.h"
#include <stdbool.h>
#include <sys/types.h>

/* Room for an abstract name of any length with the @ before it, and a \0. */
#define UNIXDIAG_NAME_MAX 110

/* A stream socket that listens on an abstract name, which is valid while it is visited. */
struct unixdiag_listener {
	char name[UNIXDIAG_NAME_MAX]; /* as in /proc/net/unix: \0 is @, the first one, too */
	bool known;		      /* the kernel tells its uid (Linux 5.3) */
	uid_t uid;		      /* who made the socket; 65534 if unmapped here */
};

/*
 * Call visit for each in this network namespace; it must not ask the kernel for long, because the
 * list is not complete before it returns. Returns 0, or -1 with *why (a kernel without unix_diag,
 * or one that is not to be asked): then some may have been visited.
 */
typedef void unixdiag_visitor(const struct unixdiag_listener *listener, void *context);
int unixdiag_each(unixdiag_visitor *visit, void *context, struct failure *why);

#endif
