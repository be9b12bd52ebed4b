/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_table - the table of UDP flows: finds a flow by its two ends, keeps flows in the order of
 * last use, and chooses the one to end when there are too many.
 *
 * Knows the ends, age and client of a flow, nothing of sockets. Embed struct udp_entry first.
 */
#ifndef TPROXY_RELAY_UDP_TABLE_H
#define TPROXY_RELAY_UDP_TABLE_H

#include "base/endpoint.h"
#include "base/slab.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Progress of a flow:
 *
 *	UNANSWERED -> ANSWERED -> ESTABLISHED
 *
 * ANSWERED: an answer has come. ESTABLISHED: the client has sent more after that, or answers
 * continue for longer than one exchange lasts. Few flows of a name server ever get there, and none
 * of a flood from forged addresses.
 */
enum udp_class { UDP_UNANSWERED, UDP_ANSWERED, UDP_ESTABLISHED, UDP_CLASSES };

struct udp_source;

/* One flow, as the table sees it. Whoever adds it fills in client, origdst and via. */
struct udp_entry {
	struct udp_entry *next;			 /* in its bucket */
	struct udp_entry *older, *newer;	 /* in its class */
	struct udp_entry *own_older, *own_newer; /* of its client, by established or not */
	struct udp_source *source;
	struct endpoint client, origdst;
	uint64_t via;	 /* separates the clients of different proxies; 0: no proxy */
	uint32_t active; /* tick of its last datagram */
	uint8_t class;	 /* enum udp_class */
};

struct udp_list {
	struct udp_entry *oldest, *newest;
};

struct udp_table {
	uint64_t max; /* maximum number of flows */
	uint64_t count, count_of[UDP_CLASSES];
	uint64_t seed;
	struct udp_entry **buckets;
	size_t size; /* number of buckets, a power of two */
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

/* Add a flow, UNANSWERED and last used at that tick. Returns 0, or -1 with errno ENOMEM. */
int udp_table_add(struct udp_table *t, struct udp_entry *e, uint32_t tick);
void udp_table_remove(struct udp_table *t, struct udp_entry *e);

/* Note that a flow was used, or has reached a class. Cheap if neither the tick nor the class is
 * new. */
void udp_table_touch(struct udp_table *t, struct udp_entry *e, uint32_t tick, enum udp_class class);

/* The least recently used flow of that class, if it is idle for at least that many ticks; else
 * NULL. */
struct udp_entry *udp_table_expired(const struct udp_table *t, enum udp_class class, uint32_t tick,
				    uint32_t ticks);

/*
 * Which flow must make room for another one of this client, when the table is full? The rule, as
 * tproxy-relay(8) states it:
 *
 *	1. A client that has more than an eighth of all flows loses one of its own.
 *	2. Else an answered exchange goes, else an unanswered flow, of any client.
 *	3. Else an established flow that was idle for `silent` ticks.
 *	4. Else none: the new flow is refused.
 *
 * Always the least recently used one; in case 1 an established flow only if there is no other. A
 * client is an IPv4 address or an IPv6 /64. NULL in case 4.
 */
struct udp_entry *udp_table_victim(struct udp_table *t, const struct endpoint *client,
				   uint32_t tick, uint32_t silent);

#endif
