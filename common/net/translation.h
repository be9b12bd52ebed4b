/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * translation - what this host's NAT did to a connection, through a helper that may ask conntrack.
 *
 * ctnetlink needs CAP_NET_ADMIN, which also allows changing routes and firewall rules. So a helper
 * has it, and the process that faces the network does not. The helper answers questions about one
 * connection, and does nothing else.
 */
#ifndef TPROXY_NET_TRANSLATION_H
#define TPROXY_NET_TRANSLATION_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>

/*
 * Start the helper in the current network namespace; ps(1) shows it as `name`. It runs as that user
 * with CAP_NET_ADMIN (if available) only. Call it while there is one thread; any thread may use the
 * result. NULL with *why.
 */
struct translation;
struct translation *translation_new(const char *name, const struct privilege_user *user,
				    bool sandbox, struct failure *why);
void translation_free(struct translation *t);

/* Where the flow of datagrams from `client` to our socket `local` was going before REDIRECT or
 * DNAT. False: to `local`, or it cannot be found out. */
bool translation_origdst(struct translation *t, const struct endpoint *local,
			 const struct endpoint *client, struct endpoint *origdst);

enum translation_verdict {
	TRANSLATION_NONE, /* the peer sees the socket's own address */
	TRANSLATION_DONE, /* it sees another one */
	TRANSLATION_UNKNOWN,
};

/*
 * Which source does `peer` see of our socket `local` (IPPROTO_TCP or IPPROTO_UDP), which has sent
 * to it? Conntrack is asked only if a rule translates sources, or if that is unknown; the rules are
 * read again when they have changed, at most four times a second. now: monotonic, in milliseconds.
 * *seen is set by TRANSLATION_DONE.
 */
enum translation_verdict translation_source(struct translation *t, int protocol,
					    const struct endpoint *local,
					    const struct endpoint *peer, uint64_t now,
					    struct endpoint *seen);

/* May such a rule affect packets that we send in that family (AF_INET, AF_INET6)? */
bool translation_is_possible(struct translation *t, int family, uint64_t now);

#endif
