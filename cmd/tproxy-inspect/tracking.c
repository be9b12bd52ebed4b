/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Connections are found by the cookie of either half. A list (a `round`) brings new halves and
 * pairs; a half is dead when the kernel has reported it, or when it was missing from two rounds (a
 * dump is not a snapshot, so once means nothing). A connection is over when all of its halves are
 * dead. A connection with one half is reported a round later, as the other half may still come.
 *
 * Ends of unknown sockets wait for the next round, and take part in it as if the sockets still
 * existed: so the two halves of a short connection find each other.
 */
#include "tproxy-inspect/tracking.h"

#include "base/clock.h"
#include "net/route.h"
#include "net/sockevents.h"
#include "tproxy-inspect/pair_record.h"
#include "tproxy-inspect/relays.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Interval between two lists: minimum, maximum, and as a multiple of the processor time that one
 * takes. */
#define INTERVAL_MIN_US 250000
#define INTERVAL_MAX_US 10000000
#define COST_FACTOR	50

/* Rounds after which a connection's owner is no longer looked for. */
#define OWNER_ROUNDS 3

struct tracking {
	const struct filter *filter;
	struct filter_walk walk;
	bool with_owners;
	tracking_listener *listen;
	void *context;
	struct sockevents *events;
	struct tracked *first;
	struct tracked **bucket[2]; /* by the cookie of the client's half, of the other one */
	size_t mask;
	size_t count; /* of all that are known */
	uint32_t round;
	struct sockdiag_socket *ended; /* nobody knew these */
	size_t ended_count, ended_room;
	struct relays *relays;
	uint64_t due_us;
	bool told_hidden, told_unproven;
	bool lost; /* memory was short for some event */
};

/* ---- the table ---- */

static struct tracked **bucket_of(const struct tracking *t, enum tracking_side side,
				  uint64_t cookie)
{
	return &t->bucket[side][(cookie * 0x9e3779b97f4a7c15ULL >> 32) & t->mask];
}

static struct tracked *find_side(const struct tracking *t, enum tracking_side side, uint64_t cookie)
{
	struct tracked *c = *bucket_of(t, side, cookie);

	while (c && c->half[side].socket.cookie != cookie)
		c = c->half[side].next;
	return c;
}

static struct tracked *find(const struct tracking *t, uint64_t cookie, enum tracking_side *side)
{
	for (*side = TRACKING_CLIENT; *side <= TRACKING_UPSTREAM; (*side)++) {
		struct tracked *c = cookie ? find_side(t, *side, cookie) : NULL;

		if (c)
			return c;
	}
	return NULL;
}

static void link_half(struct tracking *t, struct tracked *c, enum tracking_side side)
{
	struct tracked **bucket = bucket_of(t, side, c->half[side].socket.cookie);

	c->half[side].next = *bucket;
	*bucket = c;
}

static void unlink_half(struct tracking *t, struct tracked *c, enum tracking_side side)
{
	struct tracked **at = bucket_of(t, side, c->half[side].socket.cookie);

	while (*at != c)
		at = &(*at)->half[side].next;
	*at = c->half[side].next;
}

static bool has_half(const struct tracked *c, enum tracking_side side)
{
	return c->half[side].socket.cookie != 0;
}

static void link_halves(struct tracking *t, struct tracked *c)
{
	for (enum tracking_side side = TRACKING_CLIENT; side <= TRACKING_UPSTREAM; side++)
		if (has_half(c, side))
			link_half(t, c, side);
}

/* Double the buckets. Without memory they stay as they are, and their chains grow. */
static bool grow(struct tracking *t, size_t size)
{
	struct tracked **client = calloc(size, sizeof(struct tracked *));
	struct tracked **upstream = calloc(size, sizeof(struct tracked *));

	if (!client || !upstream) {
		free(client);
		free(upstream);
		return t->mask != 0;
	}
	free(t->bucket[TRACKING_CLIENT]);
	free(t->bucket[TRACKING_UPSTREAM]);
	t->bucket[TRACKING_CLIENT] = client;
	t->bucket[TRACKING_UPSTREAM] = upstream;
	t->mask = size - 1;
	for (struct tracked *c = t->first; c; c = c->after)
		link_halves(t, c);
	return true;
}

static struct tracked *new_connection(struct tracking *t)
{
	struct tracked *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	if (t->count > t->mask)
		grow(t, 2 * (t->mask + 1));
	c->first_round = t->round;
	c->old = t->round == 1;
	c->after = t->first;
	if (t->first)
		t->first->before = c;
	t->first = c;
	t->count++;
	return c;
}

static void drop(struct tracking *t, struct tracked *c)
{
	for (enum tracking_side side = TRACKING_CLIENT; side <= TRACKING_UPSTREAM; side++)
		if (has_half(c, side))
			unlink_half(t, c, side);
	*(c->before ? &c->before->after : &t->first) = c->after;
	if (c->after)
		c->after->before = c->before;
	t->count--;
	free(c->flow);
	free(c);
}

/* ---- one connection ---- */

struct pairing_pair tracking_pair(const struct tracked *c)
{
	return (struct pairing_pair){
		.client = has_half(c, TRACKING_CLIENT) ? &c->half[TRACKING_CLIENT].socket : NULL,
		.upstream = has_half(c, TRACKING_UPSTREAM) ? &c->half[TRACKING_UPSTREAM].socket
							   : NULL,
		.told = c->flow,
		.by = c->by,
	};
}

static bool is_over(const struct tracked *c)
{
	for (enum tracking_side side = TRACKING_CLIENT; side <= TRACKING_UPSTREAM; side++)
		if (has_half(c, side) && !c->half[side].ended)
			return false;
	return true;
}

static void count_bytes(struct tracked *c, uint64_t now_us)
{
	struct pairing_pair pair = tracking_pair(c);
	struct pair_record_bytes bytes = pair_record_bytes(&pair);
	double seconds = (double)(now_us - c->seen_us) / 1e6;

	if (c->seen_us && seconds > 0.01) {
		c->rate_up = (double)(bytes.up - c->bytes_up) / seconds;
		c->rate_down = (double)(bytes.down - c->bytes_down) / seconds;
	}
	if (bytes.up < c->bytes_up || bytes.down < c->bytes_down)
		c->rate_up = c->rate_down = 0; /* now another half tells */
	c->bytes_up = bytes.up;
	c->bytes_down = bytes.down;
	c->seen_us = now_us;
}

static void tell_open(struct tracking *t, struct tracked *c)
{
	c->told = true;
	if (!c->old)
		t->listen(TRACKING_OPEN, c, t->context);
}

/* Report the end of a connection, its last event. */
static void finish(struct tracking *t, struct tracked *c)
{
	if (c->selected && !c->told)
		tell_open(t, c);
	if (c->selected)
		t->listen(TRACKING_CLOSE, c, t->context);
	drop(t, c);
}

/* ---- the kernel's events ---- */

static void keep_ended(struct tracking *t, const struct sockdiag_socket *s)
{
	if (t->ended_count == t->ended_room) {
		size_t room = t->ended_room ? 2 * t->ended_room : 64;
		struct sockdiag_socket *grown = realloc(t->ended, room * sizeof(*grown));

		if (!grown) {
			t->lost = true;
			return;
		}
		t->ended = grown;
		t->ended_room = room;
	}
	t->ended[t->ended_count++] = *s;
}

/* The one more that came since is the FIN (tcpinfo.h). */
static void end_half(struct tracked *c, enum tracking_side side, const struct sockdiag_socket *s)
{
	struct tracking_half *h = &c->half[side];
	uint64_t before = h->socket.tcp.bytes_in;

	h->ended = true;
	h->socket.state = s->state;
	h->socket.tcp = s->tcp;
	if (h->socket.tcp.bytes_in == before + 1)
		h->socket.tcp.bytes_in = before;
	h->socket.rqueue = h->socket.wqueue = 0;
}

static void take_end(const struct sockdiag_socket *s, void *context)
{
	struct tracking *t = context;
	enum tracking_side side;
	struct tracked *c;

	if (!t->filter->tcp || !s->peer.port || !s->cookie)
		return; /* a listener, or what was never connected */
	c = find(t, s->cookie, &side);
	if (!c) {
		keep_ended(t, s);
		return;
	}
	end_half(c, side, s);
	if (is_over(c) && (c->told || c->old))
		finish(t, c);
}

static int read_events(struct tracking *t, struct failure *why)
{
	int lost = sockevents_read(t->events, take_end, t, why);

	if (lost < 0)
		return -1;
	if (lost || t->lost) {
		t->listen(TRACKING_RESYNC, NULL, t->context);
		t->due_us = 0;
	}
	t->lost = false;
	return 0;
}

/* ---- a round ---- */

static int is_new(const struct sockdiag_socket *s, void *context)
{
	enum tracking_side side;

	return !find(context, s->cookie, &side);
}

/* Only IP_TRANSPARENT permits a foreign address; the kernel does not report the flag for closed
 * sockets. */
static void see_transparent(struct tracking *t)
{
	struct route *route = t->ended_count ? route_open(NULL) : NULL;
	struct cidr_list own = { 0 };

	if (route && !route_own_addresses(route, &own, NULL))
		for (size_t i = 0; i < t->ended_count; i++)
			t->ended[i].transparent = endpoint_in_cidrs(&t->ended[i].local, &own)
							  ? SOCKDIAG_UNKNOWN
							  : SOCKDIAG_YES;
	endpoint_cidr_free(&own);
	route_close(route);
}

static void set_half(struct tracking *t, struct tracked *c, enum tracking_side side,
		     const struct sockdiag_socket *s)
{
	struct tracking_half *h = &c->half[side];
	bool known = has_half(c, side);

	if (!s || (known && h->socket.cookie != s->cookie))
		return;
	h->round = t->round;
	if (h->ended)
		return;
	h->socket = *s;
	h->ended = s->state == TCP_CLOSE;
	if (!known)
		link_half(t, c, side);
}

/* Merge what was taken for two connections. */
static void merge(struct tracking *t, struct tracked *c, struct tracked *other)
{
	struct tracking_half moved = other->half[TRACKING_UPSTREAM];

	if (has_half(c, TRACKING_UPSTREAM) || has_half(other, TRACKING_CLIENT))
		return;
	c->told |= other->told;
	drop(t, other);
	c->half[TRACKING_UPSTREAM] = moved;
	link_half(t, c, TRACKING_UPSTREAM);
}

/* The connection that has one of these halves already, or a new one; NULL: no memory. */
static struct tracked *connection_of(struct tracking *t, const struct pairing_pair *pair)
{
	enum tracking_side side;
	struct tracked *c = pair->client ? find(t, pair->client->cookie, &side) : NULL;
	struct tracked *u = pair->upstream ? find(t, pair->upstream->cookie, &side) : NULL;

	if (c && u && c != u)
		merge(t, c, u);
	return c ? c : u ? u : new_connection(t);
}

static bool keep_flow(struct tracked *c, const struct pairing_pair *pair)
{
	if (!pairing_flow(pair))
		return true;
	if (!c->flow)
		c->flow = malloc(sizeof(*c->flow));
	if (c->flow)
		*c->flow = *pair->told;
	return c->flow;
}

static int take_pair(const struct pairing_pair *pair, void *context)
{
	struct tracking *t = context;
	struct tracked *c = connection_of(t, pair);
	uint64_t now = clock_us();

	if (!c || !keep_flow(c, pair))
		return ENOMEM;
	set_half(t, c, TRACKING_CLIENT, pair->client);
	set_half(t, c, TRACKING_UPSTREAM, pair->upstream);
	if (pair->by > c->by)
		c->by = pair->by;
	if (pair->age_us && pair->age_us < now && (!c->opened_us || c->first_round == t->round))
		c->opened_us = now - pair->age_us;
	else if (c->first_round == t->round && !c->old && !is_over(c))
		c->opened_us = now;
	count_bytes(c, now);
	return 0;
}

static bool is_owner_due(const struct tracking *t, const struct tracked *c)
{
	bool wanted = t->with_owners || t->filter->pid || t->filter->prog;

	return wanted && !c->owner.pid && t->round - c->first_round < OWNER_ROUNDS;
}

/* Missing rights are noted when the last attempt to find the owner has failed. */
static void select_half(struct tracking *t, struct tracked *c, const struct sockdiag_socket *s,
			struct sockowner_list *owners)
{
	const struct sockowner *owner = owners ? sockowner_find(owners, s->inode) : NULL;
	bool last = t->round - c->first_round == OWNER_ROUNDS - 1;
	struct filter_walk unnoted = { .owners = false };

	if (!filter_has_state(t->filter, s) ||
	    !filter_has(t->filter, last ? &t->walk : &unnoted, s, owners))
		return;
	c->selected = true;
	if (owner)
		c->owner = *owner;
}

/* Both halves count. A round without owners cannot decide on a filter by owner. */
static void select_connection(struct tracking *t, struct tracked *c, struct sockowner_list *owners)
{
	struct pairing_pair pair = tracking_pair(c);

	if ((c->selected && !owners) || (!owners && (t->filter->pid || t->filter->prog)))
		return;
	if (pair.client)
		select_half(t, c, pair.client, owners);
	if (pair.upstream)
		select_half(t, c, pair.upstream, owners);
}

static int read_owners(struct tracking *t, struct sockowner_list **owners, struct failure *why)
{
	struct filter_walk walk = { .owners = t->with_owners };

	*owners = NULL;
	for (struct tracked *c = t->first; c; c = c->after)
		if (is_owner_due(t, c))
			return filter_owners(t->filter, &walk, owners, why);
	return 0;
}

/* A half missing from two lists is gone: its end event was lost, or it is no longer a
 * connection. Flows are only in the lists of relays, of which some may not answer. */
static void find_missing(struct tracking *t, struct tracked *c)
{
	if (c->flow && !relays_has_told(t->relays, c->flow->relay))
		for (enum tracking_side side = TRACKING_CLIENT; side <= TRACKING_UPSTREAM; side++)
			c->half[side].round = t->round;
	for (enum tracking_side side = TRACKING_CLIENT; side <= TRACKING_UPSTREAM; side++)
		if (has_half(c, side) && t->round - c->half[side].round >= 2)
			c->half[side].ended = true;
}

static bool may_be_told(const struct tracking *t, const struct tracked *c)
{
	return (has_half(c, TRACKING_CLIENT) && has_half(c, TRACKING_UPSTREAM)) || c->old ||
	       c->first_round != t->round;
}

static int settle(struct tracking *t, struct failure *why)
{
	struct sockowner_list *owners;
	struct tracked *next;

	if (read_owners(t, &owners, why))
		return -1;
	for (struct tracked *c = t->first; c; c = next) {
		next = c->after;
		find_missing(t, c);
		select_connection(t, c, owners);
		if (is_over(c))
			finish(t, c);
		else if (c->selected && !c->told && may_be_told(t, c))
			tell_open(t, c);
	}
	sockowner_free(owners);
	return 0;
}

static int read_round(struct tracking *t, struct failure *why)
{
	const struct pairing_options options = {
		.tcp = t->filter->tcp,
		.udp = t->filter->udp,
		.all = t->filter->all,
		.ask_relays = true,
		.relays = t->relays,
		.is_new = is_new,
		.context = t,
		.ended = t->ended,
		.ended_count = t->ended_count,
	};
	struct pairing *pairs = pairing_read(&options, why);
	int err;

	if (!pairs)
		return -1;
	err = pairing_each(pairs, take_pair, t);
	pairing_tell_unasked(pairs);
	t->told_unproven = t->told_unproven || pairing_tell_unproven(pairs);
	pairing_free(pairs);
	t->ended_count = 0;
	return err ? report_fail(why, err, "malloc", "list of connections") : settle(t, why);
}

static int begin_round(struct tracking *t, struct failure *why)
{
	uint64_t before = clock_cpu_us(), pause;

	t->round++;
	see_transparent(t);
	if (read_round(t, why))
		return -1;
	pause = (clock_cpu_us() - before) * COST_FACTOR;
	if (pause < INTERVAL_MIN_US)
		pause = INTERVAL_MIN_US;
	t->due_us = clock_us() + (pause < INTERVAL_MAX_US ? pause : INTERVAL_MAX_US);
	return 0;
}

/* ---- all of it ---- */

struct tracking *tracking_new(const struct filter *filter, bool with_owners,
			      tracking_listener *listen, void *context, struct failure *why)
{
	struct tracking *t = calloc(1, sizeof(*t));

	if (!t || !grow(t, 1024)) {
		free(t);
		report_fail(why, ENOMEM, "malloc", "connections");
		return NULL;
	}
	t->filter = filter;
	t->with_owners = with_owners;
	t->listen = listen;
	t->context = context;
	t->relays = relays_new();
	if (t->relays)
		t->events = sockevents_open(why);
	else
		report_fail(why, ENOMEM, "malloc", "relays");
	if (t->events && !begin_round(t, why))
		return t;
	tracking_free(t);
	return NULL;
}

void tracking_free(struct tracking *t)
{
	if (!t)
		return;
	for (struct tracked *c = t->first, *next; c; c = next) {
		next = c->after;
		drop(t, c);
	}
	sockevents_close(t->events);
	relays_free(t->relays);
	free(t->bucket[TRACKING_CLIENT]);
	free(t->bucket[TRACKING_UPSTREAM]);
	free(t->ended);
	free(t);
}

int tracking_fd(const struct tracking *t)
{
	return sockevents_fd(t->events);
}

int tracking_wait_ms(const struct tracking *t)
{
	uint64_t now = clock_us();

	return t->due_us <= now ? 0 : (int)((t->due_us - now + 999) / 1000);
}

int tracking_turn(struct tracking *t, struct failure *why)
{
	if (read_events(t, why))
		return -1;
	if (clock_us() >= t->due_us && begin_round(t, why))
		return -1;
	if (!t->told_hidden && (t->walk.marks_hidden || t->walk.owners_hidden)) {
		filter_tell_hidden(&t->walk);
		t->told_hidden = true;
	}
	return 0;
}

int tracking_each(const struct tracking *t, tracking_visitor *visit, void *context)
{
	int result = 0;

	for (const struct tracked *c = t->first; c && !result; c = c->after)
		if (c->selected && !is_over(c))
			result = visit(c, context);
	return result;
}

unsigned long tracking_count(const struct tracking *t)
{
	unsigned long count = 0;

	for (const struct tracked *c = t->first; c; c = c->after)
		count += c->selected && !is_over(c);
	return count;
}
