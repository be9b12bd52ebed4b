/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * counters - the counters of a relay.
 *
 * One set per thread, written by that thread only and read by any: no lock, no shared cache line.
 * They are summed when somebody asks.
 */
#ifndef TPROXY_RELAY_COUNTERS_H
#define TPROXY_RELAY_COUNTERS_H

#include "tproxy-relay/reason.h"
#include <stdatomic.h>
#include <stdint.h>

enum counters_name {
	COUNTER_ACCEPTED,      /* connections taken from a listener */
	COUNTER_OPENED,	       /* of these, the upstream leg was established */
	COUNTER_REFUSED,       /* of the accepted, refused */
	COUNTER_CLOSED,	       /* of the opened, ended */
	COUNTER_BYTES_UP,      /* of connections that have ended */
	COUNTER_BYTES_DOWN,    /* the same */
	COUNTER_PACKETS_UP,    /* the same, for UDP */
	COUNTER_PACKETS_DOWN,  /* the same */
	COUNTER_AT_LIMIT,      /* times accepting paused at --max */
	COUNTER_NO_DESCRIPTOR, /* times accepting paused for lack of a descriptor */
	COUNTER_REASONS,       /* from here one for each enum reason */
	COUNTER_COUNT = COUNTER_REASONS + REASON_COUNT
};

struct counters {
	_Atomic uint64_t at[COUNTER_COUNT];
};

/* Add n. Call it only in the thread that owns the counters. */
static inline void counters_add(struct counters *t, unsigned which, uint64_t n)
{
	uint64_t old = atomic_load_explicit(&t->at[which], memory_order_relaxed);

	atomic_store_explicit(&t->at[which], old + n, memory_order_relaxed);
}

static inline uint64_t counters_read(const struct counters *t, unsigned which)
{
	return atomic_load_explicit(&t->at[which], memory_order_relaxed);
}

#endif
