/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reopen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include "sockdiag.h"

/* Both have said that they are done; the last word is on its way. */
#define ENDING (1U << TCP_LAST_ACK | 1U << TCP_CLOSING | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2)

struct reopen {
	struct sockdiag *diag;
	pthread_mutex_t lock; /* a channel is not for two threads at once */
};

struct reopen *reopen_new(struct failure *why)
{
	struct reopen *r = calloc(1, sizeof(*r));

	if (!r) {
		report_fail(why, errno, "malloc", "sock_diag");
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	r->diag = sockdiag_open(why);
	if (r->diag)
		return r;
	reopen_free(r);
	return NULL;
}

void reopen_free(struct reopen *r)
{
	if (!r)
		return;
	sockdiag_close(r->diag);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Take a TIME_WAIT away. ENOENT: it went by itself. A kernel may not know how to
 * (CONFIG_INET_DIAG_DESTROY): then timestamps are all that helps. */
static enum reopen_verdict take_away(struct reopen *r, const struct sockdiag_socket *s,
				     struct failure *why)
{
	struct failure refusal;

	if (sockdiag_destroy(r->diag, s, &refusal) == 0 || refusal.err == ENOENT)
		return REOPEN_CLEARED;
	report_detail(why, "the last connection from the client's port is in TIME_WAIT here");
	report_hint(why, "%s",
		    refusal.hint[0] ? refusal.hint
				    : "net.ipv4.tcp_timestamps=1 here and there helps");
	return REOPEN_BARRED;
}

static enum reopen_verdict judge(struct reopen *r, const struct endpoint *local,
				 const struct endpoint *peer, struct failure *why)
{
	struct sockdiag_socket s;
	int found = sockdiag_lookup(r->diag, IPPROTO_TCP, peer, local, 0, &s, NULL);

	if (found < 0)
		return REOPEN_BARRED;
	if (found == 0)
		return REOPEN_CLEARED; /* it has gone meanwhile */
	if (s.state == TCP_TIME_WAIT)
		return take_away(r, &s, why);
	if (s.inode || !(1U << s.state & ENDING))
		return REOPEN_TAKEN;
	report_detail(why,
		      "the server has not confirmed the end of the last connection from there");
	return REOPEN_ENDING;
}

enum reopen_verdict reopen_clear(struct reopen *r, const struct endpoint *local,
				 const struct endpoint *peer, struct failure *why)
{
	enum reopen_verdict verdict;

	pthread_mutex_lock(&r->lock);
	verdict = judge(r, local, peer, why);
	pthread_mutex_unlock(&r->lock);
	return verdict;
}
