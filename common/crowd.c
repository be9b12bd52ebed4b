/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crowd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SLOTS 1024 /* a power of two */

struct entry {
	struct entry *next;
	struct endpoint who; /* port 0; IPv6: the last 64 bits are zero */
	uint32_t count;
};

struct crowd {
	uint64_t seed;
	struct entry *slots[SLOTS];
};

struct crowd *crowd_new(struct failure *why)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));

	if (!crowd) {
		report_fail(why, ENOMEM, "malloc", "count of clients");
		return NULL;
	}
	/* Without randomness (too early in the boot) it still counts, only more guessably. */
	if (getrandom(&crowd->seed, sizeof(crowd->seed), GRND_NONBLOCK) < 0)
		crowd->seed = (uintptr_t)crowd;
	return crowd;
}

void crowd_free(struct crowd *crowd)
{
	for (size_t i = 0; crowd && i < SLOTS; i++) {
		for (struct entry *e = crowd->slots[i], *next; e; e = next) {
			next = e->next;
			free(e);
		}
	}
	free(crowd);
}

static struct endpoint who_is(const struct endpoint *client)
{
	struct endpoint who = *client;

	who.port = 0;
	/* All neighbours share fe80::/64, so there it is the address that tells them apart. */
	if (who.family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&who.addr.v6))
		memset(&who.addr.v6.s6_addr[8], 0, 8);
	return who;
}

/* The place that points to the client's entry, or to the end of its slot. */
static struct entry **find(struct crowd *crowd, const struct endpoint *who)
{
	struct entry **at = &crowd->slots[endpoint_hash(who, crowd->seed) & (SLOTS - 1)];

	while (*at && !endpoint_equal(&(*at)->who, who))
		at = &(*at)->next;
	return at;
}

uint32_t crowd_enter(struct crowd *crowd, const struct endpoint *client)
{
	struct endpoint who = who_is(client);
	struct entry **at = find(crowd, &who);

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			return UINT32_MAX;
		(*at)->who = who;
	}
	return ++(*at)->count;
}

void crowd_leave(struct crowd *crowd, const struct endpoint *client)
{
	struct endpoint who = who_is(client);
	struct entry **at = find(crowd, &who), *entry = *at;

	if (!entry || --entry->count)
		return;
	*at = entry->next;
	free(entry);
}
