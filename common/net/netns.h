/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netns - enters another network namespace; to be done before any socket is opened.
 */
#ifndef TPROXY_NET_NETNS_H
#define TPROXY_NET_NETNS_H

#include "base/report.h"

/*
 * Enter the network namespace `NAME` (kept by `ip netns` under /run/netns) or `PID`. If the
 * namespace belongs to a user namespace in which this process has no rights, that one is entered
 * too. Returns 0, or -1 with *why: not there (ENOENT, ESRCH), or not allowed (EPERM, with what is
 * needed).
 */
int netns_enter(const char *name_or_pid, struct failure *why);

/* Does the socket belong to the network namespace of this process? 1, 0, or -1 with *why. */
int netns_has_socket(int fd, struct failure *why);

/* Enter the network namespace of the socket. Needs CAP_NET_ADMIN in it, and CAP_SYS_ADMIN. 0, or -1
 * with *why. */
int netns_enter_socket(int fd, struct failure *why);

#endif
