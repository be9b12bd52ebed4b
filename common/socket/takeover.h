/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover - the listening sockets of a process that is about to end, as duplicates of its
 * descriptors.
 *
 * A connection belongs to one listening socket from its SYN on. When the last descriptor of that is
 * closed, what waits in its queue is reset, and what is half open with it, unless another socket of
 * its SO_REUSEPORT group may have them (net.ipv4.tcp_migrate_req, Linux 5.14, off by default). So
 * joining the group is not enough; but with a duplicate the socket stays, and its queue, whenever
 * and however the other process ends. pidfd_getfd(2) takes it without a word of the other's, which
 * may be an older version, or hang. It needs what ptrace(2) needs: the same user and no fewer
 * capabilities, or CAP_SYS_PTRACE.
 */
#ifndef TPROXY_SOCKET_TAKEOVER_H
#define TPROXY_SOCKET_TAKEOVER_H

#include "base/report.h"
#include "socket/listeners.h"
#include <stdbool.h>
#include <sys/types.h>

/*
 * May the endpoints be shared with whoever listens there already? Only if each of those sockets
 * belongs to our effective uid (the kernel's own rule for SO_REUSEPORT groups: a socket keeps the
 * uid that created it, whatever its process becomes) and is transparent already, or ours need not
 * be (options->redirect). wanted->protocol says whether of TCP or UDP. Returns 0, also when nobody
 * listens, or -1 with *why.
 */
int takeover_check(const struct listeners *wanted, const struct transparent_listen_options *options,
		   struct failure *why);

/* Is an endpoint in use because one of our own programs serves it, and may it be shared? */
bool takeover_would_help(const struct listeners *wanted,
			 const struct transparent_listen_options *options);

/*
 * Duplicate every socket for which takeover_check() holds and that a process named `program` has
 * listening at one of the endpoints wanted, into *found. Any user may choose that name, so it only
 * says which of our own processes are meant. Returns 0, also when there is none, or -1 with *why
 * when one could not be duplicated; then *found is empty.
 */
int takeover_find(const struct listeners *wanted, const char *program,
		  const struct transparent_listen_options *options, struct listeners *found,
		  struct failure *why);

/*
 * Worker `index` of `count` gets its share of those found: own sockets where there are enough for
 * all, else one that others have too (*shared becomes true) or, where shared is NULL, none; and
 * where none was found, the endpoint, not open yet. Duplicates again: *found stays the caller's.
 * Returns 0, or -1 with *why.
 */
int takeover_share(struct listeners *own, const struct listeners *wanted,
		   const struct listeners *found, unsigned index, unsigned count, bool *shared,
		   struct failure *why);

/*
 * Which process has taken that socket over, of those that live: one that has duplicated it (this
 * one, too), or 0. Says the description's owner (F_SETOWN), which a listening socket has no other
 * use for: nobody sets O_ASYNC on it.
 */
pid_t takeover_successor(int fd);

/* net.ipv4.tcp_migrate_req: the queue of a socket that is closed goes to others of its group. */
bool takeover_migrates(void);

#endif
