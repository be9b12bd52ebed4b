/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * greeting - the PROXY header with which an accepted connection begins: waited for, so that nobody
 * else has to wait.
 *
 * Each has PROXYPROTO_TIME_MS from its acceptance, takes one timer, and wakes nobody before there is
 * enough to go on with. It never guesses: the header is there, or there is trouble.
 */
#ifndef TPROXY_GREETING_H
#define TPROXY_GREETING_H

#include "loop.h"
#include "proxyproto.h"

struct greeting;

/*
 * The wait is over: the header, whose bytes are taken off the connection; or NULL, and what is wrong
 * with it in words. The descriptor is watched no more and the callee's; what the greeting is embedded
 * in goes by loop_discard().
 */
typedef void greeting_handler(struct loop *loop, struct greeting *g,
			      const struct proxyproto_header *header, const char *trouble);

/* Embed it. The source comes first, so that it may share its place with another one. */
struct greeting {
	struct loop_source source;
	struct loop_timer timer;
	greeting_handler *done;
	size_t wanted; /* see proxyproto_receive() */
};

/*
 * Wait for the header of that connection. done is called once, perhaps before this returns. Returns
 * 0, or -1 with errno, when it cannot be waited for; then done is not called.
 */
int greeting_await(struct loop *loop, struct greeting *g, int fd, greeting_handler *done);

/* Wait no longer; done is not called. Again, it does nothing: source.dead tells that it is over. */
void greeting_end(struct loop *loop, struct greeting *g);

#endif
