/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happened lately: known until a time, as often as it was noted, and in a fixed amount of
 * memory. */
#include "base/recent.h"
#include "check.h"

static struct failure why;

static void test_time(void)
{
	struct recent *r = recent_new(&why);

	CHECK(!recent_knows(r, 7, 0) && !recent_take(r, 7, 0));
	recent_note(r, 7, 1000, 2000);
	CHECK(recent_knows(r, 7, 1000) && recent_knows(r, 7, 1999));
	CHECK(!recent_knows(r, 7, 2000) && !recent_take(r, 7, 2000));
	CHECK(!recent_knows(r, 8, 1000));
	/* Fingerprint 0 is one like any other. */
	recent_note(r, 0, 1000, 2000);
	CHECK(recent_knows(r, 0, 1500));
	recent_free(r);
}

static void test_count(void)
{
	struct recent *r = recent_new(&why);

	recent_note(r, 7, 0, 100);
	recent_note(r, 7, 0, 200); /* the later time is for both */
	CHECK(recent_take(r, 7, 150) && recent_knows(r, 7, 150));
	CHECK(recent_take(r, 7, 150) && !recent_knows(r, 7, 150));
	CHECK(!recent_take(r, 7, 150));
	/* What has passed is not counted with what comes. */
	recent_note(r, 7, 0, 100);
	recent_note(r, 7, 0, 100);
	recent_note(r, 7, 500, 600);
	CHECK(recent_take(r, 7, 550) && !recent_take(r, 7, 550));
	recent_free(r);
}

/* Five that share a place for four: the one that ends first makes room. */
static void test_room(void)
{
	struct recent *r = recent_new(&why);

	for (uint64_t i = 0; i < 4; i++)
		recent_note(r, 5 + i * 4096, 0, 1000 - i);
	for (uint64_t i = 0; i < 4; i++)
		CHECK(recent_knows(r, 5 + i * 4096, 0));
	recent_note(r, 5 + 4 * 4096, 0, 5000);
	CHECK(recent_knows(r, 5 + 4 * 4096, 0));
	for (uint64_t i = 0; i < 4; i++)
		CHECK(recent_knows(r, 5 + i * 4096, 0) == (i < 3));
	/* A neighbour loses nothing. */
	recent_note(r, 6, 0, 1);
	CHECK(recent_knows(r, 6, 0) && recent_knows(r, 5, 0));
	recent_free(r);
}

static void test_seed(void)
{
	struct recent *a = recent_new(&why), *b = recent_new(&why);

	CHECK(a && b && recent_seed(a) == recent_seed(a) && recent_seed(a) != recent_seed(b));
	recent_free(a);
	recent_free(b);
	recent_free(NULL);
}

int main(void)
{
	test_time();
	test_count();
	test_room();
	test_seed();
	return check_done();
}
