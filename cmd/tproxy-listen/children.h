/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * children - the processes that this one started: who is still there, who has ended and how.
 */
#ifndef TPROXY_LISTEN_CHILDREN_H
#define TPROXY_LISTEN_CHILDREN_H

#include <stddef.h>
#include <sys/types.h>

/* One running process; embed it. The memory is the caller's until `ended` has been told of it. */
struct child {
	pid_t pid;
	struct child *next;
};

/* A zeroed one is empty. */
#define CHILDREN_SLOTS 256
struct children {
	struct child *slots[CHILDREN_SLOTS];
	size_t count;
};

void children_add(struct children *children, struct child *child, pid_t pid);

/* Called for each that has ended, with its status as wait(2) has it; it is in the table no more. */
typedef void children_ended(struct child *child, int status, void *context);

/* Collect all that have ended (on SIGCHLD), also processes that are not in the table: no zombies. */
void children_reap(struct children *children, children_ended *ended, void *context);

/* Send all of them a signal, and whoever is in the process groups that they lead. */
void children_signal(const struct children *children, int signo);

#endif
