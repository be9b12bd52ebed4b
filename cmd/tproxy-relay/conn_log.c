/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/conn_log.h"

#include "base/record_stream.h"
#include "socket/listeners.h"
#include "tproxy-relay/flow.h"
#include "tproxy-relay/udp_flow.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void describe(const struct listeners *l, const struct transparent_connection *c, unsigned at,
		     const char *event, struct record *out)
{
	record_begin(out, "connection");
	record_text(out, RECORD_EVENT, event);
	record_text(out, RECORD_PROTO, l->protocol == IPPROTO_UDP ? "udp" : "tcp");
	record_endpoint(out, RECORD_CLIENT, &c->client);
	record_endpoint(out, RECORD_ORIGDST, &c->origdst);
	record_text(out, RECORD_ORIGDST_BY, transparent_origin_name(c->origin));
	if (at < l->count)
		record_endpoint(out, RECORD_LISTENER, &l->at[at].at);
}

void conn_log_describe(const struct conn_log *log, const struct transparent_connection *c,
		       unsigned at, const char *event, struct record *out)
{
	describe(log->listeners, c, at, event, out);
}

/* A UNIQUE_ID may be any bytes: if it is not a single word, print it in hexadecimal. */
static const char *unique_id(const uint8_t *id, size_t length, struct conn_log_texts *texts)
{
	char *text = texts->unique_id;
	bool word = true;

	for (size_t i = 0; i < length; i++)
		word = word && isgraph(id[i]);
	if (word) {
		memcpy(text, id, length);
		text[length] = '\0';
		return text;
	}
	strcpy(text, "0x");
	for (size_t i = 0; i < length; i++)
		sprintf(text + 2 + 2 * i, "%02x", id[i]);
	return text;
}

static uint64_t bytes_of(const struct conn_log *log, const struct flow *f, int dir)
{
	return f->state == FLOW_CLOSED ? flow_delivered(log->host, f, dir) : f->pump[dir].bytes;
}

void conn_log_describe_flow(const struct conn_log *log, const struct flow *f, const char *event,
			    struct record *out, struct conn_log_texts *texts)
{
	const struct transparent_connection c = {
		.client = f->client,
		.origdst = f->origdst,
		.origin = (enum transparent_origin)f->origin,
	};
	uint8_t id[PROXYPROTO_ID_MAX];
	size_t id_length = flow_unique_id(log->host, f, id);

	conn_log_describe(log, &c, f->listener, event, out);
	record_number(out, RECORD_ID, f->id);
	record_text(out, RECORD_UNIQUE_ID, unique_id(id, id_length, texts));
	record_number(out, RECORD_COOKIE, flow_cookie(f, FLOW_CLIENT));
	if (f->side[FLOW_UPSTREAM].fd >= 0) {
		record_number(out, RECORD_UPSTREAM_COOKIE, flow_cookie(f, FLOW_UPSTREAM));
		record_endpoint(out, RECORD_UPSTREAM_LOCAL, flow_upstream_local(f));
		record_endpoint(out, RECORD_UPSTREAM, flow_upstream(f));
		record_text(out, RECORD_SOURCE_KEPT, transparent_kept_name(f->kept));
	}
	if (flow_upstream_source(f))
		record_endpoint(out, RECORD_UPSTREAM_SOURCE, flow_upstream_source(f));
	record_number(out, RECORD_BYTES_UP, bytes_of(log, f, FLOW_UP));
	record_number(out, RECORD_BYTES_DOWN, bytes_of(log, f, FLOW_DOWN));
	record_duration(out, loop_now_us(log->host->loop) - f->opened_us);
}

static void write_record(struct conn_log *log, struct record *r)
{
	record_time_now(r);
	record_stream_put(log->stream, r);
	log->wrote = true;
}

static bool is_logged(const struct conn_log *log, enum reason reason)
{
	if (!log->stream || log->level == CONN_LOG_OFF)
		return false;
	return log->level == CONN_LOG_EVENTS || (reason != REASON_NONE && reason != REASON_DONE);
}

void conn_log_flow(struct conn_log *log, const struct flow *f, const char *event)
{
	struct conn_log_texts texts;
	struct record r;

	if (!is_logged(log, f->reason))
		return;
	conn_log_describe_flow(log, f, event, &r, &texts);
	record_text(&r, RECORD_REASON, reason_name(f->reason));
	write_record(log, &r);
}

void conn_log_refusal(struct conn_log *log, const struct transparent_connection *c, unsigned at,
		      enum reason reason)
{
	struct record r;

	if (!is_logged(log, reason))
		return;
	conn_log_describe(log, c, at, "refused", &r);
	record_text(&r, RECORD_REASON, reason_name(reason));
	write_record(log, &r);
}

/* ---- flows of datagrams ---- */

void conn_log_describe_udp_flow(const struct conn_log *log, const struct udp_flow *f,
				const char *event, struct record *out, struct conn_log_texts *texts)
{
	const struct endpoint local = udp_flow_upstream_local(f);
	const struct endpoint upstream = udp_flow_upstream(log->host->udp, f);
	const struct transparent_connection c = {
		.client = f->entry.client,
		.origdst = udp_flow_origdst(f),
		.origin = (enum transparent_origin)f->origin,
	};

	uint8_t id[PROXYPROTO_ID_MAX];
	size_t id_length = udp_flow_unique_id(log->host->udp, f, id);

	describe(log->udp_listeners, &c, f->listener, event, out);
	record_number(out, RECORD_ID, f->id);
	record_text(out, RECORD_UNIQUE_ID, unique_id(id, id_length, texts));
	if (f->promoted)
		record_number(out, RECORD_COOKIE, udp_flow_cookie(f, FLOW_CLIENT));
	if (!f->one_way)
		record_number(out, RECORD_UPSTREAM_COOKIE, udp_flow_cookie(f, FLOW_UPSTREAM));
	record_endpoint(out, RECORD_UPSTREAM_LOCAL, &local);
	record_endpoint(out, RECORD_UPSTREAM, &upstream);
	record_text(out, RECORD_SOURCE_KEPT, transparent_kept_name(f->kept));
	if (udp_flow_upstream_source(f))
		record_endpoint(out, RECORD_UPSTREAM_SOURCE, udp_flow_upstream_source(f));
	record_number(out, RECORD_BYTES_UP, f->bytes[FLOW_UP]);
	record_number(out, RECORD_BYTES_DOWN, f->bytes[FLOW_DOWN]);
	record_number(out, RECORD_PACKETS_UP, f->packets[FLOW_UP]);
	record_number(out, RECORD_PACKETS_DOWN, f->packets[FLOW_DOWN]);
	record_duration(out, loop_now_us(log->host->loop) - f->opened_us);
}

void conn_log_udp_flow(struct conn_log *log, const struct udp_flow *f, const char *event)
{
	struct conn_log_texts texts;
	struct record r;

	if (!is_logged(log, f->reason))
		return;
	conn_log_describe_udp_flow(log, f, event, &r, &texts);
	record_text(&r, RECORD_REASON, reason_name(f->reason));
	write_record(log, &r);
}

void conn_log_udp_refusal(struct conn_log *log, const struct transparent_connection *c, unsigned at,
			  enum reason reason)
{
	struct record r;

	if (!is_logged(log, reason))
		return;
	describe(log->udp_listeners, c, at, "refused", &r);
	record_text(&r, RECORD_REASON, reason_name(reason));
	write_record(log, &r);
}

bool conn_log_flush(struct conn_log *log)
{
	bool left = log->wrote && record_stream_flush(log->stream);

	log->wrote = false;
	return left;
}
