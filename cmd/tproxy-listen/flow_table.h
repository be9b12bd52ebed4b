/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow_table - UDP flows by client and destination, and in the order of their last datagrams.
 *
 * It links connections and does not own them. A zeroed table is empty, and only flow_table_idle()
 * and flow_table_free() may be called on it.
 */
#ifndef TPROXY_LISTEN_FLOW_TABLE_H
#define TPROXY_LISTEN_FLOW_TABLE_H

#include "base/endpoint.h"
#include "base/report.h"
#include "tproxy-listen/connection.h"
#include <stdint.h>

struct flow_table {
	struct connection **slots;
	struct connection *oldest, *newest; /* in the order of their last datagrams */
	uint64_t seed;
};

/* The seed keeps strangers from choosing which flows share a slot. 0, or -1 with *why. */
int flow_table_init(struct flow_table *t, uint64_t seed, struct failure *why);
void flow_table_free(struct flow_table *t);

/* The hash of a flow; two flows may share one. */
uint64_t flow_table_hash(const struct flow_table *t, const struct endpoint *client,
			 const struct endpoint *local);

/* The flow of that client and destination, or NULL. */
struct connection *flow_table_find(const struct flow_table *t, const struct endpoint *client,
				   const struct endpoint *local);

/* Enter a flow; note a datagram of it; remove it. */
void flow_table_enter(struct flow_table *t, struct connection *c);
void flow_table_touch(struct flow_table *t, struct connection *c);
void flow_table_forget(struct flow_table *t, struct connection *c);

/* The longest idle flow that loses only its place when it ends, or NULL. Never a flow that a
 * command serves. */
struct connection *flow_table_idle(const struct flow_table *t);

#endif
