/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * recent - what happened lately, in a fixed amount of memory.
 *
 * Stores fingerprints (64-bit hashes, seeded so that nobody can choose them), how often each was
 * noted, and when it expires. Four fingerprints share a place; when it is full, the one that
 * expires first is dropped. The caller supplies the time.
 */
#ifndef TPROXY_BASE_RECENT_H
#define TPROXY_BASE_RECENT_H

#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

struct recent;

/* An empty memory for 4096 fingerprints, or NULL with *why. */
struct recent *recent_new(struct failure *why);
void recent_free(struct recent *r);

/* The seed for hashes that become fingerprints. */
uint64_t recent_seed(const struct recent *r);

/* Note it (once more) until a given time, in milliseconds of any clock. */
void recent_note(struct recent *r, uint64_t fingerprint, uint64_t now, uint64_t until);

/* recent_knows(): is it noted? The other one takes back one of its notes; false if there was
 * none. */
bool recent_knows(struct recent *r, uint64_t fingerprint, uint64_t now);
bool recent_take(struct recent *r, uint64_t fingerprint, uint64_t now);

#endif
