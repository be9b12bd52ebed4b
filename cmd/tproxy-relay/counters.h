/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * counters - what a relay has counted.
 *
 * One a thread, written by that thread alone and read by any: no lock, no shared cache line. Sums
 * are made when somebody asks.
 */
#ifndef TPROXY_RELAY_COUNTERS_H
#define TPROXY_RELAY_COUNTERS_H

#include "tproxy-relay/reason.h"
#include <stdatomic.h>
#include <stdint.h>

enum counters_name {
	COUNTER_ACCEPTED,      /* connections taken from a listener */
	COUNTER_OPENED,	       /* of them, those whose upstream leg was established */
	COUNTER_REFUSED,       /* of them, those that were refused */
	COUNTER_CLOSED,	       /* of those opened, those that have ended */
	COUNTER_BYTES_UP,      /* of those that have ended */
	COUNTER_BYTES_DOWN,    /* the same */
	COUNTER_PACKETS_UP,    /* the same, of UDP */
	COUNTER_PACKETS_DOWN,  /* the same */
	COUNTER_AT_LIMIT,      /* times that accepting paused at --max */
	COUNTER_NO_DESCRIPTOR, /* times that accepting paused for want of a descriptor */
	COUNTER_REASONS,       /* from here one for each enum reason */
	COUNTER_COUNT = COUNTER_REASONS + REASON_COUNT
};

struct counters {
	_Atomic uint64_t at[COUNTER_COUNT];
};

/* Add; only by the thread that owns it. */
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
