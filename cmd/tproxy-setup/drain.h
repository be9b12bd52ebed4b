/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drain - the connections that live through an instance's divert rules: count them, end them.
 *
 * Which they are is known to legs. Other programs' sockets outside the predicate, and other instances'
 * connections, are neither waited for nor ended.
 */
#ifndef TPROXY_SETUP_DRAIN_H
#define TPROXY_SETUP_DRAIN_H

#include "base/report.h"
#include "tproxy-setup/legs.h"
#include <stdbool.h>
#include <stddef.h>

/* One look at them. */
struct drain {
	size_t connections; /* that are there */
	size_t sockets;	    /* theirs */
	size_t kept;	    /* sockets that could not be ended */
	struct failure why; /* the last reason */
};

/*
 * Look; with `destroy` each is ended with a reset to its peer. 0, or -1 with *why.
 *
 * When none is left, or with `destroy`, what they leave in TIME_WAIT with an address that is not this
 * host's goes, too. Without interception a forwarded packet of a client that uses its port again meets
 * it in the kernel's early demultiplexing and is dropped (ip_forward() takes no packet that has a
 * socket): for a minute such clients would wait in vain. The kernel does not tell which of them were
 * transparent; an address that is not ours says it.
 */
int drain_look(const struct legs_question *question, bool destroy, struct drain *drain,
	       struct failure *why);

#endif
