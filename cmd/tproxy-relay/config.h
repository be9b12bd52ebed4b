/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay - the parts of tproxy-relay, which the story in tproxy-relay.c puts together: what the
 * command line means (arguments.c), the descriptors that the service begins with and the rights
 * that it keeps (sockets.c), and what it says about itself (tell.c).
 */
#ifndef TPROXY_RELAY_CONFIG_H
#define TPROXY_RELAY_CONFIG_H

#include "base/options.h"
#include "process/privilege.h"
#include "socket/listeners.h"
#include "tproxy-relay/metrics.h"
#include "tproxy-relay/stats.h"
#include "tproxy-relay/worker.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * What the client is told of its request can as well travel with the answer. In microseconds: long
 * for an answer, short for a client that waits for the ACK (Nagle's algorithm); two ticks at 250
 * Hz.
 */
#define ACK_DELAY 8000

/* The command line. */
struct config {
	struct options_common common;
	struct endpoint upstream[2];
	struct transparent_connect_options connect;
	struct mark upstream_mark;
	int on_clash;
	struct match_list allow, deny;
	uint64_t connect_timeout, idle_timeout, half_closed_timeout, drain_timeout;
	uint64_t max, threads;
	struct udp_settings udp;
	struct cidr_list accept_proxy;
	int send_proxy; /* index among 1|2, or -1 */
	bool takeover, inetd;
	bool no_sandbox;
	const char *control, *columns, *metrics;
	struct privilege_user user;
	int log;
};

extern const struct options_program relay_program;

/* Where it listens, by protocol. */
struct relay_listeners {
	struct listeners tcp, udp;
};

static inline bool config_has_upstream(const struct config *config)
{
	return endpoint_is_set(&config->upstream[0]) || endpoint_is_set(&config->upstream[1]);
}

/* ---- arguments.c: OPTIONS_GO_ON, or an exit status after saying what is wrong ---- */

/* Do the options fit each other? Settles which families are served, where only one can be. */
int arguments_check(struct config *config);

/* Which protocols have been passed on? Where -t or -u has not said so, all of them are served. */
int arguments_check_inherited(struct config *config, int inherited);

/* The operands become listeners, not open yet. */
int arguments_read_endpoints(struct relay_listeners *listeners, const struct config *config,
			     const struct options_rest *rest);

/* ---- sockets.c: 0, or -1 with *why ---- */

/* Raise the limit on open files, and find how many connections, flows and pipes fit into it
 * beside that many listeners. */
int sockets_settle_max(struct relay *relay, const struct config *config, size_t listeners,
		       struct failure *why);

/*
 * Give each worker its listeners: `inherited` descriptors that were passed, or the wanted
 * endpoints, opened, joined or taken over. What would fail for every connection fails here.
 */
int sockets_give_listeners(struct relay *relay, const struct relay_listeners *wanted,
			   const struct config *config, int inherited, struct failure *why);

/* The same for the one client of --inetd. */
int sockets_give_client(struct relay *relay, struct failure *why);

/* Keep the capabilities that connections need, as the user that was asked for. */
int sockets_drop_privileges(const struct config *config, struct failure *why);

/* ---- tell.c: standard error, and the service manager ---- */

/* Hooks of struct relay and stats_collect(). */
void tell_trouble(enum reason reason, const struct failure *why);
void tell_unheard(const struct failure *why);
void tell_ready(const struct relay *relay);
void tell_stopping(const struct relay *relay);
void tell_stats(struct stats *f, void *context);

/* Records: lost, not to be written, waited for at the end; the last two are hooks of
 * record_output. */
void tell_lost(const struct record_losses *lost);
void tell_unwritable(const struct failure *why);
void tell_waiting(uint64_t records, uint64_t ms);

/* --inetd: what became of the connection, and the exit status that says so. */
int tell_end(const struct relay *relay);

#endif
