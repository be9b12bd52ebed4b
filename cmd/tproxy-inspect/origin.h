/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * origin - the original destination of a socket's connection, from sock_diag and conntrack.
 *
 * A connection with a local end that is foreign to this host, or without a listener of the same
 * kind, came by TPROXY. Only connections addressed to this host can have been redirected; conntrack
 * knows. For UDP the kernel does not report which side began: if both halves of a relayed flow are
 * here, they cannot be distinguished, and the answer is unknown.
 */
#ifndef TPROXY_INSPECT_ORIGIN_H
#define TPROXY_INSPECT_ORIGIN_H

#include "base/endpoint.h"
#include "base/report.h"
#include "net/sockdiag.h"
#include "socket/transparent.h"
#include <stdbool.h>

/* Channels to the kernel, and what was read from them. */
struct origin;
struct origin *origin_open(struct failure *why);
void origin_close(struct origin *o);

/* Forget the listeners and addresses read so far: the next question reads them again. */
void origin_forget(struct origin *o);

/* Many questions follow: read all redirections from conntrack once instead of asking for each. The
 * answers are as of now. */
void origin_expect_many(struct origin *o);

/*
 * Can a connection with that local end have been addressed to a listener of this host? A socket
 * inherits IP_TRANSPARENT from its listener, so only one with the same flag can have accepted it;
 * and one on any address accepts what is addressed to this host, unless it is intercepted. 1, 0, or
 * -1 with *why.
 */
int origin_is_direct(struct origin *o, int protocol, const struct endpoint *local, bool transparent,
		     struct failure *why);

/* The answer: origdst is not set with ORIGIN_NONE. */
struct origin_answer {
	struct endpoint origdst;
	enum transparent_origin origin;
};

/* For a connected socket (with `tcp` filled in). Returns 1 with the answer; 0: unknown; -1 with
 * *why, if conntrack was needed and could not be asked. */
int origin_of(struct origin *o, const struct sockdiag_socket *s, struct origin_answer *answer,
	      struct failure *why);

/* For a connection with known ends. Returns 1 with the answer; 0: unknown, or there is no such
 * connection here (*there false); -1 with *why. */
int origin_find(struct origin *o, int protocol, const struct endpoint *local,
		const struct endpoint *peer, struct origin_answer *answer, bool *there,
		struct failure *why);

#endif
