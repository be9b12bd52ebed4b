/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config - the parsed command line of tproxy-relay.
 */
#ifndef TPROXY_RELAY_CONFIG_H
#define TPROXY_RELAY_CONFIG_H

#include "base/endpoint.h"
#include "base/match.h"
#include "base/options.h"
#include "base/quantity.h"
#include "process/privilege.h"
#include "socket/listeners.h"
#include "socket/transparent.h"
#include "tproxy-relay/udp_flow.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * Delay of the ACK for the client's request, in microseconds, so that it can travel with the
 * answer. Long enough for an answer, short for a client that waits for the ACK (Nagle's algorithm);
 * two ticks at 250 Hz.
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
	uint64_t keepalive; /* milliseconds; 0: none */
	uint64_t connect_timeout, idle_timeout, half_closed_timeout, drain_timeout, lame_duck;
	uint64_t max, threads;
	struct udp_settings udp;
	struct cidr_list accept_proxy;
	int send_proxy;		    /* index among 1|2, or -1 */
	const char *upstream_netns; /* NAME or PID; NULL: this one */
	bool takeover, inetd;
	bool no_sandbox, no_header;
	int ask; /* index among connections|counters|drain|lame-duck, or -1 */
	const char *control, *columns, *metrics;
	struct privilege_user user;
	uint32_t ready_fd;	   /* 0: none */
	struct failure stays_root; /* why; empty: no reason to report */
	int log;
};

/* The endpoints that it listens on, by protocol. */
struct relay_listeners {
	struct listeners tcp, udp;
};

static inline bool config_has_upstream(const struct config *config)
{
	return endpoint_is_set(&config->upstream[0]) || endpoint_is_set(&config->upstream[1]);
}

#endif
