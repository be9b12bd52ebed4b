/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay_client - queries a running tproxy-relay.
 *
 * Knows the addresses at which the relays of this network namespace can be queried, and the
 * protocol described in tproxy-relay/control.h. The caller decides what to ask and what to do with
 * the records. Anybody may have taken such an address and may answer anything: the syntax is not
 * taken on trust, but the caller, who is told who answers, must judge whether the content is true.
 */
#ifndef TPROXY_NET_RELAY_CLIENT_H
#define TPROXY_NET_RELAY_CLIENT_H

#include "base/record.h"
#include "base/report.h"
#include <stdbool.h>
#include <sys/types.h>

/* Room for an address, `@tproxy-relay/4711`, with its \0. */
#define RELAY_CLIENT_NAME_MAX 32

/* Where a relay, or whoever has taken such a name, listens. */
struct relay_client_listener {
	char name[RELAY_CLIENT_NAME_MAX];
	bool known; /* the kernel tells the uid (unix_diag, Linux 5.3) */
	uid_t uid;  /* who made the socket */
};

/* Call visit for each in this network namespace; a non-zero return ends the visit and is returned.
 * -1 with *why: they cannot be found. */
int relay_client_each(int (*visit)(const struct relay_client_listener *at, void *context),
		      void *context, struct failure *why);

/* Is it root, or the user of this process? Relays answer those two, and the relay's own user. */
bool relay_client_is_own(uid_t uid);

/* Who answers: its identity when it began to listen. */
struct relay_client_peer {
	pid_t pid;
	uid_t uid;
};

/*
 * Called for each record of the answer, `relay` first; the last, `end`, is left out. The record is
 * valid until it returns. Returns 0, or -1 with *why: then no more is read.
 */
typedef int relay_client_visitor(const struct record *r, const struct relay_client_peer *peer,
				 void *context, struct failure *why);

/*
 * Query the relay with that address (`@...`), or at that path, and wait for the whole answer.
 * Returns 0, or -1 with *why: nobody is there (ECONNREFUSED or ENOENT); it does not answer (for 10
 * s: ETIMEDOUT); its queue is full, and not known to belong to root or this user (EAGAIN, at once:
 * unix_stream_connect() waits for a place, and others may keep their queues full); it refused, in
 * its own words; it speaks another version of the protocol.
 */
int relay_client_ask(const char *name, const char *command, relay_client_visitor *visit,
		     void *context, struct failure *why);

/* The same for callers that cannot wait 10 s for a relay that is stopped: ETIMEDOUT when nothing
 * comes for timeout_s, at least 1; also when another user has not answered completely after 3 s. */
int relay_client_ask_within(const struct relay_client_listener *at, const char *command,
			    unsigned timeout_s, relay_client_visitor *visit, void *context,
			    struct failure *why);

/* The same, too, but trusts says whether to ask whoever listens there; if not, EPERM at once, and
 * no record is read. */
typedef bool relay_client_judge(const struct relay_client_peer *peer, void *context);
int relay_client_ask_trusted(const struct relay_client_listener *at, const char *command,
			     unsigned timeout_s, relay_client_judge *trusts,
			     relay_client_visitor *visit, void *context, struct failure *why);

#endif
