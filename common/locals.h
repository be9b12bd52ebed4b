/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * locals - which addresses are this host's own: known without asking, because the kernel tells of
 * changes.
 *
 * A relay asks for each connection, and a question to the kernel would cost more system calls than all
 * else that it does for one.
 */
#ifndef TPROXY_LOCALS_H
#define TPROXY_LOCALS_H

#include <stdbool.h>
#include "endpoint.h"
#include "loop.h"
#include "report.h"

/* Those of the network namespace it was made in. Used by any thread, but for locals_watch(). */
struct locals;
struct locals *locals_new(struct failure *why);
void locals_free(struct locals *l);

/* Follow changes by this loop, until both end. Returns 0, or -1 with *why. */
int locals_watch(struct locals *l, struct loop *loop, struct failure *why);

/* Is it an address of this host, whatever the port? Makes no system call. */
bool locals_has(struct locals *l, const struct endpoint *e);

/*
 * Does a packet from `from`, an address of this host, to `to` stay on this host, because policy routing
 * says so? Asks the kernel.
 */
bool locals_keep(struct locals *l, const struct endpoint *from, const struct endpoint *to);

#endif
