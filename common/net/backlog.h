/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backlog - do connections wait in a listener's queue that its process is not going to accept?
 */
#ifndef TPROXY_NET_BACKLOG_H
#define TPROXY_NET_BACKLOG_H

#include "net/holder.h"
#include "net/sockdiag.h"
#include <stdint.h>

/*
 * A process that sleeps while connections wait in its queue is not going to accept them; a busy one
 * is running. Returns how many wait all the time (looks for half a second, if any wait at all); 0:
 * they are accepted. Refreshes the holder; *room: the length of the queue.
 */
unsigned backlog_waiting(struct sockdiag *diag, const struct sockdiag_socket *listener,
			 struct holder *holder, uint32_t *room);

#endif
