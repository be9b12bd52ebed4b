/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tally - what a relay has counted.
 *
 * One a thread, written by that thread alone and read by any: no lock, no shared cache line. Sums are
 * made when somebody asks.
 */
#ifndef TPROXY_TALLY_H
#define TPROXY_TALLY_H

#include <stdatomic.h>
#include <stdint.h>
#include "reason.h"

enum tally_name {
	TALLY_ACCEPTED,	     /* connections taken from a listener */
	TALLY_OPENED,	     /* of them, those whose upstream leg was established */
	TALLY_REFUSED,	     /* of them, those that were refused */
	TALLY_CLOSED,	     /* of those opened, those that have ended */
	TALLY_BYTES_UP,	     /* of those that have ended */
	TALLY_BYTES_DOWN,    /* the same */
	TALLY_AT_LIMIT,	     /* times that accepting paused at --max */
	TALLY_NO_DESCRIPTOR, /* times that accepting paused for want of a descriptor */
	TALLY_REASONS,	     /* from here one for each enum reason */
	TALLY_COUNT = TALLY_REASONS + REASON_COUNT
};

struct tally {
	_Atomic uint64_t at[TALLY_COUNT];
};

/* Add; only by the thread that owns it. */
static inline void tally_add(struct tally *t, unsigned which, uint64_t n)
{
	uint64_t old = atomic_load_explicit(&t->at[which], memory_order_relaxed);

	atomic_store_explicit(&t->at[which], old + n, memory_order_relaxed);
}

static inline uint64_t tally_read(const struct tally *t, unsigned which)
{
	return atomic_load_explicit(&t->at[which], memory_order_relaxed);
}

#endif
