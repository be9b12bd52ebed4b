/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listeners - the ENDPOINT operands of a command line, as open sockets.
 *
 * Implements what all programs promise about them: a bare PORT means both families, one of which
 * may be missing on this machine; no family is dropped silently; messages name whoever already
 * holds an endpoint.
 */
#ifndef TPROXY_SOCKET_LISTENERS_H
#define TPROXY_SOCKET_LISTENERS_H

#include "base/endpoint.h"
#include "base/options.h"
#include "base/report.h"
#include "socket/transparent.h"
#include <stdbool.h>
#include <stddef.h>

struct listener {
	struct endpoint at;
	int fd;		     /* -1: not open (yet), or left out */
	bool optional;	     /* one family of a bare PORT: may be left out if it does not exist */
	struct failure lack; /* why it was left out */
};

/* A zeroed one is empty. The owner calls listeners_close(). */
struct listeners {
	struct listener *at;
	size_t count;
	int protocol; /* IPPROTO_TCP (also when 0) or IPPROTO_UDP */
};

/*
 * Add the meaning of the operand (see endpoint_parse_listener()) in the wanted families. An
 * explicit address of an unwanted family is an error. Returns 0, or -1 with *why (a usage error).
 */
int listeners_add(struct listeners *l, const char *operand, enum endpoint_bare bare,
		  const struct options_common *common, struct failure *why);

/* Add one endpoint: open as fd, which the list takes over, or not open yet (-1). -1 with *why. */
int listeners_append(struct listeners *l, const struct endpoint *at, int fd, bool optional,
		     struct failure *why);

/* Call it after the last operand: -1 with *why if only one family is there and neither -4 nor -6
 * said so. */
int listeners_check(const struct listeners *l, const struct options_common *common,
		    struct failure *why);

/*
 * Open all that are not open yet. An optional one for which this machine lacks the family or a
 * loopback address is left out: fd is -1, and listener->lack says why; see
 * listeners_tell_left_out(). Returns 0, or -1 with *why, which names the owner on EADDRINUSE; then
 * nothing is left open.
 */
int listeners_open(struct listeners *l, const struct transparent_listen_options *options,
		   struct failure *why);

/* Report on standard error which ones were left out, and why. */
void listeners_tell_left_out(const struct listeners *l);

/* Drop those that were left out from the list. */
void listeners_prune(struct listeners *l);

/* Take over `count` inherited descriptors from `fd` on; see transparent_adopt() and
 * datagram_adopt(). -1 with *why. */
int listeners_adopt(struct listeners *l, int fd, int count,
		    const struct transparent_listen_options *options, struct failure *why);

/*
 * Copy the endpoints for another thread, with duplicates of the same sockets. Returns 0, or -1 with
 * *why.
 */
int listeners_share(struct listeners *to, const struct listeners *from, struct failure *why);

/* Close what is open and free. */
void listeners_close(struct listeners *l);

#endif
