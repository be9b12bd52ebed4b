/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover - duplicates the listening sockets of a process that is about to end.
 *
 * A connection belongs to one listening socket from its SYN on. When that socket's last descriptor
 * is closed, the connections in its queue are reset, and so are its half-open ones, unless another
 * socket of its SO_REUSEPORT group may have them (net.ipv4.tcp_migrate_req, Linux 5.14, off by
 * default). So joining the group is not enough; but with a duplicate, the socket and its queue
 * survive whenever and however the other process ends. pidfd_getfd(2) duplicates it without the
 * cooperation of the other process, which may be an older version, or hang. It needs the same as
 * ptrace(2): the same user and no fewer capabilities, or CAP_SYS_PTRACE.
 */
#ifndef TPROXY_SOCKET_TAKEOVER_H
#define TPROXY_SOCKET_TAKEOVER_H

#include "base/report.h"
#include "socket/listeners.h"
#include <stdbool.h>
#include <sys/types.h>

/*
 * May the endpoints be shared with whoever already listens there? Only if each of those sockets
 * belongs to our effective uid (the kernel's own rule for SO_REUSEPORT groups: a socket keeps the
 * uid that created it, whatever its process becomes) and is already transparent, or ours need not
 * be (options->redirect). wanted->protocol selects TCP or UDP. Returns 0, also if nobody listens,
 * or -1 with *why.
 */
int takeover_check(const struct listeners *wanted, const struct transparent_listen_options *options,
		   struct failure *why);

/* Is an endpoint in use because one of our own programs serves it, and may it be shared? */
bool takeover_would_help(const struct listeners *wanted,
			 const struct transparent_listen_options *options);

/*
 * Duplicate into *found every socket for which takeover_check() holds and with which a process
 * named `program` listens at one of the wanted endpoints. Any user may choose that name, so it only
 * selects among our own processes. Returns 0, also if there is none, or -1 with *why if one could
 * not be duplicated; then *found is empty.
 */
int takeover_find(const struct listeners *wanted, const char *program,
		  const struct transparent_listen_options *options, struct listeners *found,
		  struct failure *why);

/*
 * Give worker `index` of `count` its share of the found sockets: its own if there are enough for
 * all, else one that others have too (*shared becomes true) or, if shared is NULL, none; and where
 * none was found, the endpoint, not open yet. These are duplicates again: *found remains the
 * caller's. Returns 0, or -1 with *why.
 */
int takeover_share(struct listeners *own, const struct listeners *wanted,
		   const struct listeners *found, unsigned index, unsigned count, bool *shared,
		   struct failure *why);

/*
 * The process that has taken over that socket, among those alive: one that has duplicated it
 * (possibly this one), or 0. It is recorded as the owner of the description (F_SETOWN), which
 * listening sockets do not use otherwise: nobody sets O_ASYNC on them.
 */
pid_t takeover_successor(int fd);

/* net.ipv4.tcp_migrate_req: the queue of a closed socket goes to others in its group. */
bool takeover_migrates(void);

#endif
