/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay_client - asking a running tproxy-relay.
 *
 * Knows the names at which relays of this network namespace can be asked, and the protocol that
 * tproxy-relay/control.h describes. What it asks and what becomes of the records is its caller's
 * business. Whoever has taken such a name may answer anything: nothing is taken on trust, but
 * whether it is true is for the caller to judge, who is told who answers.
 */
#ifndef TPROXY_PROCESS_RELAY_CLIENT_H
#define TPROXY_PROCESS_RELAY_CLIENT_H

#include "base/record.h"
#include "base/report.h"
#include <sys/types.h>

/* Room for a name, `@tproxy-relay/4711`, with its \0. */
#define RELAY_CLIENT_NAME_MAX 32

/* Call visit for each relay that listens in this network namespace; a return other than 0 ends that
 * and is returned. -1 with *why: they cannot be found. */
int relay_client_each(int (*visit)(const char *name, void *context), void *context,
		      struct failure *why);

/* Who answers: as it was when it began to listen. */
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
 * Ask the relay of that name (`@...`), or at that path, and wait for the whole answer. Returns 0,
 * or -1 with *why: ECONNREFUSED or ENOENT when nobody is there; it does not answer (for 10 s); it
 * refused, in its own words; it speaks another version of the protocol.
 */
int relay_client_ask(const char *name, const char *command, relay_client_visitor *visit,
		     void *context, struct failure *why);

/* The same for whoever cannot wait 10 s for a relay that stands still: ETIMEDOUT after timeout_s,
 * at least 1. */
int relay_client_ask_within(const char *name, const char *command, unsigned timeout_s,
			    relay_client_visitor *visit, void *context, struct failure *why);

#endif
