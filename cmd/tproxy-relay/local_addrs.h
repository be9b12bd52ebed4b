/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * local_addrs - which addresses are this host's own: known without asking, because the kernel tells
 * of changes.
 *
 * A relay asks for each connection, and a question to the kernel would cost more system calls than
 * all else that it does for one.
 */
#ifndef TPROXY_RELAY_LOCAL_ADDRS_H
#define TPROXY_RELAY_LOCAL_ADDRS_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/loop.h"
#include <stdbool.h>
#include <stdint.h>

/* Those of the network namespace it was made in. Used by any thread, but for
 * local_addrs_watch(). */
struct local_addrs;
struct local_addrs *local_addrs_new(struct failure *why);
void local_addrs_free(struct local_addrs *l);

/* Follow changes by this loop, until both end. Returns 0, or -1 with *why. */
int local_addrs_watch(struct local_addrs *l, struct loop *loop, struct failure *why);

/* Is it an address of this host, whatever the port? Makes no system call. */
bool local_addrs_has(struct local_addrs *l, const struct endpoint *e);

/*
 * Does what is sent to that address, with that mark, end up on this host: because it is its own,
 * also an anycast one or a broadcast, or because policy routing says so? Asks the kernel, which
 * knows of a change before it has told of it. 1: yes; 0: no, also where there is no way there; or
 * -1 with *why: it could not be asked.
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
