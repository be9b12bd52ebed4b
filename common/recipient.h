/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * recipient - who would get an instance's connections.
 *
 * The kernel's tproxy looks for a listening socket at the rule's address and port (or at any address
 * with that port), and takes it only if it is transparent. In a SO_REUSEPORT group each member gets
 * its share: one that is not transparent lets its share bypass the proxy.
 */
#ifndef TPROXY_RECIPIENT_H
#define TPROXY_RECIPIENT_H

#include <stdbool.h>
#include "intercept.h"
#include "report.h"
#include "sockdiag.h"

struct recipient_state {
	unsigned count;	 /* sockets that listen there */
	unsigned opaque; /* of those, how many are not transparent */
	struct sockdiag_socket first;
};

/* Does that listening socket get what the rules deliver to `to`? */
bool recipient_hears(const struct sockdiag_socket *s, const struct endpoint *to);

/* Look for who listens (IPPROTO_TCP) or takes datagrams (IPPROTO_UDP) at `to`; at an unset endpoint
 * nobody does. 0, or -1 with *why. */
int recipient_look(int protocol, const struct endpoint *to, struct recipient_state *state,
		   struct failure *why);

/* Is there a transparent listener for every family and protocol that is intercepted? 1, 0, or -1 with *why. */
int recipient_ready(const struct intercept *spec, struct failure *why);

#endif
