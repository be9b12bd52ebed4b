/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * SOCK_DESTROY requires CAP_NET_ADMIN, which also permits changing routes and firewall rules. So a
 * helper has it, and the relay does not. There is one request: the two ends of a connection. Even a
 * compromised relay can only remove sockets in TIME_WAIT: the kernel destroys by the cookie of the
 * socket that was checked.
 */
#include "tproxy-relay/timewait.h"

#include "net/sockdiag.h"
#include "process/helper.h"
#include "process/sandbox.h"
#include <errno.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Both sides have sent FIN; the last ACK is in flight. */
#define ENDING (1U << TCP_LAST_ACK | 1U << TCP_CLOSING | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2)

struct timewait {
	struct helper_link helper;
};

struct request {
	struct endpoint local, peer;
};

struct answer {
	enum timewait_verdict verdict;
	struct failure why; /* detail and hint; the rest of *why stays */
};

/* ---- the helper ---- */

/* Remove a TIME_WAIT socket. ENOENT: it has gone by itself. A kernel without
 * CONFIG_INET_DIAG_DESTROY cannot do this: then only timestamps help. */
static enum timewait_verdict take_away(struct sockdiag *diag, const struct sockdiag_socket *s,
				       struct failure *why)
{
	struct failure refusal;

	if (sockdiag_destroy(diag, s, &refusal) == 0 || refusal.err == ENOENT)
		return TIMEWAIT_CLEARED;
	report_detail(why, "the last connection from the client's port is in TIME_WAIT here");
	report_hint(why, "%s",
		    refusal.hint[0] ? refusal.hint
				    : "net.ipv4.tcp_timestamps=1 here and there helps");
	return TIMEWAIT_BARRED;
}

static enum timewait_verdict judge(struct sockdiag *diag, const struct request *request,
				   struct failure *why)
{
	struct sockdiag_socket s;
	int found = sockdiag_lookup(diag, IPPROTO_TCP, &request->peer, &request->local, 0, &s,
				    NULL);

	if (found < 0)
		return TIMEWAIT_BARRED;
	if (found == 0)
		return TIMEWAIT_CLEARED; /* it is gone by now */
	if (s.state == TCP_TIME_WAIT)
		return take_away(diag, &s, why);
	if (s.inode || !(1U << s.state & ENDING))
		return TIMEWAIT_TAKEN;
	report_detail(why,
		      "the server has not confirmed the end of the last connection from there");
	return TIMEWAIT_ENDING;
}

/* Could it be one of the relay's? */
static bool is_request(const struct request *r, size_t size)
{
	return size == sizeof(*r) && r->local.family == r->peer.family &&
	       (r->local.family == AF_INET || r->local.family == AF_INET6) && r->local.port &&
	       r->peer.port;
}

static int prepare(void *context, struct failure *why)
{
	struct sockdiag **diag = context;

	*diag = sockdiag_open(why);
	return *diag ? 0 : -1;
}

static void run(int channel, void *context)
{
	struct sockdiag **diag = context;
	struct request request;

	while (is_request(&request, helper_receive(channel, &request, sizeof(request)))) {
		struct answer answer = { TIMEWAIT_BARRED, { 0 } };

		answer.verdict = judge(*diag, &request, &answer.why);
		if (helper_answer(channel, &answer, sizeof(answer)) < 0)
			return;
	}
}

/* ---- this side ---- */

struct timewait *timewait_new(const struct privilege_user *user, bool sandbox, struct failure *why)
{
	static const int keep[] = { CAP_NET_ADMIN };
	const struct helper_role role = {
		.name = "tproxy-timewait",
		.prepare = prepare,
		.user = user,
		.keep = keep,
		.kept = 1,
		.sandbox = sandbox ? SANDBOX_NETLINK : 0,
		.run = run,
	};
	struct timewait *r = calloc(1, sizeof(*r));
	struct sockdiag *diag = NULL;

	if (!r) {
		report_fail(why, errno, "malloc", "%s", role.name);
		return NULL;
	}
	if (!helper_link_start(&r->helper, &role, &diag, why))
		return r;
	timewait_free(r);
	return NULL;
}

void timewait_free(struct timewait *r)
{
	if (!r)
		return;
	helper_link_end(&r->helper);
	free(r);
}

enum timewait_verdict timewait_clear(struct timewait *r, const struct endpoint *local,
				     const struct endpoint *peer, struct failure *why)
{
	const struct request request = { *local, *peer };
	struct answer answer;

	if (!helper_link_ask(&r->helper, &request, sizeof(request), &answer, sizeof(answer)))
		return TIMEWAIT_BARRED;
	if (answer.why.detail[0])
		report_detail(why, "%s", answer.why.detail);
	if (answer.why.hint[0])
		report_hint(why, "%s", answer.why.hint);
	return answer.verdict;
}
