/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/origin.h"

#include "net/conntrack.h"
#include "net/listening.h"
#include "net/route.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

/* A connection that conntrack redirected. */
struct redirected {
	int protocol;
	struct endpoint local, peer, origdst;
};

struct origin {
	struct sockdiag *diag;
	struct conntrack *conntrack;	  /* opened when it is needed */
	struct sockdiag_socket *receiver; /* sockets that take connections or datagrams */
	size_t receivers;
	bool read[2];	      /* receivers of TCP, of UDP */
	struct cidr_list own; /* this host's addresses */
	bool own_read;
	bool many;
	struct redirected *redirected; /* sorted, when many questions are expected */
	size_t redirects, room;
	bool redirected_read;
};

struct origin *origin_open(struct failure *why)
{
	struct origin *o = calloc(1, sizeof(*o));

	if (!o) {
		report_fail(why, ENOMEM, "malloc", "origin");
		return NULL;
	}
	o->diag = sockdiag_open(why);
	if (!o->diag) {
		free(o);
		return NULL;
	}
	return o;
}

void origin_forget(struct origin *o)
{
	free(o->receiver);
	o->receiver = NULL;
	o->receivers = 0;
	o->read[0] = o->read[1] = false;
	endpoint_cidr_free(&o->own);
	o->own = (struct cidr_list){ 0 };
	o->own_read = false;
}

void origin_close(struct origin *o)
{
	if (!o)
		return;
	origin_forget(o);
	sockdiag_close(o->diag);
	conntrack_close(o->conntrack);
	free(o->redirected);
	free(o);
}

void origin_expect_many(struct origin *o)
{
	o->many = true;
}

/* ---- this host's addresses and listeners ---- */

static bool is_own(struct origin *o, const struct endpoint *e)
{
	struct route *route;

	if (!o->own_read) {
		route = route_open(NULL);
		o->own_read = route && !route_own_addresses(route, &o->own, NULL);
		route_close(route);
	}
	/* Where routes cannot be read the socket calls know, too. */
	return o->own_read ? endpoint_in_cidrs(e, &o->own) : transparent_is_local(e);
}

static int add_receiver(const struct sockdiag_socket *s, void *context)
{
	struct origin *o = context;
	struct sockdiag_socket *grown;

	if (!(o->receivers & (o->receivers - 1))) {
		grown = realloc(o->receiver,
				(o->receivers ? 2 * o->receivers : 1) * sizeof(*grown));
		if (!grown)
			return 1;
		o->receiver = grown;
	}
	o->receiver[o->receivers++] = *s;
	return 0;
}

static int read_receivers(struct origin *o, int protocol, struct failure *why)
{
	bool udp = protocol == IPPROTO_UDP;
	int result;

	if (o->read[udp])
		return 0;
	result = listening_each(o->diag, protocol, add_receiver, o, why);
	if (result > 0)
		return report_fail(why, ENOMEM, "malloc", "list of listeners");
	o->read[udp] = !result;
	return result;
}

int origin_is_direct(struct origin *o, int protocol, const struct endpoint *local, bool transparent,
		     struct failure *why)
{
	if (!is_own(o, local))
		return 0;
	if (!transparent)
		return 1;
	if (read_receivers(o, protocol, why))
		return -1;
	for (size_t i = 0; i < o->receivers; i++)
		if (o->receiver[i].protocol == protocol &&
		    o->receiver[i].transparent == SOCKDIAG_YES &&
		    listening_matches(&o->receiver[i], local))
			return 1;
	return 0;
}

/* ---- conntrack ---- */

static int compare(const void *one, const void *other)
{
	const struct redirected *a = one, *b = other;
	int order = endpoint_compare(&a->peer, &b->peer);

	if (!order)
		order = endpoint_compare(&a->local, &b->local);
	return order ? order : a->protocol - b->protocol;
}

static int add_redirected(int protocol, const struct endpoint *local, const struct endpoint *peer,
			  const struct endpoint *origdst, void *context)
{
	struct origin *o = context;

	if (o->redirects == o->room) {
		size_t room = o->room ? 2 * o->room : 64;
		struct redirected *grown = realloc(o->redirected, room * sizeof(*grown));

		if (!grown)
			return 1;
		o->redirected = grown;
		o->room = room;
	}
	o->redirected[o->redirects++] = (struct redirected){ protocol, *local, *peer, *origdst };
	return 0;
}

static int look_among_many(struct origin *o, int protocol, const struct endpoint *local,
			   const struct endpoint *peer, struct endpoint *origdst,
			   struct failure *why)
{
	struct redirected wanted = { protocol, *local, *peer, { 0 } };
	const struct redirected *found;

	if (!o->redirected_read && conntrack_each_redirected(o->conntrack, add_redirected, o, why))
		return -1;
	if (!o->redirected_read && o->redirects)
		qsort(o->redirected, o->redirects, sizeof(*o->redirected), compare);
	o->redirected_read = true;
	wanted.local.scope = wanted.peer.scope = 0; /* conntrack has none */
	found = o->redirects
			? bsearch(&wanted, o->redirected, o->redirects, sizeof(wanted), compare)
			: NULL;
	if (found)
		*origdst = found->origdst;
	return found != NULL;
}

/* Ask conntrack: 1 with *origdst if the connection was redirected to local; 0: it was not; -1 with
 * *why: conntrack cannot be asked. */
static int ask_conntrack(struct origin *o, int protocol, const struct endpoint *local,
			 const struct endpoint *peer, struct endpoint *origdst, struct failure *why)
{
	int known;

	if (!o->conntrack && !(o->conntrack = conntrack_open(why)))
		return -1;
	if (o->many)
		return look_among_many(o, protocol, local, peer, origdst, why);
	known = conntrack_origdst(o->conntrack, protocol, local, peer, origdst, why);
	return known == 1 ? !endpoint_equal(origdst, local) : known;
}

/* ---- answers ---- */

static int answer_conntrack(struct origin *o, int protocol, const struct endpoint *local,
			    const struct endpoint *peer, struct origin_answer *answer,
			    struct failure *why)
{
	int redirected = ask_conntrack(o, protocol, local, peer, &answer->origdst, why);

	if (redirected == 1)
		answer->origin = ORIGIN_CONNTRACK;
	else
		answer->origdst = (struct endpoint){ 0 };
	return redirected;
}

/* Is the socket of the other half of a relayed UDP flow here, too? */
static int has_other_half(struct origin *o, const struct sockdiag_socket *s, struct failure *why)
{
	struct sockdiag_socket other;
	int found = sockdiag_lookup(o->diag, IPPROTO_UDP, &s->local, &s->peer, 0, &other, why);

	return found == 1 ? endpoint_equal(&other.peer, &s->local) : found;
}

int origin_of(struct origin *o, const struct sockdiag_socket *s, struct origin_answer *answer,
	      struct failure *why)
{
	int direct, half = 0;

	*answer = (struct origin_answer){ .origin = ORIGIN_NONE };
	if (s->tcp.opener == OPENER_HERE)
		return 1;
	direct = origin_is_direct(o, s->protocol, &s->local, s->transparent != SOCKDIAG_NO, why);
	if (!direct && s->protocol == IPPROTO_UDP)
		half = has_other_half(o, s, why);
	if (direct < 0 || half < 0)
		return -1;
	if (half)
		return 0;
	if (direct)
		return answer_conntrack(o, s->protocol, &s->local, &s->peer, answer, why) < 0 ? -1
											      : 1;
	*answer = (struct origin_answer){ s->local, ORIGIN_TPROXY };
	return 1;
}

int origin_find(struct origin *o, int protocol, const struct endpoint *local,
		const struct endpoint *peer, struct origin_answer *answer, bool *there,
		struct failure *why)
{
	struct sockdiag_socket s;
	int found = sockdiag_find(o->diag, protocol, local, peer, &s, why);

	*answer = (struct origin_answer){ .origin = ORIGIN_NONE };
	*there = found == 1;
	if (found < 0)
		return -1;
	if (*there)
		return origin_of(o, &s, answer, why);
	/* It may be closed already, or in another network namespace. */
	found = answer_conntrack(o, protocol, local, peer, answer, why);
	*there = found == 1;
	return found;
}
