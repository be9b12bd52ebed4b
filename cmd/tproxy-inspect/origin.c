/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/origin.h"

#include "net/listening.h"
#include <netinet/in.h>

int origin_open(struct origin *o, struct failure *why)
{
	*o = (struct origin){ .diag = sockdiag_open(why) };
	return o->diag ? 0 : -1;
}

void origin_close(struct origin *o)
{
	sockdiag_close(o->diag);
	conntrack_close(o->conntrack);
}

/* The search for a listener whose connections have that local end. */
struct listener_search {
	const struct endpoint *local;
	enum sockdiag_flag transparent;
};

static int match_listener(const struct sockdiag_socket *s, void *context)
{
	struct listener_search *search = context;

	return s->transparent == search->transparent && listening_matches(s, search->local);
}

/*
 * Can a connection with that local end have been addressed to a listener of this host? A socket
 * inherits IP_TRANSPARENT from its listener, so only one with the same flag can have accepted it; and
 * one on any address accepts what is addressed to this host, unless it is intercepted.
 */
int origin_is_direct(struct origin *o, const struct endpoint *local, bool transparent,
		     struct failure *why)
{
	struct listener_search search = { .local = local,
					  .transparent = transparent ? SOCKDIAG_YES : SOCKDIAG_NO };

	if (!transparent_is_local(local))
		return 0;
	if (!transparent)
		return 1;
	return listening_each(o->diag, IPPROTO_TCP, match_listener, &search, why);
}

/* conntrack's word: 1 with *origdst when the connection was redirected to local, 0 when it was not, -1
 * with *why when conntrack cannot be asked. */
static int ask_conntrack(struct origin *o, const struct endpoint *local,
			 const struct endpoint *peer, struct endpoint *origdst, struct failure *why)
{
	int known;

	if (!o->conntrack && !(o->conntrack = conntrack_open(why)))
		return -1;
	known = conntrack_origdst(o->conntrack, IPPROTO_TCP, local, peer, origdst, why);
	return known == 1 ? !endpoint_equal(origdst, local) : known;
}

/*
 * The answer for a socket of this host. Returns 1 found, 0 no such connection, -1 with *why.
 *
 * A local end that is foreign to this host, or at which no listener of the same kind is, came by
 * TPROXY. Only what is addressed to this host can have been redirected, and needs conntrack.
 */
static int answer_socket(struct origin *o, struct origin_question *q,
			 const struct sockdiag_socket *s, struct failure *why)
{
	int direct, redirected;

	if (s->tcp.opener == OPENER_HERE)
		return 1;
	direct = origin_is_direct(o, &q->local, s->transparent != SOCKDIAG_NO, why);
	if (direct < 0)
		return -1;
	if (!direct) {
		q->origdst = q->local;
		q->origin = ORIGIN_TPROXY;
		return 1;
	}
	redirected = ask_conntrack(o, &q->local, &q->peer, &q->origdst, why);
	if (redirected == 1)
		q->origin = ORIGIN_CONNTRACK;
	else
		q->origdst = (struct endpoint){ 0 };
	return redirected < 0 ? -1 : 1;
}

/* The same without a socket: it may be closed already, or in another network namespace. */
static int answer_conntrack(struct origin *o, struct origin_question *q, struct failure *why)
{
	int redirected = ask_conntrack(o, &q->local, &q->peer, &q->origdst, why);

	if (redirected == 1)
		q->origin = ORIGIN_CONNTRACK;
	return redirected;
}

int origin_find(struct origin *o, struct origin_question *q, struct failure *why)
{
	struct sockdiag_socket s;
	int found = sockdiag_lookup(o->diag, IPPROTO_TCP, &q->peer, &q->local, 0, &s, why);

	q->origin = ORIGIN_NONE;
	q->origdst = (struct endpoint){ 0 };
	if (found < 0)
		return -1;
	/* The kernel's lookup falls back to a listener. */
	if (found && endpoint_equal(&s.peer, &q->peer))
		return answer_socket(o, q, &s, why);
	return answer_conntrack(o, q, why);
}
