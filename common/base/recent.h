/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * recent - what happened lately, in a fixed amount of memory.
 *
 * Knows fingerprints (64-bit hashes, seeded so that nobody can choose them), how often each was
 * noted and until when that is to be known. When more is noted than there is room for, the oldest
 * of those that share a place is forgotten. Of time it knows what it is told.
 */
#ifndef TPROXY_BASE_RECENT_H
#define TPROXY_BASE_RECENT_H

#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

struct recent;

/* An empty memory of 4096 fingerprints, or NULL with *why. */
struct recent *recent_new(struct failure *why);
void recent_free(struct recent *r);

/* Where hashes that become fingerprints begin. */
uint64_t recent_seed(const struct recent *r);

/* Note it (once more) until a time, in milliseconds of any clock. */
void recent_note(struct recent *r, uint64_t fingerprint, uint64_t now, uint64_t until);

/* Is it known? And take back one of its notes; false when there was none. */
bool recent_knows(struct recent *r, uint64_t fingerprint, uint64_t now);
bool recent_take(struct recent *r, uint64_t fingerprint, uint64_t now);

#endif
