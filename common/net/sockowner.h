/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockowner - which processes hold which socket: a snapshot of /proc by inode.
 *
 * Only processes that this user may look into are seen: his own without more capabilities than he
 * has, all with CAP_SYS_PTRACE.
 */
#ifndef TPROXY_NET_SOCKOWNER_H
#define TPROXY_NET_SOCKOWNER_H

#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Longest `name` and its end (the kernel's TASK_COMM_LEN). */
#define SOCKOWNER_NAME_MAX 16

/* A process that holds a socket. */
struct sockowner {
	uint32_t inode;
	pid_t pid;
	int fd;
	char name[SOCKOWNER_NAME_MAX];
};

/* Whose sockets to look for. */
struct sockowner_filter {
	pid_t pid; /* 0: every process's */
	const char *
		name; /* NULL: whatever it is called; longer ones match by their first 15 characters */
};

/* Returns NULL with *why: no memory, no /proc, no process filter->pid (ESRCH), or one that may not
 * be looked into (EACCES). A NULL filter means all. */
struct sockowner_list;
struct sockowner_list *sockowner_read(const struct sockowner_filter *filter, struct failure *why);
void sockowner_free(struct sockowner_list *list);

/* The first holder (lowest pid, then descriptor) or NULL; the further holders of the same inode
 * follow it in the array, which ends with inode 0. */
const struct sockowner *sockowner_find(const struct sockowner_list *list, uint32_t inode);

/* Longest text of sockowner_describe() and its end. */
#define SOCKOWNER_TEXT_MAX 48

/* Whose socket it is, for messages: `nginx (pid 123)`, or where its holder cannot be seen `a
 * process of uid 33`. Returns buf. */
const char *sockowner_describe(const struct sockowner_list *list, uint32_t inode, uid_t uid,
			       char buf[SOCKOWNER_TEXT_MAX]);

/* Were there processes that could not be looked into? */
bool sockowner_hidden(const struct sockowner_list *list);

#endif
