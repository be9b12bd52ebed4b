/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backlog - do connections wait in a listener's queue, and its process does not mean to take them?
 */
#ifndef TPROXY_NET_BACKLOG_H
#define TPROXY_NET_BACKLOG_H

#include "net/holder.h"
#include "net/sockdiag.h"
#include <stdint.h>

/*
 * A process that sleeps while somebody waits in its queue does not mean to take him; one that is busy runs. How
 * many wait all the time (looks for half a second, if anybody waits at all); 0: it takes them. The holder is
 * refreshed; *room: of the queue.
 */
unsigned backlog_waiting(struct sockdiag *diag, const struct sockdiag_socket *listener,
			 struct holder *holder, uint32_t *room);

#endif
