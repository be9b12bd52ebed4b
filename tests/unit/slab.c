/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects of one size: zeroed, aligned, each once in the walk, and their memory is used again. */
#include "base/slab.h"
#include "check.h"
#include <stdint.h>
#include <stdlib.h>

#define MANY 3000 /* of 80 bytes: four chunks */

struct object {
	uint64_t words[10];
};

static struct object *taken[MANY];

static size_t walk(const struct slab *s)
{
	size_t count = 0;

	for (void *o = slab_next(s, NULL); o; o = slab_next(s, o))
		count++;
	return count;
}

static void test_empty(void)
{
	struct slab s;

	slab_init(&s, sizeof(struct object));
	CHECK(!slab_next(&s, NULL) && s.used == 0);
	slab_free(&s);
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (struct object *const *)a,
		  y = (uintptr_t) * (struct object *const *)b;

	return (x > y) - (x < y);
}

static void take(struct slab *s, size_t from)
{
	unsigned wrong = 0;

	for (size_t i = from; i < MANY; i++) {
		taken[i] = slab_get(s);
		wrong += !taken[i] || (uintptr_t)taken[i] % 8;
		for (int w = 0; taken[i] && w < 10; w++)
			wrong += taken[i]->words[w] != 0;
		if (taken[i])
			memset(taken[i], 0xff, sizeof(*taken[i]));
	}
	CHECK(wrong == 0);
}

static void test_many(void)
{
	unsigned overlaps = 0;
	struct slab s;

	slab_init(&s, sizeof(struct object));
	take(&s, 0);
	CHECK(s.used == MANY && walk(&s) == MANY);
	qsort(taken, MANY, sizeof(*taken), by_address);
	for (size_t i = 1; i < MANY; i++)
		overlaps += (uintptr_t)taken[i] - (uintptr_t)taken[i - 1] < sizeof(struct object);
	CHECK(overlaps == 0);

	for (size_t i = MANY / 2; i < MANY; i++)
		slab_put(&s, taken[i]);
	CHECK(s.used == MANY / 2 && walk(&s) == MANY / 2);
	take(&s, MANY / 2); /* zeroed again, although it was written to */
	CHECK(s.used == MANY && walk(&s) == MANY);
	slab_free(&s);
	CHECK(!slab_next(&s, NULL) && s.used == 0);
}

/* What is freed is used again before memory grows. */
static void test_again(void)
{
	struct slab_chunk *chunks;
	struct slab s;

	slab_init(&s, sizeof(struct object));
	take(&s, 0);
	chunks = s.chunks;
	for (int turn = 0; turn < 10; turn++) {
		for (size_t i = 0; i < MANY; i++)
			slab_put(&s, taken[i]);
		CHECK(!slab_next(&s, NULL));
		take(&s, 0);
	}
	CHECK(s.chunks == chunks);
	slab_free(&s);
}

/* Whoever walks may free the object it is at, once it has the next one. */
static void test_freed_in_walk(void)
{
	struct object *o, *next;
	struct slab s;

	slab_init(&s, sizeof(struct object));
	take(&s, 0);
	for (o = slab_next(&s, NULL); o; o = next) {
		next = slab_next(&s, o);
		slab_put(&s, o);
	}
	CHECK(s.used == 0 && !slab_next(&s, NULL));
	slab_free(&s);
}

static void test_sizes(void)
{
	static const size_t sizes[] = { 64, 65, 72, 1000, 20000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct slab s;
		char *one, *two;

		slab_init(&s, sizes[i]);
		one = slab_get(&s);
		two = slab_get(&s);
		CHECK(one && two && labs(two - one) >= (long)sizes[i]);
		CHECK((uintptr_t)one % 8 == 0 && (uintptr_t)two % 8 == 0);
		if (one && two)
			memset(two, 1, sizes[i]), memset(one, 1, sizes[i]);
		CHECK(walk(&s) == 2);
		slab_free(&s);
	}
}

int main(void)
{
	test_empty();
	test_many();
	test_again();
	test_freed_in_walk();
	test_sizes();
	return check_done();
}
