/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/conn_log.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* What is known of a connection, or a flow, from the beginning. */
static void describe_as(const struct listeners *l, const char *event, const struct endpoint *client,
			const struct endpoint *origdst, enum transparent_origin origin, unsigned at,
			struct record *out)
{
	record_begin(out, "connection");
	record_text(out, RECORD_EVENT, event);
	record_text(out, RECORD_PROTO, l->protocol == IPPROTO_UDP ? "udp" : "tcp");
	record_endpoint(out, RECORD_CLIENT, client);
	record_endpoint(out, RECORD_ORIGDST, origdst);
	record_text(out, RECORD_ORIGDST_BY, transparent_origin_name(origin));
	if (at < l->count)
		record_endpoint(out, RECORD_LISTENER, &l->at[at].at);
}

static void describe(const struct worker *w, const char *event, const struct endpoint *client,
		     const struct endpoint *origdst, enum transparent_origin origin, unsigned at,
		     struct record *out)
{
	describe_as(&w->listeners, event, client, origdst, origin, at, out);
}

/* A UNIQUE_ID may be any bytes: what would not be one word is told in hexadecimal. */
static const char *unique_id(struct worker *w, const struct flow *f)
{
	uint8_t id[PROXYPROTO_ID_MAX];
	size_t length = flow_unique_id(&w->host, f, id);
	bool word = true;

	for (size_t i = 0; i < length; i++)
		word = word && isgraph(id[i]);
	if (word) {
		memcpy(w->unique_id, id, length);
		w->unique_id[length] = '\0';
		return w->unique_id;
	}
	strcpy(w->unique_id, "0x");
	for (size_t i = 0; i < length; i++)
		sprintf(w->unique_id + 2 + 2 * i, "%02x", id[i]);
	return w->unique_id;
}

static void describe_flow(struct worker *w, const struct flow *f, const char *event,
			  struct record *out)
{
	describe(w, event, &f->client, &f->origdst, f->origin, f->listener, out);
	record_number(out, RECORD_ID, f->id);
	record_text(out, RECORD_UNIQUE_ID, unique_id(w, f));
	record_number(out, RECORD_COOKIE, flow_cookie(f, FLOW_CLIENT));
	if (f->side[FLOW_UPSTREAM].fd >= 0) {
		record_number(out, RECORD_UPSTREAM_COOKIE, flow_cookie(f, FLOW_UPSTREAM));
		record_endpoint(out, RECORD_UPSTREAM_LOCAL, flow_upstream_local(f));
		record_endpoint(out, RECORD_UPSTREAM, flow_upstream(f));
		record_text(out, RECORD_SOURCE_KEPT, transparent_kept_name(f->kept));
	}
	record_number(out, RECORD_BYTES_UP, f->pump[FLOW_UP].bytes);
	record_number(out, RECORD_BYTES_DOWN, f->pump[FLOW_DOWN].bytes);
	record_duration(out, loop_now_us(w->host.loop) - f->opened_us);
}

static void write_record(struct worker *w, struct record *r)
{
	record_time_now(r);
	record_stream_put(w->relay->records, r);
	w->wrote = true;
}

static bool is_logged(const struct relay *relay, enum reason reason)
{
	if (!relay->records || relay->log == RELAY_LOG_OFF)
		return false;
	return relay->log == RELAY_LOG_EVENTS || (reason != REASON_NONE && reason != REASON_DONE);
}

void conn_log_flow(struct worker *w, const struct flow *f, const char *event)
{
	struct record r;

	if (!is_logged(w->relay, f->reason))
		return;
	describe_flow(w, f, event, &r);
	record_text(&r, RECORD_REASON, reason_name(f->reason));
	write_record(w, &r);
}

void conn_log_refusal(struct worker *w, const struct transparent_connection *c, unsigned at,
		      enum reason reason)
{
	struct record r;

	if (!is_logged(w->relay, reason))
		return;
	describe(w, "refused", &c->client, &c->origdst, c->origin, at, &r);
	record_text(&r, RECORD_REASON, reason_name(reason));
	write_record(w, &r);
}

/* ---- flows of datagrams ---- */

static void describe_udp_flow(const struct worker *w, const struct udp_flow *f, const char *event,
			      struct record *out)
{
	const struct endpoint origdst = udp_flow_origdst(f), local = udp_flow_upstream_local(f);
	const struct endpoint upstream = udp_flow_upstream(w->host.udp, f);

	describe_as(&w->udp_listeners, event, &f->entry.client, &origdst, f->origin, f->listener,
		    out);
	record_number(out, RECORD_ID, f->id);
	if (f->promoted)
		record_number(out, RECORD_COOKIE, udp_flow_cookie(f, FLOW_CLIENT));
	record_number(out, RECORD_UPSTREAM_COOKIE, udp_flow_cookie(f, FLOW_UPSTREAM));
	record_endpoint(out, RECORD_UPSTREAM_LOCAL, &local);
	record_endpoint(out, RECORD_UPSTREAM, &upstream);
	record_text(out, RECORD_SOURCE_KEPT, transparent_kept_name(f->kept));
	record_number(out, RECORD_BYTES_UP, f->bytes[FLOW_UP]);
	record_number(out, RECORD_BYTES_DOWN, f->bytes[FLOW_DOWN]);
	record_number(out, RECORD_PACKETS_UP, f->packets[FLOW_UP]);
	record_number(out, RECORD_PACKETS_DOWN, f->packets[FLOW_DOWN]);
	record_duration(out, loop_now_us(w->host.loop) - f->opened_us);
}

void conn_log_udp_flow(struct worker *w, const struct udp_flow *f, const char *event)
{
	struct record r;

	if (!is_logged(w->relay, f->reason))
		return;
	describe_udp_flow(w, f, event, &r);
	record_text(&r, RECORD_REASON, reason_name(f->reason));
	write_record(w, &r);
}

void conn_log_udp_refusal(struct worker *w, const struct transparent_connection *c, unsigned at,
			  enum reason reason)
{
	struct record r;

	if (!is_logged(w->relay, reason))
		return;
	describe_as(&w->udp_listeners, "refused", &c->client, &c->origdst, c->origin, at, &r);
	record_text(&r, RECORD_REASON, reason_name(reason));
	write_record(w, &r);
}

static void list_udp_flows(struct worker *w, void (*put)(const struct record *r, void *context),
			   void *context)
{
	struct record r;

	for (const struct udp_flow *f = udp_flow_next(w->host.udp, NULL); f;
	     f = udp_flow_next(w->host.udp, f)) {
		if (f->closed)
			continue;
		describe_udp_flow(w, f, NULL, &r);
		record_text(&r, RECORD_STATE, udp_flow_state_name(f));
		put(&r, context);
	}
}

void conn_log_list(struct worker *w, void (*put)(const struct record *r, void *context),
		   void *context)
{
	struct record r;

	for (const struct flow *f = slab_next(&w->host.flows, NULL); f;
	     f = slab_next(&w->host.flows, f)) {
		if (f->state == FLOW_CLOSED)
			continue;
		describe_flow(w, f, NULL, &r);
		record_text(&r, RECORD_STATE, flow_state_name(f));
		put(&r, context);
	}
	for (const struct pending *a = slab_next(&w->pendings, NULL); a;
	     a = slab_next(&w->pendings, a)) {
		const struct transparent_connection *c = &a->connection;

		if (a->wait.source.dead)
			continue;
		describe(w, NULL, &c->client, &c->origdst, c->origin, a->listener, &r);
		record_text(&r, RECORD_STATE, "proxy-header");
		put(&r, context);
	}
	if (w->host.udp)
		list_udp_flows(w, put, context);
}

void conn_log_flush(struct loop *loop)
{
	struct worker *w = loop_context(loop);

	if (w->wrote && record_stream_flush(w->relay->records))
		loop_wake(w->relay->workers[0].host.loop);
	w->wrote = false;
}

void conn_log_write(struct worker *w)
{
	bool left = record_stream_flush(w->relay->records);

	if (!left) {
		loop_forget(w->host.loop, &w->output);
		return;
	}
	w->output.fd = record_stream_fd(w->relay->records);
	loop_watch(w->host.loop, &w->output, EPOLLOUT);
}

void conn_log_handle_output(struct loop *loop, struct loop_source *source, uint32_t events)
{
	conn_log_write(loop_context(loop));
}
