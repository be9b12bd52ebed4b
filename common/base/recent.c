/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/recent.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define PLACES 1024 /* a power of two */
#define SHARE  4    /* fingerprints per place */

struct note {
	uint64_t fingerprint, until;
	uint32_t count; /* 0: free */
};

struct recent {
	uint64_t seed;
	struct note at[PLACES][SHARE];
};

struct recent *recent_new(struct failure *why)
{
	struct recent *r = calloc(1, sizeof(*r));

	if (!r) {
		report_fail(why, ENOMEM, "malloc", "memory of flows");
		return NULL;
	}
	if (getrandom(&r->seed, sizeof(r->seed), GRND_NONBLOCK) < 0)
		r->seed = (uintptr_t)r; /* guessable, but still a seed */
	return r;
}

void recent_free(struct recent *r)
{
	free(r);
}

uint64_t recent_seed(const struct recent *r)
{
	return r->seed;
}

static struct note *place_of(struct recent *r, uint64_t fingerprint)
{
	return r->at[fingerprint & (PLACES - 1)];
}

/* Its valid note, or NULL. */
static struct note *find(struct recent *r, uint64_t fingerprint, uint64_t now)
{
	struct note *place = place_of(r, fingerprint);

	for (int i = 0; i < SHARE; i++)
		if (place[i].count && place[i].fingerprint == fingerprint && place[i].until > now)
			return &place[i];
	return NULL;
}

/* A note to overwrite: a free one, or the one that expires first. */
static struct note *make_room(struct recent *r, uint64_t fingerprint)
{
	struct note *place = place_of(r, fingerprint), *first = place;

	for (int i = 0; i < SHARE; i++) {
		if (!place[i].count || place[i].fingerprint == fingerprint)
			return &place[i];
		if (place[i].until < first->until)
			first = &place[i];
	}
	return first;
}

void recent_note(struct recent *r, uint64_t fingerprint, uint64_t now, uint64_t until)
{
	struct note *note = find(r, fingerprint, now);

	if (!note) {
		note = make_room(r, fingerprint);
		*note = (struct note){ .fingerprint = fingerprint };
	}
	note->count++;
	note->until = until;
}

bool recent_knows(struct recent *r, uint64_t fingerprint, uint64_t now)
{
	return find(r, fingerprint, now) != NULL;
}

bool recent_take(struct recent *r, uint64_t fingerprint, uint64_t now)
{
	struct note *note = find(r, fingerprint, now);

	if (note)
		note->count--;
	return note != NULL;
}
