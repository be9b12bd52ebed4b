/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/timewait.h"

#include "net/sockdiag.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>

/* Both have said that they are done; the last word is on its way. */
#define ENDING (1U << TCP_LAST_ACK | 1U << TCP_CLOSING | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2)

struct timewait {
	struct sockdiag *diag;
	pthread_mutex_t lock; /* a channel is not for two threads at once */
};

struct timewait *timewait_new(struct failure *why)
{
	struct timewait *r = calloc(1, sizeof(*r));

	if (!r) {
		report_fail(why, errno, "malloc", "sock_diag");
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	r->diag = sockdiag_open(why);
	if (r->diag)
		return r;
	timewait_free(r);
	return NULL;
}

void timewait_free(struct timewait *r)
{
	if (!r)
		return;
	sockdiag_close(r->diag);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Take a TIME_WAIT away. ENOENT: it went by itself. A kernel may not know how to
 * (CONFIG_INET_DIAG_DESTROY): then timestamps are all that helps. */
static enum timewait_verdict take_away(struct timewait *r, const struct sockdiag_socket *s,
				       struct failure *why)
{
	struct failure refusal;

	if (sockdiag_destroy(r->diag, s, &refusal) == 0 || refusal.err == ENOENT)
		return TIMEWAIT_CLEARED;
	report_detail(why, "the last connection from the client's port is in TIME_WAIT here");
	report_hint(why, "%s",
		    refusal.hint[0] ? refusal.hint
				    : "net.ipv4.tcp_timestamps=1 here and there helps");
	return TIMEWAIT_BARRED;
}

static enum timewait_verdict judge(struct timewait *r, const struct endpoint *local,
				   const struct endpoint *peer, struct failure *why)
{
	struct sockdiag_socket s;
	int found = sockdiag_lookup(r->diag, IPPROTO_TCP, peer, local, 0, &s, NULL);

	if (found < 0)
		return TIMEWAIT_BARRED;
	if (found == 0)
		return TIMEWAIT_CLEARED; /* it has gone meanwhile */
	if (s.state == TCP_TIME_WAIT)
		return take_away(r, &s, why);
	if (s.inode || !(1U << s.state & ENDING))
		return TIMEWAIT_TAKEN;
	report_detail(why,
		      "the server has not confirmed the end of the last connection from there");
	return TIMEWAIT_ENDING;
}

enum timewait_verdict timewait_clear(struct timewait *r, const struct endpoint *local,
				     const struct endpoint *peer, struct failure *why)
{
	enum timewait_verdict verdict;

	pthread_mutex_lock(&r->lock);
	verdict = judge(r, local, peer, why);
	pthread_mutex_unlock(&r->lock);
	return verdict;
}
