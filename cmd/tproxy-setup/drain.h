/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drain - the connections that live through an instance's divert rules: count them, end them.
 *
 * A connection needs the divert rules when packets for its socket would otherwise be routed on: the
 * socket is transparent, and its own address is not one of this host's. Of those, an instance's are
 *
 *   - client legs: client and destination are in the predicate;
 *   - upstream legs: the same, mirrored (the relay's socket carries the client's address); or, with a
 *     fixed upstream, those with the instance's upstream mark, if no other instance is installed;
 *   - with --divert-only: all of them, if no other instance is installed.
 *
 * Other programs' sockets outside the predicate are neither waited for nor ended.
 */
#ifndef TPROXY_SETUP_DRAIN_H
#define TPROXY_SETUP_DRAIN_H

#include "base/report.h"
#include "intercept/intercept.h"
#include "net/route.h"

/*
 * How many such connections (sockets) there are now; with `destroy`, each is ended with a reset to its
 * peer. alone: no other instance is installed. Returns the number, or -1 with *why. *kept: how many
 * could not be ended (with their reset, or in TIME_WAIT), the last reason is in *why.
 *
 * When none is left, or with `destroy`, what they leave in TIME_WAIT with an address that is not this
 * host's goes, too. Without interception a forwarded packet of a client that uses its port again meets
 * it in the kernel's early demultiplexing and is dropped (ip_forward() takes no packet that has a
 * socket): for a minute such clients would wait in vain. The kernel does not tell which of them were
 * transparent; an address that is not ours says it.
 */
long drain_sockets(struct route *route, const struct intercept *spec, bool alone, bool destroy,
		   long *kept, struct failure *why);

#endif
