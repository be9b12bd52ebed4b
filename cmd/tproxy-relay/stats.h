/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stats - the statistics of a relay: one table, from which the summary on SIGUSR1, the answers of
 * the control socket and the metrics file are made.
 *
 * The counters of all workers are summed when somebody asks. Each worker adds, in its own thread,
 * the bytes of its open connections: so bytes grow while a connection lasts, and no byte is counted
 * twice or missed when it ends.
 */
#ifndef TPROXY_RELAY_STATS_H
#define TPROXY_RELAY_STATS_H

#include "tproxy-relay/counters.h"
#include "tproxy-relay/relay.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stats {
	uint64_t at[STATS_COUNT];
	struct relay *relay;
	struct relay_visit visit;
	void (*done)(struct stats *stats, void *context);
	void *context;
	bool busy; /* being collected */
};

/*
 * Collect the statistics; done is called in worker 0's thread, at the latest when the relay ends.
 * The caller must leave *f alone until then. False, and nothing happens, if the last call for *f is
 * not done yet.
 */
bool stats_collect(struct stats *f, struct relay *relay,
		   void (*done)(struct stats *f, void *context), void *context);

/* The same at once, while no worker runs: before workers_run() or after it. */
void stats_collect_now(struct stats *f, struct relay *relay);

/*
 * All of them as OpenMetrics text that is valid in Prometheus' text format, too. Returns the text,
 * which the caller frees, and its length; or NULL with errno.
 */
char *stats_print(const struct stats *f, size_t *length);

#endif
