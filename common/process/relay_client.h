/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay_client - queries a running tproxy-relay.
 *
 * Knows the addresses at which the relays of this network namespace can be queried, and the
 * protocol described in tproxy-relay/control.h. The caller decides what to ask and what to do with
 * the records. Anybody may have taken such an address and may answer anything: the syntax is not
 * taken on trust, but the caller, who is told who answers, must judge whether the content is true.
 */
#ifndef TPROXY_PROCESS_RELAY_CLIENT_H
#define TPROXY_PROCESS_RELAY_CLIENT_H

#include "base/record.h"
#include "base/report.h"
#include <stdbool.h>
#include <sys/types.h>

/* Room for an address, `@tproxy-relay/4711`, with its \0. */
#define RELAY_CLIENT_NAME_MAX 32

/* Call visit for each relay that listens in this network namespace; a non-zero return ends the
 * visit and is returned. -1 with *why: they cannot be found. */
int relay_client_each(int (*visit)(const char *name, void *context), void *context,
		      struct failure *why);

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
 * s); it refused, in its own words; it speaks another version of the protocol.
 */
int relay_client_ask(const char *name, const char *command, relay_client_visitor *visit,
		     void *context, struct failure *why);

/*
 * Also for callers that cannot wait: ETIMEDOUT after timeout_s, at least 1. trusts: whether to ask
 * whoever listens there; if not, EPERM at once, and no record is read.
 */
typedef bool relay_client_judge(const struct relay_client_peer *peer, void *context);
int relay_client_ask_trusted(const char *name, const char *command, unsigned timeout_s,
			     relay_client_judge *trusts, relay_client_visitor *visit, void *context,
			     struct failure *why);

/* The same for callers that cannot wait 10 s for a relay that is stopped: ETIMEDOUT after
 * timeout_s, at least 1. */
int relay_client_ask_within(const char *name, const char *command, unsigned timeout_s,
			    relay_client_visitor *visit, void *context, struct failure *why);

#endif
