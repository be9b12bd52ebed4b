/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netns - enter another network namespace: before any socket is opened.
 */
#ifndef TPROXY_NET_NETNS_H
#define TPROXY_NET_NETNS_H

#include "base/report.h"

/*
 * Enter the network namespace `NAME` (as `ip netns` keeps them under /run/netns) or `PID`. When the
 * namespace belongs to a user namespace in which this process has no rights, that one is entered
 * too. Returns 0, or -1 with *why: not there (ENOENT, ESRCH), or not allowed (EPERM, with what is
 * needed).
 */
int netns_enter(const char *name_or_pid, struct failure *why);

/* Is the socket one of the network namespace that this process is in? 1, 0, or -1 with *why. */
int netns_has_socket(int fd, struct failure *why);

/* Enter the network namespace of the socket: CAP_NET_ADMIN in it, CAP_SYS_ADMIN. 0, or -1 with
 * *why. */
int netns_enter_socket(int fd, struct failure *why);

#endif
