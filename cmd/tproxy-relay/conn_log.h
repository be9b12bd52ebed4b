/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conn_log - what a worker of the relay writes of its connections: one record at each turn of a life.
 *
 * Knows what --log wants, and how a flow, or a connection that never became one, is put into words.
 * Never blocks: what the reader does not take at once waits in the relay's record_stream.
 */
#ifndef TPROXY_RELAY_CONN_LOG_H
#define TPROXY_RELAY_CONN_LOG_H

#include "tproxy-relay/worker.h"

/* `open`, `close` or `refused`: the flow's record, if it is wanted. */
void conn_log_flow(struct worker *w, const struct flow *f, const char *event);

/* The record of a connection that was refused before it became a flow; at: index of its listener. */
void conn_log_refusal(struct worker *w, const struct transparent_connection *c, unsigned at,
		      enum reason reason);

/* The same of flows of datagrams. */
void conn_log_udp_flow(struct worker *w, const struct udp_flow *f, const char *event);
void conn_log_udp_refusal(struct worker *w, const struct transparent_connection *c, unsigned at,
			  enum reason reason);

/* Call put with a record of each connection, with its state; by the worker's own thread. */
void conn_log_list(struct worker *w, void (*put)(const struct record *r, void *context),
		   void *context);

/* Once a turn: write. What the reader does not take now, worker 0 writes when it does. */
void conn_log_flush(struct loop *loop);

/* Worker 0: write what is left, and watch for the reader; the handler of worker->output. */
void conn_log_write(struct worker *w);
loop_handler conn_log_handle_output;

#endif
