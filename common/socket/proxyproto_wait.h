/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proxyproto_wait - waits for the PROXY header of an accepted connection, so that nobody else has
 * to wait.
 *
 * Each wait may take PROXYPROTO_TIME_MS from acceptance, needs one timer, and wakes nobody before
 * there is enough to continue. It never guesses: either the header is there, or there is an error.
 */
#ifndef TPROXY_SOCKET_PROXYPROTO_WAIT_H
#define TPROXY_SOCKET_PROXYPROTO_WAIT_H

#include "process/loop.h"
#include "socket/proxyproto.h"

struct proxyproto_wait;

/*
 * The wait is over. Called with the header, whose bytes are taken off the connection, or with NULL
 * and an explanation. The descriptor is no longer watched and belongs to the callee; free the
 * object that embeds the wait with loop_discard().
 */
typedef void proxyproto_wait_handler(struct loop *loop, struct proxyproto_wait *g,
				     const struct proxyproto_header *header, const char *trouble);

/* Embed it. The source comes first, so that it can share its memory with another one. */
struct proxyproto_wait {
	struct loop_source source;
	struct loop_timer timer;
	proxyproto_wait_handler *done;
	struct proxyproto_begun *begun; /* see proxyproto_receive() */
};

/*
 * Wait for the header of that connection. done is called once, perhaps before this returns. Returns
 * 0, or -1 with errno if it is impossible to wait; then done is not called.
 */
int proxyproto_wait_await(struct loop *loop, struct proxyproto_wait *g, int fd,
			  proxyproto_wait_handler *done);

/* Stop waiting; done is not called. A second call does nothing: source.dead says that it is
 * over. */
void proxyproto_wait_end(struct loop *loop, struct proxyproto_wait *g);

#endif
