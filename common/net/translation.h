/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * translation - what this host's NAT made of a connection, by a helper that may ask conntrack.
 *
 * ctnetlink takes CAP_NET_ADMIN, with which routes and firewall rules can be changed too. So a helper has
 * it, and whoever faces the network has not. It answers questions about one connection, and nothing else.
 */
#ifndef TPROXY_NET_TRANSLATION_H
#define TPROXY_NET_TRANSLATION_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>

/*
 * Start the helper, called `name` by ps(1), in the network namespace of now, as that user with CAP_NET_ADMIN
 * (if it is to be had) alone. To be called while there is one thread; for any thread then. NULL with *why.
 */
struct translation;
struct translation *translation_new(const char *name, const struct privilege_user *user,
				    bool sandbox, struct failure *why);
void translation_free(struct translation *t);

/* Where the flow of datagrams from `client` to our socket `local` was going before REDIRECT or DNAT. False:
 * there, or it cannot be known. */
bool translation_origdst(struct translation *t, const struct endpoint *local,
			 const struct endpoint *client, struct endpoint *origdst);

enum translation_verdict {
	TRANSLATION_NONE, /* the peer sees the socket's own end */
	TRANSLATION_DONE, /* it sees another */
	TRANSLATION_UNKNOWN,
};

/*
 * As whom does `peer` see our socket `local` (IPPROTO_TCP, or IPPROTO_UDP), which has sent to it? Conntrack
 * is asked only where a rule translates sources, or that cannot be known; rules are looked at when they have
 * changed, four times a second at most. now: monotonic, in milliseconds. *seen is set by TRANSLATION_DONE.
 */
enum translation_verdict translation_source(struct translation *t, int protocol,
					    const struct endpoint *local,
					    const struct endpoint *peer, uint64_t now,
					    struct endpoint *seen);

/* Might such a rule concern what is sent in that family (AF_INET, AF_INET6)? */
bool translation_is_possible(struct translation *t, int family, uint64_t now);

#endif
