/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * heartbeat - signs of life for the service manager, from all workers together.
 *
 * Worker 0 sends a visit around at each interval of the watchdog, and the sign is given when it has
 * come back. A worker that hangs does not pass it on.
 */
#ifndef TPROXY_RELAY_HEARTBEAT_H
#define TPROXY_RELAY_HEARTBEAT_H

#include "process/loop.h"
#include "tproxy-relay/relay.h"
#include <stdbool.h>
#include <stdint.h>

/* Zeroed at first; it must live as long as the relay. */
struct heartbeat {
	struct relay *relay;
	struct loop_timer timer;
	struct relay_visit visit;
	uint64_t interval; /* milliseconds */
	bool pending;	   /* the visit is on its way */
};

/* Begin, if a service manager waits for signs of life. Before workers_run(). */
void heartbeat_start(struct heartbeat *h, struct relay *relay);

#endif
