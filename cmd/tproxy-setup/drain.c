/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/drain.h"

#include "net/sockdiag.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>

/* Those that still have something to say to a peer. TIME_WAIT and CLOSE have not; of SYN_RECV the
 * kernel does not tell whether it is transparent: such a handshake either becomes a connection, which
 * is seen in the next round, or nobody has relied on it yet. */
#define LIVING                                                                                    \
	(1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2 | \
	 1U << TCP_CLOSE_WAIT | 1U << TCP_LAST_ACK | 1U << TCP_CLOSING)

/* The sockets found by one dump: ending them waits until the dump is over. */
struct found {
	struct route *route;
	const struct intercept *spec;
	bool alone, no_memory;
	struct sockdiag_socket *at;
	size_t count;
	long living; /* of those; the others are in TIME_WAIT */
};

/* Is it an address of this host by the routes that unmarked packets meet? */
static bool is_own_address(struct route *route, const struct endpoint *e)
{
	const struct route_question question = { .destination = *e };
	struct route_answer answer;

	return !route_ask(route, &question, &answer, NULL) && answer.type == RTN_LOCAL;
}

static bool carries(const struct sockdiag_socket *s, const struct mark *mark)
{
	return s->has_mark && (s->mark & mark->mask) == mark->value;
}

static bool belongs(const struct found *f, const struct sockdiag_socket *s)
{
	const struct intercept *spec = f->spec;
	bool remains = s->state == TCP_TIME_WAIT;

	if (s->transparent != SOCKDIAG_YES && !remains)
		return false;
	if (!intercept_matches(spec, &s->peer, &s->local) &&
	    !intercept_matches(spec, &s->local, &s->peer) &&
	    !(f->alone && (spec->divert_only || remains || carries(s, &spec->upstream_mark))))
		return false;
	return !is_own_address(f->route, &s->local);
}

static int visit(const struct sockdiag_socket *s, void *context)
{
	struct found *f = context;
	struct sockdiag_socket *grown = f->at;

	if (!belongs(f, s))
		return 0;
	if (!(f->count & (f->count - 1)))
		grown = realloc(f->at, (f->count ? 2 * f->count : 1) * sizeof(*grown));
	if (!grown) {
		f->no_memory = true;
		return 1;
	}
	f->at = grown;
	f->at[f->count++] = *s;
	f->living += s->state != TCP_TIME_WAIT;
	return 0;
}

/* How many could not be; what is in TIME_WAIT counts when there is nothing else. */
static long destroy_all(struct sockdiag *diag, const struct found *f, struct failure *why)
{
	struct failure reason = { 0 };
	long kept = 0;

	for (size_t i = 0; i < f->count; i++) {
		if (!sockdiag_destroy(diag, &f->at[i], &reason) || reason.err == ENOENT)
			continue;
		*why = reason;
		kept += !f->living || f->at[i].state != TCP_TIME_WAIT;
	}
	return kept;
}

/* Find those of both protocols. A UDP socket that serves one flow is connected; the state of such
 * sockets is ESTABLISHED. Others serve none in particular. */
static int find(struct sockdiag *diag, struct found *f, struct failure *why)
{
	const struct sockdiag_filter tcp = { .protocol = IPPROTO_TCP,
					     .states = LIVING | 1U << TCP_TIME_WAIT,
					     .mixed = true };
	const struct sockdiag_filter udp = { .protocol = IPPROTO_UDP,
					     .states = 1U << TCP_ESTABLISHED };

	if ((f->spec->tcp && sockdiag_dump(diag, &tcp, visit, f, why) < 0) ||
	    (f->spec->udp && sockdiag_dump(diag, &udp, visit, f, why) < 0))
		return -1;
	return f->no_memory ? report_fail(why, ENOMEM, "realloc", "sockets") : 0;
}

long drain_sockets(struct route *route, const struct intercept *spec, bool alone, bool destroy,
		   long *kept, struct failure *why)
{
	struct found f = { .route = route, .spec = spec, .alone = alone };
	struct sockdiag *diag = sockdiag_open(why);
	long result = -1;

	*kept = 0;
	if (!diag)
		return -1;
	if (!find(diag, &f, why)) {
		result = f.living;
		if (destroy || !f.living)
			*kept = destroy_all(diag, &f, why);
	}
	free(f.at);
	sockdiag_close(diag);
	return result;
}
