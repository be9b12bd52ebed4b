/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/marks.h"

/* How many values to try: more than anybody's marks can use up of a 16-bit mask. */
#define TRIES 65536

bool marks_clash(const struct mark *a, const struct mark *b)
{
	return !((a->value ^ b->value) & a->mask & b->mask);
}

static bool is_free(const struct mark *mark, const struct mark taken[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (marks_clash(mark, &taken[i]))
			return false;
	return true;
}

/* Tries the values under the mask from the lowest one, except 0. */
static bool find_value(struct mark *mark, const struct mark taken[], size_t count)
{
	mark->value = 0;
	for (int i = 0; i < TRIES; i++) {
		mark->value = (mark->value - mark->mask) & mark->mask;
		if (!mark->value)
			return false;
		if (is_free(mark, taken, count))
			return true;
	}
	return false;
}

bool marks_find_free(const struct mark *like, const struct mark taken[], size_t count,
		     struct mark *unused)
{
	*unused = *like;
	if (find_value(unused, taken, count))
		return true;
	for (size_t i = 0; i < count; i++) {
		unused->mask = taken[i].mask;
		if (find_value(unused, taken, count))
			return true;
	}
	*unused = *like;
	return false;
}
