/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netns - enter another network namespace: once, before any socket is opened.
 */
#ifndef TPROXY_NET_NETNS_H
#define TPROXY_NET_NETNS_H

#include "base/report.h"

/*
 * Enter the network namespace `NAME` (as `ip netns` keeps them under /run/netns) or `PID`. When the
 * namespace belongs to a user namespace in which this process has no rights, that one is entered too.
 * Returns 0, or -1 with *why: not there (ENOENT, ESRCH), or not allowed (EPERM, with what is needed).
 */
int netns_enter(const char *name_or_pid, struct failure *why);

#endif
