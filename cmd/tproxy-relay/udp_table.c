/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SIZE_FIRST   256
#define SHARE_OF_ALL 8

/* One client, while it has flows. */
struct udp_source {
	struct udp_source *next;
	struct endpoint address; /* no port; for IPv6 the /64 */
	struct udp_list own[2];	 /* established or not */
	uint64_t count;
};

int udp_table_init(struct udp_table *t, uint64_t max)
{
	*t = (struct udp_table){ .max = max, .size = SIZE_FIRST, .source_size = SIZE_FIRST };
	slab_init(&t->sources, sizeof(struct udp_source));
	/* Clients choose their ports: without a secret they could choose the buckets too. */
	if (getrandom(&t->seed, sizeof(t->seed), GRND_NONBLOCK) < 0)
		t->seed = (uintptr_t)t;
	t->buckets = calloc(t->size, sizeof(struct udp_entry *));
	t->source_buckets = calloc(t->source_size, sizeof(struct udp_source *));
	return t->buckets && t->source_buckets ? 0 : -1;
}

void udp_table_free(struct udp_table *t)
{
	slab_free(&t->sources);
	free(t->buckets);
	free(t->source_buckets);
	t->buckets = NULL;
	t->source_buckets = NULL;
}

/* ---- flows by their ends ---- */

static uint64_t hash_of(const struct udp_table *t, const struct endpoint *client,
			const struct endpoint *origdst, uint64_t via)
{
	return endpoint_hash(origdst, endpoint_hash(client, t->seed ^ via));
}

static struct udp_entry **bucket_of(const struct udp_table *t, const struct udp_entry *e)
{
	return &t->buckets[hash_of(t, &e->client, &e->origdst, e->via) & (t->size - 1)];
}

struct udp_entry *udp_table_find(const struct udp_table *t, const struct endpoint *client,
				 const struct endpoint *origdst, uint64_t via)
{
	struct udp_entry *e = t->buckets[hash_of(t, client, origdst, via) & (t->size - 1)];

	while (e && !(e->via == via && endpoint_equal(&e->client, client) &&
		      endpoint_equal(&e->origdst, origdst)))
		e = e->next;
	return e;
}

static void put_into(struct udp_table *t, struct udp_entry *e)
{
	struct udp_entry **bucket = bucket_of(t, e);

	e->next = *bucket;
	*bucket = e;
}

/* Double the buckets. Without memory the table stays as it is: slower, still correct. */
static void grow(struct udp_table *t)
{
	struct udp_entry **old = t->buckets, *e, *next;
	size_t old_size = t->size;
	struct udp_entry **grown = calloc(2 * old_size, sizeof(struct udp_entry *));

	if (!grown)
		return;
	t->buckets = grown;
	t->size = 2 * old_size;
	for (size_t i = 0; i < old_size; i++) {
		for (e = old[i]; e; e = next) {
			next = e->next;
			put_into(t, e);
		}
	}
	free(old);
}

/* ---- clients ---- */

/* Whoever has one IPv6 address has all of its /64. */
static struct endpoint address_of(const struct endpoint *client)
{
	struct endpoint address = *client;

	address.port = 0;
	if (address.family == AF_INET6)
		memset(address.addr.v6.s6_addr + 8, 0, 8);
	return address;
}

static struct udp_source **source_bucket(const struct udp_table *t, const struct endpoint *address)
{
	return &t->source_buckets[endpoint_hash(address, t->seed) & (t->source_size - 1)];
}

static struct udp_source *find_source(const struct udp_table *t, const struct endpoint *client)
{
	struct endpoint address = address_of(client);
	struct udp_source *s = *source_bucket(t, &address);

	while (s && !endpoint_equal(&s->address, &address))
		s = s->next;
	return s;
}

static void grow_sources(struct udp_table *t)
{
	struct udp_source **old = t->source_buckets, **bucket, *s, *next;
	size_t old_size = t->source_size;
	struct udp_source **grown = calloc(2 * old_size, sizeof(struct udp_source *));

	if (!grown)
		return;
	t->source_buckets = grown;
	t->source_size = 2 * old_size;
	for (size_t i = 0; i < old_size; i++) {
		for (s = old[i]; s; s = next) {
			next = s->next;
			bucket = source_bucket(t, &s->address);
			s->next = *bucket;
			*bucket = s;
		}
	}
	free(old);
}

static struct udp_source *enter_source(struct udp_table *t, const struct endpoint *client)
{
	struct udp_source *s = find_source(t, client), **bucket;

	if (s)
		return s;
	if (t->sources.used >= t->source_size)
		grow_sources(t);
	s = slab_get(&t->sources);
	if (!s)
		return NULL;
	s->address = address_of(client);
	bucket = source_bucket(t, &s->address);
	s->next = *bucket;
	*bucket = s;
	return s;
}

static void leave_source(struct udp_table *t, struct udp_source *s)
{
	struct udp_source **at = source_bucket(t, &s->address);

	if (--s->count)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	slab_put(&t->sources, s);
}

/* ---- order of use ---- */

static struct udp_list *own_list(struct udp_entry *e)
{
	return &e->source->own[e->class == UDP_ESTABLISHED];
}

static void append(struct udp_table *t, struct udp_entry *e)
{
	struct udp_list *list = &t->lists[e->class], *own = own_list(e);

	e->older = list->newest;
	*(list->newest ? &list->newest->newer : &list->oldest) = e;
	list->newest = e;
	e->own_older = own->newest;
	*(own->newest ? &own->newest->own_newer : &own->oldest) = e;
	own->newest = e;
	e->newer = e->own_newer = NULL;
	t->count_of[e->class]++;
}

static void take_out(struct udp_table *t, struct udp_entry *e)
{
	struct udp_list *list = &t->lists[e->class], *own = own_list(e);

	*(e->older ? &e->older->newer : &list->oldest) = e->newer;
	*(e->newer ? &e->newer->older : &list->newest) = e->older;
	*(e->own_older ? &e->own_older->own_newer : &own->oldest) = e->own_newer;
	*(e->own_newer ? &e->own_newer->own_older : &own->newest) = e->own_older;
	t->count_of[e->class]--;
}

void udp_table_touch(struct udp_table *t, struct udp_entry *e, uint32_t tick, enum udp_class class)
{
	if (e->active == tick && e->class == class)
		return;
	take_out(t, e);
	e->active = tick;
	e->class = (uint8_t) class;
	append(t, e);
}

/* ---- coming and going ---- */

int udp_table_add(struct udp_table *t, struct udp_entry *e, uint32_t tick)
{
	e->source = enter_source(t, &e->client);
	if (!e->source)
		return -1;
	e->source->count++;
	e->active = tick;
	e->class = UDP_UNANSWERED;
	if (t->count >= t->size)
		grow(t);
	put_into(t, e);
	append(t, e);
	t->count++;
	return 0;
}

void udp_table_remove(struct udp_table *t, struct udp_entry *e)
{
	struct udp_entry **at = bucket_of(t, e);

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	take_out(t, e);
	leave_source(t, e->source);
	t->count--;
}

struct udp_entry *udp_table_expired(const struct udp_table *t, enum udp_class class, uint32_t tick,
				    uint32_t ticks)
{
	struct udp_entry *e = t->lists[class].oldest;

	return e && tick - e->active >= ticks ? e : NULL;
}

struct udp_entry *udp_table_victim(struct udp_table *t, const struct endpoint *client,
				   uint32_t tick, uint32_t silent)
{
	const struct udp_source *s = find_source(t, client);

	if (s && s->count > t->max / SHARE_OF_ALL)
		return s->own[0].oldest ? s->own[0].oldest : s->own[1].oldest;
	if (t->lists[UDP_ANSWERED].oldest)
		return t->lists[UDP_ANSWERED].oldest;
	if (t->lists[UDP_UNANSWERED].oldest)
		return t->lists[UDP_UNANSWERED].oldest;
	return udp_table_expired(t, UDP_ESTABLISHED, tick, silent);
}
