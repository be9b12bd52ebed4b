/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crowd - how many connections each client has at the moment.
 *
 * A client is an IPv4 address or an IPv6 /64: whoever has one IPv6 address has 2^64 of them. Only
 * clients that have a connection take memory, and the hash is seeded, so that nobody can make it slow.
 */
#ifndef TPROXY_CROWD_H
#define TPROXY_CROWD_H

#include <stdint.h>
#include "endpoint.h"
#include "report.h"

struct crowd;

struct crowd *crowd_new(struct failure *why);
void crowd_free(struct crowd *crowd);

/* One more; returns how many it has now, or UINT32_MAX for lack of memory (then none was added). */
uint32_t crowd_enter(struct crowd *crowd, const struct endpoint *client);

/* One less. To be called once for each successful crowd_enter(). */
void crowd_leave(struct crowd *crowd, const struct endpoint *client);

#endif
