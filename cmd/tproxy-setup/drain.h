/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drain - wait for the connections that depend on an instance's divert rules, then end them.
 *
 * legs finds these connections. Other programs' sockets outside the predicate, and other instances'
 * connections, are neither waited for nor ended.
 *
 * Theory of operation. SOCK_DESTROY resets a connection, but sends nothing to the peer of a socket
 * in LAST_ACK or CLOSING (tcp_need_reset(); before Linux 6.11, of any socket without a process),
 * whose last data is in flight. The relay has closed such a connection and considers it done. So
 *
 *   1  connections that SOCK_DESTROY can reset are reset; the others get a short time to finish
 *   2  a separate chain answers with a reset whatever the peers of the rest send; the reset has the
 *      right sequence number because it is an answer (finish, in nft_text)
 *   3  a probe makes the peers send something (probe); it makes our own sockets answer, too, in the
 *      name of their peers, which no longer know the connection and reset it. No SOCK_DESTROY for
 *      these: before Linux 6.11 a socket without a process stays for ever after one (bac76cf89816,
 *      "tcp: fix forever orphan socket caused by tcp_abort")
 *
 * When nothing else is left, sockets in TIME_WAIT whose address is not this host's are removed,
 * too. Without interception, a forwarded packet of a client that reuses its port would match such a
 * socket in the kernel's early demultiplexing and be dropped (ip_forward() drops a packet that has
 * a socket): such clients would be cut off for a minute. The kernel does not report which of these
 * sockets were transparent; a foreign address shows it.
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
	size_t connections; /* still open at the last look */
	bool replaced;	    /* `up` took the instance back meanwhile: nothing was ended */
	size_t destroyed;   /* connections that were reset */
	size_t kept;	    /* sockets that could not be ended */
	struct failure why; /* why, for the last of them */
};

/* Are all connections gone (then the remains of closed ones are removed)? 1 or 0, or -1 with
 * *why. */
int drain_is_done(struct instance *kernel, const struct intercept *spec, struct drain *drain,
		  struct failure *why);

/*
 * Wait up to ms milliseconds for the instance's connections (or until *hurry, which may be NULL,
 * becomes true), then end the rest. *was: the instance as it was when its interception ended. Takes
 * the lock for a moment: the caller must not hold it. 0, or -1 with *why.
 */
int drain_run(struct instance *kernel, const struct instance_view *was, uint64_t ms,
	      const volatile sig_atomic_t *hurry, struct drain *drain, struct failure *why);

#endif
