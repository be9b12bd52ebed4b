/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listening - who would get the connections to an address.
 *
 * The kernel's tproxy looks for a listening socket at the rule's address and port (or at any
 * address with that port), and takes it only if it is transparent. In a SO_REUSEPORT group each
 * member gets its share: one that is not transparent lets its share bypass the proxy.
 */
#ifndef TPROXY_NET_LISTENING_H
#define TPROXY_NET_LISTENING_H

#include "base/endpoint.h"
#include "base/report.h"
#include "net/sockdiag.h"
#include "net/sockowner.h"
#include <stdbool.h>

struct listening_state {
	unsigned count;		 /* sockets that listen there */
	unsigned nontransparent; /* how many of those are not transparent */
	struct sockdiag_socket first;
};

/* Visit every socket that takes new connections (IPPROTO_TCP) or datagrams (IPPROTO_UDP). Returns
 * like sockdiag_dump(). */
int listening_each(struct sockdiag *diag, int protocol, sockdiag_visitor *visit, void *context,
		   struct failure *why);

/* Does that listening socket get what the rules deliver to `to`? */
bool listening_matches(const struct sockdiag_socket *s, const struct endpoint *to);

/* Find out who listens (IPPROTO_TCP) or takes datagrams (IPPROTO_UDP) at `to`; nobody does at an
 * unset endpoint. 0, or -1 with *why. */
int listening_look(int protocol, const struct endpoint *to, struct listening_state *state,
		   struct failure *why);

/*
 * Who listens at that endpoint (exactly, or on any address with its port): for messages about
 * EADDRINUSE. The text of sockowner_describe(), or `another process`; returns buf.
 */
const char *listening_describe(int protocol, const struct endpoint *at,
			       char buf[SOCKOWNER_TEXT_MAX]);

#endif
