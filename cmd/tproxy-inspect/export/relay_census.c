/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/export/relay_census.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_S 1
#define LITTLE_MS 20

struct asking {
	struct relay_census *census;
	struct relay_census_entry *relay; /* the one that is being asked */
	uint64_t deadline;
	bool untrusted;
};

/* ---- one answer ---- */

/* What goes between quotes in a metric: letters, digits, and what versions and states have. */
static void copy_word(char *to, size_t size, const char *from)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789.-+~_";
	size_t length = from ? strspn(from, plain) : 0;

	snprintf(to, size, "%.*s", (int)length, from ? from : "");
}

static void take_head(struct relay_census_entry *relay, const struct record *r)
{
	copy_word(relay->version, sizeof(relay->version), record_get_text(r, RECORD_VERSION));
	copy_word(relay->state, sizeof(relay->state), record_get_text(r, RECORD_STATE));
}

/* Numbers of a later version that have no name here are left out. */
static void take_counter(struct relay_census_entry *relay, const struct record *r)
{
	const char *name = record_get_text(r, RECORD_CHECK);
	int which = name ? relay_stats_find(name) : -1;

	if (which >= 0)
		relay->at[which] = record_get_number(r, RECORD_COUNT);
}

static bool trusts(const struct relay_client_peer *peer, void *context)
{
	struct asking *a = context;

	a->untrusted = !relay_client_is_own(peer->uid);
	return !a->untrusted;
}

static int take(const struct record *r, const struct relay_client_peer *peer, void *context,
		struct failure *why)
{
	struct asking *a = context;
	const char *type = record_get_text(r, RECORD_TYPE);

	if (strcmp(type, "relay") == 0)
		take_head(a->relay, r);
	else if (strcmp(type, "counter") == 0)
		take_counter(a->relay, r);
	return 0;
}

/* ---- all of them ---- */

static struct relay_census_entry *add(struct relay_census *c)
{
	struct relay_census_entry *grown = realloc(c->at, (c->count + 1) * sizeof(*grown));

	if (!grown)
		return NULL;
	c->at = grown;
	grown += c->count++;
	memset(grown, 0, sizeof(*grown));
	return grown;
}

/* Non-zero: the name is there. */
static int is_name(const struct relay_client_listener *at, void *context)
{
	return strcmp(at->name, context) == 0;
}

/* It did not answer: because it has ended? A process that exits closes its descriptors last to
 * first (task_work_run(), kernel/task_work.c), so its listener outlives our connection a little.
 * #syscalls collect: nanosleep, clock_nanosleep */
static bool has_ended(const char *name)
{
	const struct timespec little = { .tv_nsec = LITTLE_MS * 1000000 };

	nanosleep(&little, NULL);
	return relay_client_each(is_name, (void *)name, NULL) == 0;
}

static void ask_one(struct asking *a, const struct relay_client_listener *at)
{
	struct relay_census_entry *relay = a->relay;

	if (clock_ms() >= a->deadline) {
		report_refuse(&relay->why, "not asked: the others have taken too long");
		return;
	}
	relay->known = relay_client_ask_trusted(at, "counters", TIMEOUT_S, trusts, take, a,
						&relay->why) == 0;
	if (a->untrusted)
		a->census->untrusted++;
	if (a->untrusted || (!relay->known && relay->why.err != EAGAIN && has_ended(at->name)))
		a->census->count--;
}

/* Whose it is, is known before anybody connects, if the kernel tells it: untrusted ones cost no
 * time. */
static int visit(const struct relay_client_listener *at, void *context)
{
	struct asking *a = context;

	if (at->known && !relay_client_is_own(at->uid)) {
		a->census->untrusted++;
		return 0;
	}
	a->relay = add(a->census);
	a->untrusted = false;
	if (!a->relay)
		return ENOMEM;
	snprintf(a->relay->id, sizeof(a->relay->id), "%s", strchr(at->name, '/') + 1);
	snprintf(a->relay->label, sizeof(a->relay->label), "relay=\"%s\"", a->relay->id);
	ask_one(a, at);
	return 0;
}

int relay_census_take(struct relay_census *c, struct failure *why)
{
	struct asking a = { .census = c, .deadline = clock_ms() + RELAY_CENSUS_LIMIT_MS };
	int result;

	*c = (struct relay_census){ 0 };
	result = relay_client_each(visit, &a, why);
	return result > 0 ? report_fail(why, result, "realloc", "relays") : result;
}

void relay_census_free(struct relay_census *c)
{
	free(c->at);
	*c = (struct relay_census){ 0 };
}

bool relay_census_is_well(const struct relay_census_entry *relay)
{
	return relay->known && (strcmp(relay->state, "serving") == 0 || relay->at[STATS_REPLACED]);
}
