/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/legs.h"

#include "intercept/predicate.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

/* States in which a socket may still send to its peer. Not TIME_WAIT and CLOSE; for SYN_RECV the
 * kernel does not report whether it is transparent: such a handshake either becomes a connection,
 * which the next round sees, or nobody has relied on it yet. */
#define LIVING                                                                                    \
	(1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2 | \
	 1U << TCP_CLOSE_WAIT | 1U << TCP_LAST_ACK | 1U << TCP_CLOSING)

/* State while the sockets are gathered and classified. */
struct search {
	const struct legs_question *question;
	struct sockdiag *diag;
	struct legs *legs;
	struct leg **client; /* accepted legs, sorted by their peer's end */
	size_t clients;
};

/* --- whose predicate two ends are in ---------------------------------------------------------- */

enum owner { OWNER_NONE, OWNER_OURS, OWNER_OTHER };

static bool is_own_address(struct route *route, const struct endpoint *e)
{
	/* By the routes for unmarked packets. */
	const struct route_question question = { .destination = *e };
	struct route_answer answer;

	return !route_ask(route, &question, &answer, NULL) && answer.type == RTN_LOCAL;
}

/* Would the specification see packets of this client, by the interface that leads to it or because
 * the client is this host itself? */
static bool sees(const struct intercept *spec, const struct route_answer *to_client)
{
	char name[IF_NAMESIZE];

	if (to_client->type == RTN_LOCAL)
		return intercept_takes_own(spec);
	if (!spec->devices || !if_indextoname(to_client->oif, name))
		return true;
	for (unsigned i = 0; i < spec->devices; i++) {
		size_t fixed = strcspn(spec->device[i], "*");

		if (!strncmp(spec->device[i], name, fixed) &&
		    (spec->device[i][fixed] || !name[fixed]))
			return true;
	}
	return false;
}

/* The interface distinguishes two predicates that share ports and addresses. */
static enum owner decide_by_interface(const struct legs_question *q, const struct intercept *other,
				      const struct endpoint *client)
{
	const struct route_question question = { .destination = *client };
	struct route_answer answer;

	if (route_ask(q->route, &question, &answer, NULL) || sees(q->spec, &answer))
		return OWNER_OURS;
	return sees(other, &answer) ? OWNER_OTHER : OWNER_OURS;
}

static const struct intercept *find_other(const struct legs_question *q,
					  const struct endpoint *client,
					  const struct endpoint *destination)
{
	for (size_t i = 0; i < q->others; i++)
		if (predicate_matches(&q->other[i], client, destination))
			return &q->other[i];
	return NULL;
}

static enum owner owner_of_ends(const struct legs_question *q, const struct endpoint *client,
				const struct endpoint *destination)
{
	bool ours = predicate_matches(q->spec, client, destination);
	const struct intercept *other = find_other(q, client, destination);

	if (ours && other)
		return decide_by_interface(q, other, client);
	return ours ? OWNER_OURS : other ? OWNER_OTHER : OWNER_NONE;
}

/* --- marks and neighbours --------------------------------------------------------------------- */

static bool carries(const struct sockdiag_socket *s, const struct intercept *spec)
{
	return s->has_mark && (s->mark & spec->upstream_mark.mask) == spec->upstream_mark.value;
}

static bool carries_any(const struct legs_question *q, const struct sockdiag_socket *s)
{
	for (size_t i = 0; i < q->others; i++)
		if (carries(s, &q->other[i]))
			return true;
	return carries(s, q->spec);
}

/* Would another instance's divert rules serve this socket when ours are gone? */
static bool is_served(const struct legs_question *q, const struct sockdiag_socket *s)
{
	for (size_t i = 0; i < q->others; i++)
		if ((s->protocol == IPPROTO_TCP ? q->other[i].tcp : q->other[i].udp) &&
		    (s->local.family == AF_INET ? q->other[i].ipv4 : q->other[i].ipv6))
			return true;
	return false;
}

static bool has_divert_only(const struct legs_question *q)
{
	for (size_t i = 0; i < q->others; i++)
		if (q->other[i].divert_only)
			return true;
	return false;
}

/* --- gathering -------------------------------------------------------------------------------- */

/* TIME_WAIT and orphans in FIN_WAIT_2 are minimal sockets: the kernel reports only their ends. */
static bool is_remains(const struct sockdiag_socket *s)
{
	return s->state == TCP_TIME_WAIT ||
	       (s->state == TCP_FIN_WAIT2 && s->transparent == SOCKDIAG_UNKNOWN);
}

static int gather(const struct sockdiag_socket *s, void *context)
{
	struct search *search = context;
	struct legs *legs = search->legs;

	if (s->transparent != SOCKDIAG_YES && !is_remains(s))
		return 0;
	if (legs->count == legs->room) {
		size_t room = legs->room ? 2 * legs->room : 64;
		struct leg *grown = realloc(legs->at, room * sizeof(*grown));

		if (!grown)
			return 1;
		legs->at = grown;
		legs->room = room;
	}
	legs->at[legs->count++] = (struct leg){ .socket = *s, .remains = is_remains(s) };
	return 0;
}

static int dump(struct search *search, const struct sockdiag_filter *filter,
		sockdiag_visitor *visit, struct failure *why)
{
	int result = sockdiag_dump(search->diag, filter, visit, search, why);

	return result > 0 ? report_fail(why, ENOMEM, "realloc", "sockets") : result;
}

/* A UDP socket that serves one flow is connected, and its state is ESTABLISHED. Others serve no
 * particular flow. */
static int gather_all(struct search *search, struct failure *why)
{
	const struct sockdiag_filter tcp = { .protocol = IPPROTO_TCP,
					     .states = LIVING | 1U << TCP_TIME_WAIT,
					     .mixed = true };
	const struct sockdiag_filter udp = { .protocol = IPPROTO_UDP,
					     .states = 1U << TCP_ESTABLISHED };

	if (search->question->spec->tcp && dump(search, &tcp, gather, why))
		return -1;
	return search->question->spec->udp ? dump(search, &udp, gather, why) : 0;
}

/* --- which leg it is -------------------------------------------------------------------------- */

static int by_cookie(const void *a, const void *b)
{
	const struct leg *x = a, *y = b;

	return x->socket.cookie < y->socket.cookie ? -1 : x->socket.cookie > y->socket.cookie;
}

static int note_bound(const struct sockdiag_socket *s, void *context)
{
	struct search *search = context;
	const struct leg key = { .socket = { .cookie = s->cookie } };
	struct leg *leg = bsearch(&key, search->legs->at, search->legs->count, sizeof(key),
				  by_cookie);

	if (leg)
		leg->upstream = true;
	return 0;
}

/* UDP has no accept(): both legs are bound, and only a mark distinguishes them. */
static int tell_apart(struct search *search, struct failure *why)
{
	const struct sockdiag_filter bound = {
		.protocol = IPPROTO_TCP, .states = LIVING, .mixed = true, .bound = true
	};
	struct legs *legs = search->legs;

	if (!legs->count)
		return 0;
	qsort(legs->at, legs->count, sizeof(*legs->at), by_cookie);
	if (search->question->spec->tcp && dump(search, &bound, note_bound, why))
		return -1;
	for (size_t i = 0; i < legs->count; i++) {
		const struct sockdiag_socket *s = &legs->at[i].socket;

		legs->at[i].upstream |= s->late_port || carries_any(search->question, s);
	}
	return 0;
}

/* --- whose it is ------------------------------------------------------------------------------ */

static int by_peer(const void *a, const void *b)
{
	const struct leg *x = *(const struct leg *const *)a, *y = *(const struct leg *const *)b;

	if (x->socket.protocol != y->socket.protocol)
		return x->socket.protocol - y->socket.protocol;
	return endpoint_compare(&x->socket.peer, &y->socket.peer);
}

static int index_clients(struct search *search, struct failure *why)
{
	struct legs *legs = search->legs;

	search->client = malloc((legs->count + 1) * sizeof(*search->client));
	if (!search->client)
		return report_fail(why, ENOMEM, "malloc", "sockets");
	for (size_t i = 0; i < legs->count; i++)
		if (!legs->at[i].upstream && !legs->at[i].remains)
			search->client[search->clients++] = &legs->at[i];
	qsort(search->client, search->clients, sizeof(*search->client), by_peer);
	return 0;
}

/* The client leg of that upstream leg has the same client address and port; of several, the one
 * with the same two ends. */
static struct leg *client_leg_of(const struct search *search, const struct leg *upstream)
{
	const struct leg key = { .socket = { .protocol = upstream->socket.protocol,
					     .peer = upstream->socket.local } };
	const struct leg *sought = &key;
	struct leg **end = search->client + search->clients, **at, **first;

	at = bsearch(&sought, search->client, search->clients, sizeof(*at), by_peer);
	if (!at)
		return NULL;
	while (at > search->client && !by_peer(at - 1, &sought))
		at--;
	for (first = at; at < end && !by_peer(at, &sought); at++)
		if (endpoint_equal(&(*at)->socket.local, &upstream->socket.peer))
			return *at;
	return *first;
}

/* A leg with ends in nobody's predicate: ours if it carries our mark, as with a fixed upstream, and
 * no other instance's rules could serve it. */
static bool is_left_to_us(const struct legs_question *q, const struct leg *leg)
{
	return !is_served(q, &leg->socket) &&
	       (q->spec->divert_only || leg->remains || carries(&leg->socket, q->spec));
}

static bool owns_upstream(const struct legs_question *q, const struct leg *leg)
{
	const struct sockdiag_socket *s = &leg->socket;
	enum owner owner = owner_of_ends(q, &s->local, &s->peer);

	if (owner == OWNER_NONE)
		return is_left_to_us(q, leg);
	/* Without a mark it may belong to a proxy that opens its own listener and is served by
	 * --divert-only. */
	return owner == OWNER_OURS &&
	       (carries_any(q, s) ? carries(s, q->spec) : !has_divert_only(q));
}

static bool owns_client(const struct legs_question *q, const struct leg *leg)
{
	enum owner owner = owner_of_ends(q, &leg->socket.peer, &leg->socket.local);

	return owner == OWNER_NONE ? is_left_to_us(q, leg) : owner == OWNER_OURS;
}

/* The kernel does not report which leg the remains belonged to. Removing them harms no
 * connection. */
static bool owns_remains(const struct legs_question *q, const struct leg *leg)
{
	const struct sockdiag_socket *s = &leg->socket;

	return predicate_matches(q->spec, &s->local, &s->peer) ||
	       predicate_matches(q->spec, &s->peer, &s->local) || is_left_to_us(q, leg);
}

static void judge_upstream(const struct search *search, struct leg *leg)
{
	const struct legs_question *q = search->question;
	struct leg *client = client_leg_of(search, leg);

	leg->ours = client ? owns_client(q, client) || is_left_to_us(q, leg)
			   : owns_upstream(q, leg);
	if (client)
		client->ours |= leg->ours;
}

static void judge_all(const struct search *search)
{
	const struct legs_question *q = search->question;
	struct legs *legs = search->legs;

	for (size_t i = 0; i < legs->count; i++) {
		struct leg *leg = &legs->at[i];

		if (leg->remains)
			leg->ours = owns_remains(q, leg);
		else if (leg->upstream)
			judge_upstream(search, leg);
		else
			leg->ours |= owns_client(q, leg);
	}
}

/* --- the result ------------------------------------------------------------------------------- */

static bool is_living(const struct leg *leg)
{
	return !leg->remains;
}

static void keep_ours(const struct legs_question *q, struct legs *legs)
{
	size_t kept = 0;

	for (size_t i = 0; i < legs->count; i++)
		if (legs->at[i].ours && !is_own_address(q->route, &legs->at[i].socket.local))
			legs->at[kept++] = legs->at[i];
	legs->count = kept;
	legs->living = legs_count(legs, is_living);
}

int legs_find(const struct legs_question *question, struct legs *legs, struct failure *why)
{
	struct search search = { .question = question, .legs = legs };
	int err;

	*legs = (struct legs){ 0 };
	search.diag = sockdiag_open(why);
	err = search.diag ? gather_all(&search, why) : -1;
	if (!err)
		err = tell_apart(&search, why);
	if (!err)
		err = index_clients(&search, why);
	if (!err) {
		judge_all(&search);
		keep_ours(question, legs);
	}
	free(search.client);
	sockdiag_close(search.diag);
	return err;
}

void legs_free(struct legs *legs)
{
	free(legs->at);
	*legs = (struct legs){ 0 };
}

size_t legs_count(const struct legs *legs, bool (*kind)(const struct leg *leg))
{
	size_t count = 0;

	for (size_t i = 0; i < legs->count; i++)
		count += kind(&legs->at[i]);
	return count;
}

/* A single leg (its other leg has an address of this host, is not open yet or no longer open)
 * counts as a connection, too, unless there are single legs of both sides. */
size_t legs_connections(const struct legs *legs, bool (*kind)(const struct leg *leg))
{
	size_t count[2] = { 0 };

	for (size_t i = 0; i < legs->count; i++)
		count[legs->at[i].upstream] += kind(&legs->at[i]);
	return count[0] > count[1] ? count[0] : count[1];
}
