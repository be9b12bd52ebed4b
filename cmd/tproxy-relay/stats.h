/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stats - what a relay says of itself in numbers: one table, from which the summary on SIGUSR1, the
 * control socket and the metrics file are made.
 *
 * The counters of all workers are summed up when somebody asks. What connections have carried that
 * are still open is asked of each worker in its own thread: so bytes grow while a connection lasts,
 * and no byte is counted twice or missed when it ends.
 */
#ifndef TPROXY_RELAY_STATS_H
#define TPROXY_RELAY_STATS_H

#include "tproxy-relay/counters.h"
#include "tproxy-relay/relay.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stats_number {
	STATS_CONNECTIONS,  /* now, also those being accepted */
	STATS_MAX,	    /* at once */
	STATS_FLOWS,	    /* of UDP, now */
	STATS_MAX_FLOWS,    /* at once */
	STATS_THREADS,	    /* of the relay */
	STATS_ACCEPTING,    /* threads that accept now */
	STATS_RECORDS_LOST, /* not written, or their reader was too slow */
	STATS_COUNTER,	    /* from here one for each counter */
	STATS_COUNT = STATS_COUNTER + COUNTER_COUNT
};

struct stats {
	uint64_t at[STATS_COUNT];
	struct relay *relay;
	struct relay_visit visit;
	void (*done)(struct stats *stats, void *context);
	void *context;
	bool busy; /* on its way */
};

/*
 * Sum up; done is called in worker 0's thread, at the latest when the relay ends. Until then *f
 * belongs to the stats. False, and nothing happens, when the last call for *f is not done yet.
 */
bool stats_collect(struct stats *f, struct relay *relay,
		   void (*done)(struct stats *f, void *context), void *context);

/* The same at once, where no worker runs: before workers_run() or after it. */
void stats_collect_now(struct stats *f, struct relay *relay);

/* `connections`, `accepted`, ..., and the reasons' names. NULL: a number that means nothing. */
const char *stats_name(unsigned which);

/*
 * All of them as OpenMetrics text, which is at the same time what Prometheus' text format allows.
 * Returns it (the caller frees it) and its length, or NULL with errno.
 */
char *stats_print(const struct stats *f, size_t *length);

#endif
