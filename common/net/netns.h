/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netns - enters another network namespace; to be done before any socket is opened.
 */
#ifndef TPROXY_NET_NETNS_H
#define TPROXY_NET_NETNS_H

#include "base/report.h"
#include <stdbool.h>

/*
 * Open the network namespace `NAME` (kept by `ip netns` under /run/netns) or `PID`: a word of
 * digits is a PID. Returns a descriptor that keeps the namespace alive until the caller closes it,
 * or -1 with *why: no such name (ENOENT), no such process (ESRCH), not a network namespace, or not
 * allowed (EACCES, with what is needed).
 */
int netns_open(const char *name_or_pid, struct failure *why);

/* Is that the network namespace of this thread? */
bool netns_is_current(int fd);

/*
 * Let this thread enter the network namespace that netns_open() has returned; `name` is for
 * messages. If the namespace belongs to a user namespace in which this process has no rights, that
 * one is entered too, which the kernel permits only while there is one thread: there is no way
 * back. Sockets stay in the namespace in which socket() made them, and those that accept() returns
 * are in their listener's; threads and processes started from now on are in the new one
 * (setns(2)). Returns 0, or -1 with *why, still in the old one: not allowed (EPERM, with what is
 * needed).
 */
int netns_enter_fd(int fd, const char *name, struct failure *why);

/* netns_open() and netns_enter_fd(). 0, or -1 with *why. */
int netns_enter(const char *name_or_pid, struct failure *why);

/* Does the socket belong to the network namespace of this process? 1, 0, or -1 with *why. */
int netns_has_socket(int fd, struct failure *why);

/* Enter the network namespace of the socket. Needs CAP_NET_ADMIN in it, and CAP_SYS_ADMIN. 0, or -1
 * with *why. */
int netns_enter_socket(int fd, struct failure *why);

#endif
