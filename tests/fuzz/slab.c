/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects taken, freed and walked over in any order, against a list of those in use; and notes of
 * what happened recently. */
#include "base/slab.h"
#include "base/recent.h"
#include "fuzz.h"

#define MOST 4096

static void **taken;
static size_t count;

static void take(struct slab *s)
{
	unsigned char *object = count < MOST ? slab_get(s) : NULL;

	if (!object)
		return;
	for (size_t i = 0; i < s->size; i++)
		fuzz_holds(object[i] == 0, "an object is zeroed");
	memset(object, 0xff, s->size);
	taken[count++] = object;
}

static void put(struct slab *s, size_t which)
{
	if (!count)
		return;
	which %= count;
	slab_put(s, taken[which]);
	taken[which] = taken[--count];
}

static void walk(const struct slab *s)
{
	size_t seen = 0;

	for (void *o = slab_next(s, NULL); o; o = slab_next(s, o))
		seen++;
	fuzz_holds(seen == count && s->used == count, "the walk meets each object in use once");
}

static void run_slab(const uint8_t *data, size_t size)
{
	struct slab s;

	count = 0;
	slab_init(&s, 64 + (size_t)data[0] * 8);
	for (size_t i = 1; i + 1 < size; i += 2) {
		if (data[i] < 100)
			for (unsigned n = 0; n <= data[i + 1]; n++)
				take(&s);
		else if (data[i] < 250)
			put(&s, data[i + 1]);
		else
			walk(&s);
	}
	walk(&s);
	slab_free(&s);
}

/* A fingerprint that was noted just now is known, and as often as it was. */
static void run_recent(const uint8_t *data, size_t size)
{
	struct failure why;
	struct recent *r = recent_new(&why);
	uint64_t now = 0;

	if (!r)
		abort();
	for (size_t i = 0; i + 1 < size; i += 2) {
		uint64_t fingerprint = (uint64_t)data[i] % 8 * 1024 + data[i] / 8 % 2;

		now += data[i + 1] % 4;
		if (data[i] & 128) {
			bool knew = recent_knows(r, fingerprint, now);

			fuzz_holds(recent_take(r, fingerprint, now) == knew,
				   "what is known is taken");
		} else {
			recent_note(r, fingerprint, now, now + 1 + data[i + 1]);
			fuzz_holds(recent_knows(r, fingerprint, now), "what was noted is known");
			fuzz_holds(!recent_knows(r, fingerprint, now + 1 + data[i + 1]),
				   "and forgotten in time");
		}
	}
	recent_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (!taken && !(taken = calloc(MOST, sizeof(*taken))))
		abort();
	run_slab(data, size);
	run_recent(data, size);
	return 0;
}
