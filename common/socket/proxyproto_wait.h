/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proxyproto_wait - the PROXY header with which an accepted connection begins: waited for, so that
 * nobody else has to wait.
 *
 * Each has PROXYPROTO_TIME_MS from its acceptance, takes one timer, and wakes nobody before there
 * is enough to go on with. It never guesses: the header is there, or there is trouble.
 */
#ifndef TPROXY_SOCKET_PROXYPROTO_WAIT_H
#define TPROXY_SOCKET_PROXYPROTO_WAIT_H

#include "process/loop.h"
#include "socket/proxyproto.h"

struct proxyproto_wait;

/*
 * The wait is over: the header, whose bytes are taken off the connection; or NULL, and what is
 * wrong with it in words. The descriptor is watched no more and the callee's; what the wait is
 * embedded in goes by loop_discard().
 */
typedef void proxyproto_wait_handler(struct loop *loop, struct proxyproto_wait *g,
				     const struct proxyproto_header *header, const char *trouble);

/* Embed it. The source comes first, so that it may share its place with another one. */
struct proxyproto_wait {
	struct loop_source source;
	struct loop_timer timer;
	proxyproto_wait_handler *done;
	struct proxyproto_begun *begun; /* see proxyproto_receive() */
};

/*
 * Wait for the header of that connection. done is called once, perhaps before this returns. Returns
 * 0, or -1 with errno, when it cannot be waited for; then done is not called.
 */
int proxyproto_wait_await(struct loop *loop, struct proxyproto_wait *g, int fd,
			  proxyproto_wait_handler *done);

/* Wait no longer; done is not called. Again, it does nothing: source.dead tells that it is over. */
void proxyproto_wait_end(struct loop *loop, struct proxyproto_wait *g);

#endif
