/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockets - the descriptors that the relay starts with, and the privileges that it keeps.
 *
 * Each function returns 0, or -1 with *why.
 */
#ifndef TPROXY_RELAY_SOCKETS_H
#define TPROXY_RELAY_SOCKETS_H

#include "base/report.h"
#include "tproxy-relay/config.h"
#include "tproxy-relay/relay.h"
#include <stddef.h>

/* Raise the limit on open files, and compute how many connections, flows and pipes fit beside that
 * many listeners. */
int sockets_settle_max(struct relay *relay, const struct config *config, size_t listeners,
		       struct failure *why);

/*
 * Give each worker its listeners: `inherited` descriptors that were passed, or the configured
 * endpoints, opened, joined or taken over.
 */
int sockets_give_listeners(struct relay *relay, const struct relay_listeners *wanted,
			   const struct config *config, int inherited, struct failure *why);

/* The same for the one client of --inetd. */
int sockets_give_client(struct relay *relay, struct failure *why);

/* After either, in the network namespace of the upstream legs: fails for anything that would fail
 * for every connection. */
int sockets_check_upstream(struct relay *relay, const struct config *config, struct failure *why);

/* Become the configured user, and keep only the capabilities that connections need. */
int sockets_drop_privileges(const struct config *config, struct failure *why);

#endif
