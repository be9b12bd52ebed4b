/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * All halves are in one array. Pairs that relays report are joined first. Each method of guessing
 * has a key that both halves of a connection share, made of the client's endpoint and the
 * destination; a table of the keys counts the client halves and the upstream halves of each, and
 * two halves that are the only ones of their side belong together. Three passes over the rest, the
 * most certain key first; each is linear.
 *
 * UDP flows are in an array of their own, as relays tell them. The kernel's list of UDP sockets says
 * who holds their sockets, and which tales are true; it is read after the tales, so that it has the
 * sockets of new flows. Strangers may tell any number of flows, which wait for it a few at a time.
 */
#include "tproxy-inspect/pairing.h"

#include "net/relay_client.h"
#include "tproxy-inspect/relays.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

/* So many flows of users other than root and our own wait to be proven. */
#define UNPROVEN_MAX 16384

/* Stuck: no payload for this time, and something waits. */
#define STUCK_MS 5000

enum role { ROLE_UNKNOWN, ROLE_CLIENT, ROLE_UPSTREAM };

struct half {
	struct sockdiag_socket socket;
	uid_t uid; /* the owner; 0 if that does not count */
	enum role role;
	enum pairing_by by;
	bool lone; /* not transparent: not part of a relayed connection */
	uint64_t age_us;
	struct half *other;
	struct relays_pair *elsewhere; /* what is told of an upstream half that is not here */
};

struct flow {
	struct relays_pair told;
	struct sockdiag_socket client, upstream;
};

struct udp_socket {
	struct sockdiag_socket socket;
	bool used; /* a stranger's flow has it */
};

struct pairing {
	const struct pairing_options *options;
	struct failure unasked;
	struct half *half;
	size_t count, room;
	struct half **by_cookie; /* sorted */
	struct flow *flow;
	size_t flows, flows_room;
	size_t settled, waiting; /* of them: whose sockets are known; strangers' behind these */
	struct udp_socket *udp;	 /* connected sockets, sorted by cookie */
	size_t udps, udps_room;
	size_t unproven; /* strangers' flows that are left out */
	uid_t unproven_uid;
	bool failed; /* why: */
	struct failure failure;
};

/* ---- reading ---- */

static enum role role_of(const struct sockdiag_socket *s)
{
	if (s->tcp.opener == OPENER_HERE || s->state == TCP_SYN_SENT)
		return ROLE_UPSTREAM;
	return s->tcp.opener == OPENER_PEER ? ROLE_CLIENT : ROLE_UNKNOWN;
}

/* If the counters do not show it: the destination's port is the lower one. */
static enum role role_by_port(const struct sockdiag_socket *s)
{
	return s->local.port < s->peer.port ? ROLE_CLIENT : ROLE_UPSTREAM;
}

/* Room for one more; false: there is none. */
static bool grow(void **at, size_t count, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : 256;
	void *grown = count < *room ? *at : realloc(*at, more * size);

	if (!grown)
		return false;
	*room = count < *room ? *room : more;
	*at = grown;
	return true;
}

static int add(struct pairing *p, const struct sockdiag_socket *s)
{
	bool lone = s->transparent == SOCKDIAG_NO;
	enum role role = role_of(s);

	if (!grow((void **)&p->half, p->count, &p->room, sizeof(*p->half)))
		return 1;
	p->half[p->count++] = (struct half){
		.socket = *s,
		.uid = p->options->ended_count ? 0 : s->uid,
		.role = lone && role == ROLE_UNKNOWN ? role_by_port(s) : role,
		.lone = lone,
	};
	return 0;
}

static int take(const struct sockdiag_socket *s, void *context)
{
	struct pairing *p = context;
	bool wanted = s->transparent == SOCKDIAG_YES ||
		      (p->options->all && s->transparent == SOCKDIAG_NO);

	return wanted && s->peer.port ? add(p, s) : 0;
}

static int take_udp(const struct sockdiag_socket *s, void *context)
{
	struct pairing *p = context;

	if (!s->peer.port)
		return 0;
	if (!grow((void **)&p->udp, p->udps, &p->udps_room, sizeof(*p->udp)))
		return 1;
	p->udp[p->udps++] = (struct udp_socket){ .socket = *s };
	return 0;
}

static int compare_udp(const void *one, const void *other)
{
	const struct udp_socket *a = one, *b = other;

	return (a->socket.cookie > b->socket.cookie) - (a->socket.cookie < b->socket.cookie);
}

static struct udp_socket *find_udp(const struct pairing *p, uint64_t cookie)
{
	const struct udp_socket wanted = { .socket = { .cookie = cookie } };

	return cookie && p->udps ? bsearch(&wanted, p->udp, p->udps, sizeof(*p->udp), compare_udp)
				 : NULL;
}

static int read_udp(struct pairing *p, struct failure *why)
{
	const struct sockdiag_filter filter = {
		.protocol = IPPROTO_UDP,
		.states = 1u << TCP_ESTABLISHED,
	};
	struct sockdiag *diag = sockdiag_open(why);
	int result;

	p->udps = 0;
	result = diag ? sockdiag_dump(diag, &filter, take_udp, p, why) : -1;
	sockdiag_close(diag);
	if (p->udps)
		qsort(p->udp, p->udps, sizeof(*p->udp), compare_udp);
	return result > 0 ? report_fail(why, ENOMEM, "malloc", "list of UDP sockets") : result;
}

static int read_tcp(struct pairing *p, struct sockdiag *diag, struct failure *why)
{
	const struct sockdiag_filter filter = {
		.protocol = IPPROTO_TCP,
		/* (A destroyed socket that was bound explicitly still lists its peer.) */
		.states = ~(1u << TCP_LISTEN | 1u << TCP_CLOSE | 1u << TCP_TIME_WAIT |
			    SOCKDIAG_BOUND_INACTIVE),
		.mixed = true,
		.info = true,
	};

	return sockdiag_dump(diag, &filter, take, p, why);
}

static int read_halves(struct pairing *p, struct failure *why)
{
	struct sockdiag *diag = sockdiag_open(why);
	int result = diag ? 0 : -1;

	if (!result && p->options->tcp)
		result = read_tcp(p, diag, why);
	sockdiag_close(diag);
	for (size_t i = 0; !result && i < p->options->ended_count; i++)
		result = add(p, &p->options->ended[i]);
	return result > 0 ? report_fail(why, ENOMEM, "malloc", "list of connections") : result;
}

/* ---- as relays tell it ---- */

static int compare_cookies(const void *one, const void *other)
{
	const struct half *const *a = one, *const *b = other;
	uint64_t x = (*a)->socket.cookie, y = (*b)->socket.cookie;

	return (x > y) - (x < y);
}

static int sort_by_cookie(struct pairing *p, struct failure *why)
{
	p->by_cookie = calloc(p->count + 1, sizeof(struct half *));
	if (!p->by_cookie)
		return report_fail(why, ENOMEM, "malloc", "pairs");
	for (size_t i = 0; i < p->count; i++)
		p->by_cookie[i] = &p->half[i];
	qsort(p->by_cookie, p->count, sizeof(struct half *), compare_cookies);
	return 0;
}

static struct half *find_half(const struct pairing *p, uint64_t cookie)
{
	const struct half wanted = { .socket = { .cookie = cookie } };
	const struct half *key = &wanted;
	struct half **found = bsearch(&key, p->by_cookie, p->count, sizeof(struct half *),
				      compare_cookies);

	return found ? *found : NULL;
}

static void join(struct half *a, struct half *b, enum pairing_by by)
{
	a->other = b;
	b->other = a;
	a->by = b->by = by;
}

/* Only root and the owner of these sockets may report a pair. */
static bool may_tell(const struct relays_pair *told, const struct half *h)
{
	return !told->uid || told->uid == h->socket.uid;
}

/* (Without memory it is shown alone.) */
static void note_elsewhere(struct half *client, const struct relays_pair *told)
{
	if (client->elsewhere || !(client->elsewhere = malloc(sizeof(*told))))
		return;
	*client->elsewhere = *told;
	client->role = ROLE_CLIENT;
	client->by = PAIRING_RELAY;
	client->age_us = told->age_us;
}

static void join_halves(struct pairing *p, const struct relays_pair *told)
{
	struct half *client = find_half(p, told->cookie);
	struct half *upstream = find_half(p, told->upstream_cookie);

	if (client && !upstream && *told->netns && !client->other && may_tell(told, client))
		note_elsewhere(client, told);
	if (!client || !upstream || client == upstream || client->other || upstream->other ||
	    !may_tell(told, client) || !may_tell(told, upstream))
		return;
	client->role = ROLE_CLIENT;
	upstream->role = ROLE_UPSTREAM;
	client->age_us = told->age_us;
	join(client, upstream, PAIRING_RELAY);
}

/* Root's and our own relays are trusted; of others a socket must be theirs, have the ends that they
 * tell, and belong to one flow only. (It need not be transparent: --source own.) */
static bool is_true(const struct relays_pair *told, const struct udp_socket *found,
		    const struct endpoint *local, const struct endpoint *peer)
{
	const struct sockdiag_socket *s = &found->socket;

	return relay_client_is_own(told->uid) ||
	       (!found->used && s->uid == told->uid && endpoint_equal(&s->local, local) &&
		endpoint_equal(&s->peer, peer));
}

/* One half of a flow: its socket, if it has one, with the flow's ends and key. False: none that we
 * know of. */
static bool make_half(const struct pairing *p, uint64_t cookie, const struct relays_pair *told,
		      const struct endpoint *local, const struct endpoint *peer,
		      struct sockdiag_socket *out)
{
	struct udp_socket *found = find_udp(p, cookie);

	if (found && !is_true(told, found, local, peer))
		found = NULL;
	*out = found ? found->socket
		     : (struct sockdiag_socket){ .protocol = IPPROTO_UDP,
						 .state = TCP_ESTABLISHED,
						 .transparent = SOCKDIAG_YES };
	if (found && !relay_client_is_own(told->uid))
		found->used = true;
	out->family = local->family;
	out->local = *local;
	out->peer = *peer;
	out->cookie = told->key;
	return found;
}

/* Its sockets. False: nothing proves it. */
static bool settle(const struct pairing *p, struct flow *f)
{
	const struct relays_pair *told = &f->told;
	/* What was sent to the listener itself has no other destination. */
	const struct endpoint *destination = endpoint_is_set(&told->origdst) ? &told->origdst
									     : &told->upstream;
	bool known = make_half(p, told->upstream_cookie, told, &told->upstream_local,
			       &told->upstream, &f->upstream);

	if (!known && !relay_client_is_own(told->uid))
		return false;
	make_half(p, told->cookie, told, destination, &told->client, &f->client);
	return true;
}

static void mark_used(const struct pairing *p)
{
	for (size_t i = 0; i < p->settled; i++) {
		const struct relays_pair *told = &p->flow[i].told;
		struct udp_socket *s = relay_client_is_own(told->uid)
					       ? NULL
					       : find_udp(p, told->upstream_cookie);

		if (s)
			s->used = true;
	}
}

static int settle_flows(struct pairing *p, struct failure *why)
{
	if (read_udp(p, why))
		return -1;
	mark_used(p);
	for (size_t i = p->settled; i < p->flows; i++) {
		struct flow f = p->flow[i];

		if (settle(p, &f)) {
			p->flow[p->settled++] = f;
			continue;
		}
		p->unproven++;
		p->unproven_uid = f.told.uid;
	}
	p->flows = p->settled;
	p->waiting = 0;
	return 0;
}

static void add_flow(struct pairing *p, const struct relays_pair *told)
{
	if (p->failed)
		return;
	if (!grow((void **)&p->flow, p->flows, &p->flows_room, sizeof(*p->flow))) {
		report_fail(&p->failure, ENOMEM, "malloc", "list of flows");
		p->failed = true;
		return;
	}
	p->flow[p->flows++] = (struct flow){ .told = *told };
	p->waiting += !relay_client_is_own(told->uid);
	if (p->waiting >= UNPROVEN_MAX)
		p->failed = settle_flows(p, &p->failure) < 0;
}

static void join_told(const struct relays_pair *told, void *context)
{
	struct pairing *p = context;

	if (told->protocol == IPPROTO_TCP && p->options->tcp)
		join_halves(p, told);
	else if (told->protocol == IPPROTO_UDP && p->options->udp)
		add_flow(p, told);
}

/* ---- guessing ---- */

/* What the two halves of a connection have in common. */
struct key {
	struct endpoint client, destination;
	uid_t uid;
};

enum pass { PASS_REVERSED, PASS_CLIENT, PASS_DESTINATION, PASSES };

static struct key key_of(const struct half *h, enum pass pass)
{
	bool upstream = h->role == ROLE_UPSTREAM;
	struct key key = {
		.client = upstream ? h->socket.local : h->socket.peer,
		.destination = upstream ? h->socket.peer : h->socket.local,
		.uid = h->uid,
	};

	if (pass == PASS_CLIENT)
		key.destination = (struct endpoint){ 0 };
	else if (pass == PASS_DESTINATION)
		key.client.port = 0;
	return key;
}

static bool same_key(const struct key *a, const struct key *b)
{
	return a->uid == b->uid && endpoint_equal(&a->client, &b->client) &&
	       endpoint_equal(&a->destination, &b->destination);
}

/* For one key: the last half of each role, and their number. */
struct slot {
	struct half *half[2];
	unsigned count[2];
};

struct table {
	struct slot *slot;
	size_t mask;
};

static int make_table(struct table *t, size_t entries, struct failure *why)
{
	size_t size = 16;

	while (size < 2 * entries)
		size *= 2;
	t->mask = size - 1;
	t->slot = calloc(size, sizeof(*t->slot));
	return t->slot ? 0 : report_fail(why, ENOMEM, "malloc", "table of connections");
}

static bool is_of(const struct slot *slot, const struct key *key, enum pass pass)
{
	struct key there = key_of(slot->count[0] ? slot->half[0] : slot->half[1], pass);

	return same_key(&there, key);
}

/* The slot of that key, or the empty slot for it. */
static struct slot *find_slot(const struct table *t, const struct key *key, enum pass pass)
{
	uint64_t hash = endpoint_hash(&key->client, 0) ^ endpoint_hash(&key->destination, key->uid);
	size_t at = hash & t->mask;

	while ((t->slot[at].count[0] || t->slot[at].count[1]) && !is_of(&t->slot[at], key, pass))
		at = (at + 1) & t->mask;
	return &t->slot[at];
}

static void enter(const struct table *t, struct half *h, enum pass pass)
{
	struct key key = key_of(h, pass);
	struct slot *slot = find_slot(t, &key, pass);
	int role = h->role == ROLE_UPSTREAM;

	slot->half[role] = h;
	slot->count[role]++;
}

/*
 * The counters of a busy connection's socket do not always show which side it is on. The other half
 * may show it; if neither does, the destination's port is the lower one.
 */
static enum role settle_role(const struct table *t, const struct half *h)
{
	struct half as = *h;
	struct key key;

	as.role = ROLE_UPSTREAM;
	key = key_of(&as, PASS_REVERSED);
	if (find_slot(t, &key, PASS_REVERSED)->count[0])
		return ROLE_UPSTREAM;
	as.role = ROLE_CLIENT;
	key = key_of(&as, PASS_REVERSED);
	if (find_slot(t, &key, PASS_REVERSED)->count[1])
		return ROLE_CLIENT;
	return role_by_port(&h->socket);
}

static bool is_loose(const struct half *h)
{
	return !h->other && !h->lone && !h->elsewhere;
}

static void enter_all(struct pairing *p, const struct table *t, enum pass pass)
{
	for (size_t i = 0; i < p->count; i++)
		if (is_loose(&p->half[i]) && p->half[i].role != ROLE_UNKNOWN)
			enter(t, &p->half[i], pass);
	for (size_t i = 0; i < p->count; i++)
		if (is_loose(&p->half[i]) && p->half[i].role == ROLE_UNKNOWN) {
			p->half[i].role = settle_role(t, &p->half[i]);
			enter(t, &p->half[i], pass);
		}
}

static int guess(struct pairing *p, enum pass pass, struct failure *why)
{
	struct table t;

	if (make_table(&t, p->count, why))
		return -1;
	enter_all(p, &t, pass);
	for (size_t i = 0; i <= t.mask; i++)
		if (t.slot[i].count[0] == 1 && t.slot[i].count[1] == 1)
			join(t.slot[i].half[0], t.slot[i].half[1], PAIRING_GUESSED);
	free(t.slot);
	return 0;
}

static bool is_to_be_asked(const struct pairing *p)
{
	const struct pairing_options *o = p->options;

	if (!o->ask_relays || !o->is_new || o->udp)
		return o->ask_relays;
	for (size_t i = 0; i < p->count; i++)
		if (o->is_new(&p->half[i].socket, o->context))
			return true;
	return false;
}

static int ask_relays(struct pairing *p, struct failure *why)
{
	struct relays *fresh = p->options->relays ? NULL : relays_new();
	struct relays *relays = p->options->relays ? p->options->relays : fresh;

	if (!relays)
		return report_fail(why, ENOMEM, "malloc", "relays");
	(void)!relays_each(relays, join_told, p, &p->unasked);
	relays_free(fresh);
	if (!p->failed && p->options->udp)
		p->failed = settle_flows(p, &p->failure) < 0;
	if (p->failed && why)
		*why = p->failure;
	return p->failed ? -1 : 0;
}

struct pairing *pairing_read(const struct pairing_options *options, struct failure *why)
{
	struct pairing *p = calloc(1, sizeof(*p));
	int err = p ? 0 : report_fail(why, ENOMEM, "malloc", "pairs");

	if (!err) {
		p->options = options;
		err = read_halves(p, why);
	}
	if (!err)
		err = sort_by_cookie(p, why);
	if (!err && is_to_be_asked(p))
		err = ask_relays(p, why);
	for (int pass = 0; !err && pass < PASSES; pass++)
		err = guess(p, (enum pass)pass, why);
	if (!err)
		return p;
	pairing_free(p);
	return NULL;
}

const struct failure *pairing_unasked(const struct pairing *p)
{
	return *p->unasked.call || *p->unasked.detail ? &p->unasked : NULL;
}

void pairing_tell_unasked(const struct pairing *p)
{
	const struct failure *why = pairing_unasked(p);
	char text[512];

	if (why)
		report_notice("%s: %s", report_text(why, text, sizeof(text)),
			      !p->options->udp	 ? "what this relay has is guessed"
			      : !p->options->tcp ? "its flows are missing"
						 : "its connections are guessed, its UDP flows "
						   "are missing");
}

bool pairing_tell_unproven(const struct pairing *p)
{
	if (p->unproven)
		report_notice("UDP flows of uid %u that are not shown, as nothing proves them: %zu",
			      (unsigned)p->unproven_uid, p->unproven);
	return p->unproven;
}

void pairing_free(struct pairing *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++)
		free(p->half[i].elsewhere);
	free(p->by_cookie);
	free(p->half);
	free(p->flow);
	free(p->udp);
	free(p);
}

/* ---- what became of it ---- */

const struct relays_pair *pairing_flow(const struct pairing_pair *pair)
{
	return pair->told && pair->told->protocol == IPPROTO_UDP ? pair->told : NULL;
}

static void put_socket(const struct sockdiag_socket *s, uint64_t cookie,
		       struct sockdiag_socket out[2], unsigned *count)
{
	out[*count] = *s;
	out[(*count)++].cookie = cookie;
}

unsigned pairing_sockets(const struct pairing_pair *pair, struct sockdiag_socket out[2])
{
	const struct sockdiag_socket *c = pair->client, *u = pair->upstream;
	const struct relays_pair *flow = pairing_flow(pair);
	unsigned count = 0;

	if (c && (!flow || c->inode))
		put_socket(c, flow ? flow->cookie : c->cookie, out, &count);
	if (u && (!flow || u->inode))
		put_socket(u, flow ? flow->upstream_cookie : u->cookie, out, &count);
	return count;
}

static int visit_flows(const struct pairing *p, pairing_visitor *visit, void *context)
{
	int result = 0;

	for (size_t i = 0; i < p->flows && !result; i++) {
		const struct flow *f = &p->flow[i];
		const struct pairing_pair pair = {
			.client = &f->client,
			.upstream = *f->told.netns ? NULL : &f->upstream,
			.told = &f->told,
			.by = PAIRING_RELAY,
			.age_us = f->told.age_us,
		};

		result = visit(&pair, context);
	}
	return result;
}

int pairing_each(const struct pairing *p, pairing_visitor *visit, void *context)
{
	int result = 0;

	for (size_t i = 0; i < p->count && !result; i++) {
		const struct half *h = &p->half[i];
		bool upstream = h->role == ROLE_UPSTREAM;
		const struct pairing_pair pair = {
			.client = upstream ? NULL : &h->socket,
			.upstream = upstream   ? &h->socket
				    : h->other ? &h->other->socket
					       : NULL,
			.told = h->elsewhere,
			.by = h->by,
			.age_us = h->age_us,
		};

		/* A pair is reported once, by its client half. */
		if (!upstream || !h->other)
			result = visit(&pair, context);
	}
	return result ? result : visit_flows(p, visit, context);
}

const struct sockdiag_socket *pairing_other(const struct pairing *p,
					    const struct sockdiag_socket *s)
{
	const struct half *h = find_half(p, s->cookie);

	return h && h->other ? &h->other->socket : NULL;
}

static bool is_quiet(const struct sockdiag_socket *s)
{
	return !s || s->tcp.idle_ms >= STUCK_MS;
}

/* The peer does not acknowledge (`silent`), or does not read (`full`); NULL: neither. A
 * retransmission counts as sent payload, so a connection with a silent peer is never idle for
 * long. */
static const char *held_by_peer(const struct sockdiag_socket *s, const char *silent,
				const char *full)
{
	if (!s || (!s->wqueue && s->state != TCP_SYN_SENT))
		return NULL;
	if (s->tcp.window_closed)
		return is_quiet(s) ? full : NULL;
	return s->tcp.unanswered >= 3 || (s->tcp.unanswered && is_quiet(s)) ? silent : NULL;
}

/* Data waits to be read, and the other side could take it. */
static bool is_left_lying(const struct sockdiag_socket *from, const struct sockdiag_socket *to)
{
	return from && from->rqueue && is_quiet(from) && (!to || (!to->wqueue && is_quiet(to)));
}

/* The peer has ended, everything was read, and the other side goes on. */
static bool is_end_kept(const struct sockdiag_socket *from, const struct sockdiag_socket *to)
{
	return from && to && from->state == TCP_CLOSE_WAIT && !from->rqueue &&
	       to->state == TCP_ESTABLISHED && !to->wqueue && is_quiet(from) && is_quiet(to);
}

const char *pairing_stuck(const struct pairing_pair *pair)
{
	const struct sockdiag_socket *c = pair->client, *u = pair->upstream;
	const char *held;

	if (pairing_flow(pair))
		return NULL;
	held = held_by_peer(u, "server-silent", "server-full");

	if (!held)
		held = held_by_peer(c, "client-silent", "client-full");
	if (!held && (is_left_lying(c, u) || is_left_lying(u, c)))
		held = "proxy";
	if (!held && (is_end_kept(c, u) || is_end_kept(u, c)))
		held = "end";
	return held;
}
