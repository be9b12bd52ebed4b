/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/client_count.h"

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

struct client_count {
	uint64_t seed;
	struct entry *slots[SLOTS];
};

struct client_count *client_count_new(struct failure *why)
{
	struct client_count *clients = calloc(1, sizeof(*clients));

	if (!clients) {
		report_fail(why, ENOMEM, "malloc", "count of clients");
		return NULL;
	}
	/* Without randomness (too early in the boot) it still works, but the seed is guessable. */
	if (getrandom(&clients->seed, sizeof(clients->seed), GRND_NONBLOCK) < 0)
		clients->seed = (uintptr_t)clients;
	return clients;
}

void client_count_free(struct client_count *clients)
{
	for (size_t i = 0; clients && i < SLOTS; i++) {
		for (struct entry *e = clients->slots[i], *next; e; e = next) {
			next = e->next;
			free(e);
		}
	}
	free(clients);
}

static struct endpoint who_is(const struct endpoint *client)
{
	struct endpoint who = *client;

	who.port = 0;
	/* All neighbours share fe80::/64, so there the whole address counts. */
	if (who.family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&who.addr.v6))
		memset(&who.addr.v6.s6_addr[8], 0, 8);
	return who;
}

/* The link to the client's entry, or the link at the end of its slot. */
static struct entry **find(struct client_count *clients, const struct endpoint *who)
{
	struct entry **at = &clients->slots[endpoint_hash(who, clients->seed) & (SLOTS - 1)];

	while (*at && !endpoint_equal(&(*at)->who, who))
		at = &(*at)->next;
	return at;
}

uint32_t client_count_enter(struct client_count *clients, const struct endpoint *client)
{
	struct endpoint who = who_is(client);
	struct entry **at = find(clients, &who);

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			return UINT32_MAX;
		(*at)->who = who;
	}
	return ++(*at)->count;
}

void client_count_leave(struct client_count *clients, const struct endpoint *client)
{
	struct endpoint who = who_is(client);
	struct entry **at = find(clients, &who), *entry = *at;

	if (!entry || --entry->count)
		return;
	*at = entry->next;
	free(entry);
}
