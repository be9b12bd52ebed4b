/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drain - wait for the connections that live through an instance's divert rules, then end them.
 *
 * Which they are is known to legs. Other programs' sockets outside the predicate, and other
 * instances' connections, are neither waited for nor ended.
 *
 * Theory of operation. SOCK_DESTROY resets a connection, but says nothing to the peer of a socket
 * in LAST_ACK or CLOSING (tcp_need_reset(); before Linux 6.11, of none that no process holds),
 * where the last data is on its way. The relay has closed such a connection and holds it for done.
 * So
 *
 *   1  what SOCK_DESTROY resets is reset, and for a short time the others may finish by themselves
 *   2  a chain of its own answers whatever the peers of those that are left send with a reset, which has
 *      the right sequence number because it is an answer (finish, in nft_text)
 *   3  the peers are made to send something (probe); and so are our own sockets, in the name of their
 *      peers, which now know nothing of them and reset them. No SOCK_DESTROY for these: before Linux 6.11 a
 *      socket without a process stays for ever after one (bac76cf89816, "tcp: fix forever orphan socket
 *      caused by tcp_abort")
 *
 * What closed connections leave in TIME_WAIT with an address that is not this host's goes, too,
 * when nothing else is left. Without interception a forwarded packet of a client that uses its port
 * again meets it in the kernel's early demultiplexing and is dropped (ip_forward() takes no packet
 * that has a socket): for a minute such clients would wait in vain. The kernel does not tell which
 * of them were transparent; an address that is not ours says it.
 */
#ifndef TPROXY_SETUP_DRAIN_H
#define TPROXY_SETUP_DRAIN_H

#include "base/report.h"
#include "intercept/instance.h"
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct drain {
	size_t connections; /* that had not ended at the last look */
	bool replaced;	    /* `up` took the instance back meanwhile: nothing was ended */
	size_t destroyed;   /* connections that were ended with a reset */
	size_t kept;	    /* sockets that could not be ended */
	struct failure why; /* the last reason */
};

/* Is there none (then what remains of closed ones is removed)? 1 or 0, or -1 with *why. */
int drain_is_done(struct instance *kernel, const struct intercept *spec, struct drain *drain,
		  struct failure *why);

/*
 * Wait up to ms for the instance's connections (or until *hurry, which may be NULL, becomes true),
 * then end those that are left. *was: the instance as it was when its interception ended. Takes the
 * lock for a moment, so it must be free. 0, or -1 with *why.
 */
int drain_run(struct instance *kernel, const struct instance_view *was, uint64_t ms,
	      const volatile sig_atomic_t *hurry, struct drain *drain, struct failure *why);

#endif
