/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockowner - which processes hold which socket, by inode, from /proc.
 *
 * Each process and each of its descriptors has to be looked at: 200,000 sockets take a second. So
 * /proc is read only as far as the answers need it, once: first the processes of this network
 * namespace, then the rest, each in /proc's own order, by pid and descriptor (proc_pid_readdir(),
 * proc_readfd_common()).
 *
 * It sees only processes that this user may inspect: those of the same user without further
 * capabilities, all with CAP_SYS_PTRACE.
 */
#ifndef TPROXY_NET_SOCKOWNER_H
#define TPROXY_NET_SOCKOWNER_H

#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Longest `name`, with its \0 (the kernel's TASK_COMM_LEN). */
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
	pid_t pid;	  /* 0: every process's */
	const char *name; /* NULL: any name; longer ones match by their first 15 characters */
};

/* Begin to read. A NULL filter means all; its name is borrowed. One process is read completely at once.
 * Returns NULL with *why: no memory, no /proc, no process filter->pid (ESRCH), or it may not be
 * inspected (EACCES). */
struct sockowner_list;
struct sockowner_list *sockowner_read(const struct sockowner_filter *filter, struct failure *why);
void sockowner_free(struct sockowner_list *list);

/* The first holder (in that order) or NULL; and the next holder of the same socket.
 * Valid until the next call with that list. A NULL list has none. */
const struct sockowner *sockowner_find(struct sockowner_list *list, uint32_t inode);
const struct sockowner *sockowner_next(struct sockowner_list *list, const struct sockowner *owner);

/* Longest text of sockowner_describe(), with its \0. */
#define SOCKOWNER_TEXT_MAX 48

/* The owner of the socket, for messages: `nginx (pid 123)`, or `a process of uid 33` if its holder
 * cannot be seen. Returns buf. */
const char *sockowner_describe(struct sockowner_list *list, uint32_t inode, uid_t uid,
			       char buf[SOCKOWNER_TEXT_MAX]);

/* Were there processes that could not be inspected, of those read so far? (All, once an owner was
 * not found.) */
bool sockowner_hidden(const struct sockowner_list *list);

#endif
