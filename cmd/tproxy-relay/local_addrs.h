/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * local_addrs - the set of this host's own addresses, kept current by the kernel's notifications.
 *
 * A relay looks up an address for each connection. Asking the kernel each time would cost more
 * system calls than everything else that it does for a connection.
 */
#ifndef TPROXY_RELAY_LOCAL_ADDRS_H
#define TPROXY_RELAY_LOCAL_ADDRS_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/loop.h"
#include <stdbool.h>
#include <stdint.h>

/* The addresses of the network namespace it was made in. Any thread may use it, except for
 * local_addrs_watch(). */
struct local_addrs;
struct local_addrs *local_addrs_new(struct failure *why);
void local_addrs_free(struct local_addrs *l);

/* Follow changes in this loop, until both end. Returns 0, or -1 with *why. */
int local_addrs_watch(struct local_addrs *l, struct loop *loop, struct failure *why);

/* Is it an address of this host, whatever the port? Makes no system call. */
bool local_addrs_has(struct local_addrs *l, const struct endpoint *e);

/*
 * Is a packet to that address, with that mark, delivered to this host: because the address is its
 * own (anycast and broadcast included), or because policy routing says so? Asks the kernel, which
 * knows of a change before it sends the notification. 1: yes; 0: no, or there is no route; or -1
 * with *why: the kernel could not be asked.
 */
int local_addrs_end(struct local_addrs *l, const struct endpoint *to, uint32_t mark,
		    struct failure *why);

/*
 * Does a packet from `from`, an address of this host, to `to` stay on this host, because policy
 * routing says so? Asks the kernel.
 */
bool local_addrs_keep(struct local_addrs *l, const struct endpoint *from,
		      const struct endpoint *to);

#endif
