/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * removal - remove an instance from the kernel.
 *
 * In three phases: stop intercepting new connections; wait for the relayed connections to end, then
 * reset the rest; remove the divert rules and the routing, which nothing needs any more.
 */
#ifndef TPROXY_SETUP_REMOVAL_H
#define TPROXY_SETUP_REMOVAL_H

#include "base/report.h"
#include "intercept/instance.h"
#include "tproxy-setup/drain.h"
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* How a removal went. */
struct removal {
	bool found; /* there was something to remove */
	struct drain drain;
};

/*
 * Remove the instance: end interception, wait up to drain_ms (or until *hurry, which may be NULL,
 * becomes true) for the relayed connections to end, reset the rest, then remove rules and routes.
 * An absent instance is success, and so are parts that somebody else has removed. 0, or -1 with
 * *why.
 */
int removal_run(struct instance *kernel, const char *name, uint64_t drain_ms,
		const volatile sig_atomic_t *hurry, struct removal *removal, struct failure *why);

/* Only the first phase: intercept no new connections. An absent instance is success. */
int removal_end_interception(struct instance *kernel, const char *name, uint64_t drain_ms,
			     struct failure *why);

#endif
