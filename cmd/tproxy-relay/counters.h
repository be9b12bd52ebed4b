/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * counters - the counters of a relay.
 *
 * One set per thread, written by that thread only and read by any: no lock, no shared cache line.
 * They are summed when somebody asks.
 */
#ifndef TPROXY_RELAY_COUNTERS_H
#define TPROXY_RELAY_COUNTERS_H

#include "process/relay_stats.h"
#include <stdatomic.h>
#include <stdint.h>

struct counters {
	_Atomic uint64_t at[COUNTER_COUNT];
};

/* Add n. Call it only in the thread that owns the counters. */
static inline void counters_add(struct counters *t, unsigned which, uint64_t n)
{
	uint64_t old = atomic_load_explicit(&t->at[which], memory_order_relaxed);

	atomic_store_explicit(&t->at[which], old + n, memory_order_relaxed);
}

/* Count a time in a histogram: COUNTER_CONNECT or COUNTER_DURATION, and its sum. */
static inline void counters_add_time(struct counters *t, unsigned histogram, unsigned sum,
				     uint64_t us)
{
	counters_add(t, relay_stats_bucket(histogram, us), 1);
	counters_add(t, sum, us);
}

static inline uint64_t counters_read(const struct counters *t, unsigned which)
{
	return atomic_load_explicit(&t->at[which], memory_order_relaxed);
}

#endif
