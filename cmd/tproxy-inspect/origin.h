/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * origin - where the connection of somebody's socket was going, as sock_diag and conntrack know it.
 */
#ifndef TPROXY_INSPECT_ORIGIN_H
#define TPROXY_INSPECT_ORIGIN_H

#include "base/endpoint.h"
#include "base/report.h"
#include "net/conntrack.h"
#include "net/sockdiag.h"
#include "socket/transparent.h"
#include <stdbool.h>

/* Channels to the kernel, opened once for many questions. conntrack is opened when it is needed. */
struct origin {
	struct sockdiag *diag;
	struct conntrack *conntrack;
};
int origin_open(struct origin *o, struct failure *why);
void origin_close(struct origin *o);

/*
 * Can a connection with that local end have been addressed to a listener of this host? A socket
 * inherits IP_TRANSPARENT from its listener, so only one with the same flag can have accepted it; and
 * one on any address accepts what is addressed to this host, unless it is intercepted. 1, 0, or -1 with
 * *why.
 */
int origin_is_direct(struct origin *o, const struct endpoint *local, bool transparent,
		     struct failure *why);

/* A connection by the ends of its socket here, and the answer. */
struct origin_question {
	struct endpoint local, peer, origdst;
	enum transparent_origin origin;
};

/* Returns 1 with the answer, 0: there is no such connection here; -1 with *why. */
int origin_find(struct origin *o, struct origin_question *q, struct failure *why);

#endif
