/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * removal - take an instance out of the kernel.
 *
 * In three phases: no new connection is intercepted; the ones that are relayed end, or are ended;
 * nothing needs the divert rules and the routing any more, and they go.
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
 * Take the instance away: end interception, wait up to drain_ms (or until *hurry, which may be
 * NULL, becomes true) for the relayed connections to be done, end those that are left with a reset,
 * then remove rules and routes. Absent is success. What somebody else removed already is not
 * missed. 0, or -1 with *why.
 */
int removal_run(struct instance *kernel, const char *name, uint64_t drain_ms,
		const volatile sig_atomic_t *hurry, struct removal *removal, struct failure *why);

/* Only the first phase: take no new connection. Absent is success. */
int removal_end_interception(struct instance *kernel, const char *name, uint64_t drain_ms,
			     struct failure *why);

#endif
