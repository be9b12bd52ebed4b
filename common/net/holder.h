/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holder - the process that holds a listening socket: is it running, as whom, and how does it mark
 * its packets, and by which ports does it connect?
 *
 * Reads the current state from /proc; a process that may not be inspected is unknown.
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
	uint32_t uid, gid;		/* file system uid and gid, if its state is known */
	char owner[SOCKOWNER_TEXT_MAX]; /* `nginx (pid 123)`, `a process of uid 33` */
};

/* Find the holder of the socket with that inode, which was created by that user; owners may be
 * NULL. */
void holder_find(struct sockowner_list *owners, uint32_t inode, uint32_t uid, struct holder *out);

/* Read its state and its users again. */
void holder_refresh(struct holder *holder);

/* The mark that tproxy-relay puts on its own connections, by its command line; false: it is not one
 * of our relays. */
bool holder_relay_mark(const struct holder *holder, struct mark *mark);

/* Is it one of our relays that connects from its clients' ports, by its command line? A client on
 * this host holds its port itself. */
bool holder_relay_takes_ports(const struct holder *holder);

#endif
