/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holder - the process that holds a listening socket: does it run, as whom, and how does it mark what it sends?
 *
 * As /proc has it now; a process that may not be looked into is unknown.
 */
#ifndef TPROXY_NET_HOLDER_H
#define TPROXY_NET_HOLDER_H

#include "base/quantity.h"
#include "net/sockowner.h"
#include <stdbool.h>
#include <stdint.h>

struct holder {
	long pid;			/* 0: unknown */
	char state;			/* `S`, `T` (stopped), ...; 0: unknown */
	uint32_t uid, gid;		/* the file system's, if its state is known */
	char owner[SOCKOWNER_TEXT_MAX]; /* `nginx (pid 123)`, `a process of uid 33` */
};

/* Of the socket with that inode, which that user made; owners may be NULL. */
void holder_find(const struct sockowner_list *owners, uint32_t inode, uint32_t uid,
		 struct holder *out);

/* Its state and its users as they are now. */
void holder_refresh(struct holder *holder);

/* With what tproxy-relay marks its own connections, by its command line; false: it is no relay of ours. */
bool holder_relay_mark(const struct holder *holder, struct mark *mark);

#endif
