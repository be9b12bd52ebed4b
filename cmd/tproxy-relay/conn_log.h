/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conn_log - the records that one thread of the relay writes of its connections, one for each
 * change of state.
 *
 * Knows what --log selects, and how to describe a flow, or a connection that never became one.
 * Never blocks: what the reader does not take at once waits in the record_stream, which all threads
 * share.
 */
#ifndef TPROXY_RELAY_CONN_LOG_H
#define TPROXY_RELAY_CONN_LOG_H

#include "process/reason.h"
#include "socket/proxyproto.h"
#include <stdbool.h>

struct flow;
struct flow_ops;
struct listeners;
struct record;
struct record_stream;
struct transparent_connection;
struct udp_flow;

/* Which events are recorded; the values of --log, in this order. */
enum conn_log_level { CONN_LOG_EVENTS, CONN_LOG_ERRORS, CONN_LOG_OFF };

/* All of it is borrowed. */
struct conn_log {
	enum conn_log_level level;
	struct record_stream *stream; /* NULL: none */
	const struct listeners *listeners, *udp_listeners;
	const struct flow_ops *host;
	bool wrote; /* since the last conn_log_flush() */
};

/* Write the flow's record for event `open`, `close` or `refused`, if the level includes it. */
void conn_log_flow(struct conn_log *log, const struct flow *f, const char *event);

/* Write the record of a connection that was refused before it became a flow; at: index of its
 * listener. */
void conn_log_refusal(struct conn_log *log, const struct transparent_connection *c, unsigned at,
		      enum reason reason);

/* The same for UDP flows. */
void conn_log_udp_flow(struct conn_log *log, const struct udp_flow *f, const char *event);
void conn_log_udp_refusal(struct conn_log *log, const struct transparent_connection *c, unsigned at,
			  enum reason reason);

/* Flush, if there was a record since the last call. True when the stream needs attention, as for
 * record_stream_flush(). */
bool conn_log_flush(struct conn_log *log);

/* Storage for texts that a record borrows. */
struct conn_log_texts {
	char unique_id[2 * PROXYPROTO_ID_MAX + 3];
};

/* Describe a connection in a record: a flow, a connection whose PROXY header is awaited, a UDP
 * flow. event may be NULL. */
void conn_log_describe_flow(const struct conn_log *log, const struct flow *f, const char *event,
			    struct record *out, struct conn_log_texts *texts);
void conn_log_describe(const struct conn_log *log, const struct transparent_connection *c,
		       unsigned at, const char *event, struct record *out);
void conn_log_describe_udp_flow(const struct conn_log *log, const struct udp_flow *f,
				const char *event, struct record *out,
				struct conn_log_texts *texts);

#endif
