/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_table - the flows of datagrams that there are: found by their two ends, kept in the order in
 * which they were used last, and the one that must go when there are too many.
 *
 * Knows ends, ages and whose flow it is; of sockets it knows nothing. Embed struct udp_entry first.
 */
#ifndef TPROXY_RELAY_UDP_TABLE_H
#define TPROXY_RELAY_UDP_TABLE_H

#include "base/endpoint.h"
#include "base/slab.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How far a flow has come:
 *
 *	UNANSWERED -> ANSWERED -> ESTABLISHED
 *
 * ANSWERED: something has come back. ESTABLISHED: the client has spoken again after that, or
 * answers go on for longer than an exchange lasts. Few flows of a name server ever get there, none
 * of a flood from invented addresses.
 */
enum udp_class { UDP_UNANSWERED, UDP_ANSWERED, UDP_ESTABLISHED, UDP_CLASSES };

struct udp_source;

/* One flow, as the table sees it. client, origdst and via are filled in by who adds it. */
struct udp_entry {
	struct udp_entry *next;			 /* of its bucket */
	struct udp_entry *older, *newer;	 /* of its class */
	struct udp_entry *own_older, *own_newer; /* of its client, established or not */
	struct udp_source *source;
	struct endpoint client, origdst;
	uint64_t via;	 /* tells apart what different proxies say of themselves; 0: no proxy */
	uint32_t active; /* tick of its last datagram */
	uint8_t class;	 /* enum udp_class */
};

struct udp_list {
	struct udp_entry *oldest, *newest;
};

struct udp_table {
	uint64_t max; /* flows at most */
	uint64_t count, count_of[UDP_CLASSES];
	uint64_t seed;
	struct udp_entry **buckets;
	size_t size; /* of buckets, a power of two */
	struct udp_list lists[UDP_CLASSES];
	struct udp_source **source_buckets;
	size_t source_size;
	struct slab sources;
};

/* An empty table. Returns 0, or -1 with errno ENOMEM. */
int udp_table_init(struct udp_table *t, uint64_t max);
void udp_table_free(struct udp_table *t);

struct udp_entry *udp_table_find(const struct udp_table *t, const struct endpoint *client,
				 const struct endpoint *origdst, uint64_t via);

/* Add a flow, UNANSWERED and used at that tick. Returns 0, or -1 with errno ENOMEM. */
int udp_table_add(struct udp_table *t, struct udp_entry *e, uint32_t tick);
void udp_table_remove(struct udp_table *t, struct udp_entry *e);

/* It was used, or has come further. Cheap when neither the tick nor the class is new. */
void udp_table_touch(struct udp_table *t, struct udp_entry *e, uint32_t tick, enum udp_class class);

/* The flow of that class that was used last the longest ago, if that is at least so many ticks; or
 * NULL. */
struct udp_entry *udp_table_expired(const struct udp_table *t, enum udp_class class, uint32_t tick,
				    uint32_t ticks);

/*
 * Which flow must make room for another one of this client, when there are as many as may be? The
 * rule, which tproxy-relay(8) states:
 *
 *	1. A client that has more than an eighth of all gives up one of its own.
 *	2. Else an answered exchange goes, else an unanswered flow, whoever has it.
 *	3. Else an established flow that was silent for `silent` ticks.
 *	4. Else none: the new one cannot be had.
 *
 * Always the one that was used last the longest ago; in 1. an established one only if there is no
 * other. A client is an IPv4 address or an IPv6 /64. NULL in case 4.
 */
struct udp_entry *udp_table_victim(struct udp_table *t, const struct endpoint *client,
				   uint32_t tick, uint32_t silent);

#endif
