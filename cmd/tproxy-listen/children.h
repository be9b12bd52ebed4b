/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * children - the running commands, and the connection that each of them serves.
 */
#ifndef TPROXY_LISTEN_CHILDREN_H
#define TPROXY_LISTEN_CHILDREN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One running process; embed it. The memory must stay valid until it has been taken. */
struct child {
	uint64_t id; /* a pid may be reused before the end of its last process is known */
	pid_t pid;
	struct child *next;
};

/* A zeroed one is empty. */
#define CHILDREN_SLOTS 256
struct children {
	struct child *slots[CHILDREN_SLOTS];
	size_t count;
};

void children_add(struct children *children, struct child *child, uint64_t id, pid_t pid);

/* Remove the child with that id from the table and return it; NULL: there is none. */
struct child *children_take(struct children *children, uint64_t id);

#endif
