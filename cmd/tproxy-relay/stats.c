/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

/*
 * The name of a number here, and as a metric: its family, and the label that distinguishes it
 * within the family. Members of one family are adjacent. A row without help belongs to the family
 * of the row before.
 */
struct row {
	const char *name, *family, *label, *help;
	bool gauge;
};

#define GAUGE(which, name, family, help)   [which] = { name, family, NULL, help, true }
#define COUNTER(which, name, family, help) [which] = { name, family "_total", NULL, help, false }
#define PART(which, name, family, label, help) \
	[which] = { name, family "_total", label, help, false }

static const struct row rows[STATS_COUNTER + COUNTER_REASONS] = {
	GAUGE(STATS_CONNECTIONS, "connections", "connections", "Connections now."),
	GAUGE(STATS_MAX, "max", "connections_max", "Connections at most (--max)."),
	GAUGE(STATS_FLOWS, "flows", "flows", "UDP flows now."),
	GAUGE(STATS_MAX_FLOWS, "max-flows", "flows_max", "UDP flows at most (--max-flows)."),
	GAUGE(STATS_THREADS, "threads", "threads", "Threads."),
	GAUGE(STATS_ACCEPTING, "accepting", "threads_accepting",
	      "Threads that accept connections now."),
	GAUGE(STATS_HEALTHY, "healthy", "healthy",
	      "1, or 0 as soon as its end has begun (--lame-duck, draining)."),
	COUNTER(STATS_RECORDS_LOST, "records-lost", "records_lost",
		"Records that could not be written, or that their reader was too slow for."),
	COUNTER(STATS_COUNTER + COUNTER_ACCEPTED, "accepted", "accepted", "Connections accepted."),
	COUNTER(STATS_COUNTER + COUNTER_OPENED, "opened", "opened",
		"Connections whose upstream answered."),
	COUNTER(STATS_COUNTER + COUNTER_REFUSED, "refused", "refused", "Connections refused."),
	COUNTER(STATS_COUNTER + COUNTER_CLOSED, "closed", "closed",
		"Connections opened that have ended."),
	PART(STATS_COUNTER + COUNTER_BYTES_UP, "bytes-up", "bytes", "direction=\"up\"",
	     "Bytes carried from clients (up) and to them (down)."),
	PART(STATS_COUNTER + COUNTER_BYTES_DOWN, "bytes-down", "bytes", "direction=\"down\"", NULL),
	PART(STATS_COUNTER + COUNTER_PACKETS_UP, "packets-up", "datagrams", "direction=\"up\"",
	     "Datagrams carried from clients (up) and to them (down)."),
	PART(STATS_COUNTER + COUNTER_PACKETS_DOWN, "packets-down", "datagrams",
	     "direction=\"down\"", NULL),
	PART(STATS_COUNTER + COUNTER_AT_LIMIT, "paused-max", "pauses", "cause=\"max\"",
	     "Times that accepting paused, by cause."),
	PART(STATS_COUNTER + COUNTER_NO_DESCRIPTOR, "paused-descriptors", "pauses",
	     "cause=\"descriptors\"", NULL),
};

static bool is_reason(unsigned which)
{
	return which >= STATS_COUNTER + COUNTER_REASONS;
}

static const char *reason_of(unsigned which)
{
	const char *name = reason_name((enum reason)(which - STATS_COUNTER - COUNTER_REASONS));

	return *name ? name : NULL;
}

const char *stats_name(unsigned which)
{
	return is_reason(which) ? reason_of(which) : rows[which].name;
}

/* ---- summing up ---- */

static void begin(struct stats *f, struct relay *relay)
{
	memset(f->at, 0, sizeof(f->at));
	f->relay = relay;
}

static void add_udp(const struct udp_host *host, struct stats *f)
{
	f->at[STATS_FLOWS] += host->table.count;
	for (const struct udp_flow *flow = udp_flow_next(host, NULL); flow;
	     flow = udp_flow_next(host, flow)) {
		if (flow->closed)
			continue; /* in the counters already */
		f->at[STATS_COUNTER + COUNTER_BYTES_UP] += flow->bytes[FLOW_UP];
		f->at[STATS_COUNTER + COUNTER_BYTES_DOWN] += flow->bytes[FLOW_DOWN];
		f->at[STATS_COUNTER + COUNTER_PACKETS_UP] += flow->packets[FLOW_UP];
		f->at[STATS_COUNTER + COUNTER_PACKETS_DOWN] += flow->packets[FLOW_DOWN];
	}
}

static bool add_worker(struct worker *w, void *context)
{
	struct stats *f = context;

	for (unsigned i = 0; i < COUNTER_COUNT; i++)
		f->at[STATS_COUNTER + i] += counters_read(&w->counters, i);
	for (const struct flow *flow = slab_next(&w->host.flows, NULL); flow;
	     flow = slab_next(&w->host.flows, flow)) {
		if (flow->state == FLOW_CLOSED)
			continue; /* in the counters already */
		f->at[STATS_COUNTER + COUNTER_BYTES_UP] += flow->pump[FLOW_UP].bytes;
		f->at[STATS_COUNTER + COUNTER_BYTES_DOWN] += flow->pump[FLOW_DOWN].bytes;
	}
	if (w->host.udp)
		add_udp(w->host.udp, f);
	return true;
}

static void finish(struct stats *f)
{
	const struct relay *relay = f->relay;
	bool accepts = relay->phase < RELAY_DRAINING;

	f->at[STATS_CONNECTIONS] = relay_connections(relay);
	f->at[STATS_MAX] = relay->max;
	f->at[STATS_MAX_FLOWS] = relay->udp.max;
	f->at[STATS_THREADS] = relay->count;
	f->at[STATS_ACCEPTING] = accepts ? relay->count - relay->paused : 0;
	f->at[STATS_HEALTHY] = relay->phase == RELAY_SERVING;
	if (relay->records) {
		struct record_losses lost = record_stream_losses(relay->records);

		f->at[STATS_RECORDS_LOST] = lost.unread + lost.unwritten;
	}
}

static void end_visit(void *context)
{
	struct stats *f = context;

	finish(f);
	f->busy = false;
	f->done(f, f->context);
}

bool stats_collect(struct stats *f, struct relay *relay,
		   void (*done)(struct stats *f, void *context), void *context)
{
	if (f->busy)
		return false;
	begin(f, relay);
	f->busy = true;
	f->done = done;
	f->context = context;
	f->visit = (struct relay_visit){ .visit = add_worker, .done = end_visit, .context = f };
	relay_for_each_worker(relay, &f->visit);
	return true;
}

void stats_collect_now(struct stats *f, struct relay *relay)
{
	begin(f, relay);
	for (unsigned i = 0; i < relay->count; i++)
		add_worker(&relay->workers[i], f);
	finish(f);
}

/* ---- OpenMetrics ---- */

#define PREFIX "tproxy_relay_"

/*
 * For a counter with samples `x_total` the two formats want different names after TYPE: OpenMetrics
 * wants `x`, Prometheus' text format, which node_exporter's textfile collector reads, wants
 * `x_total`. So counters have no TYPE, which both allow; their names show that they are counters.
 */
static void print_head(FILE *out, const char *family, const char *help, bool gauge)
{
	fprintf(out, "# HELP " PREFIX "%s %s\n", family, help);
	if (gauge)
		fprintf(out, "# TYPE " PREFIX "%s gauge\n", family);
}

static void print_row(FILE *out, const struct row *row, uint64_t value)
{
	const char *label = row->label ? row->label : "";

	if (row->help)
		print_head(out, row->family, row->help, row->gauge);
	fprintf(out, PREFIX "%s%s%s%s %llu\n", row->family, *label ? "{" : "", label,
		*label ? "}" : "", (unsigned long long)value);
}

char *stats_print(const struct stats *f, size_t *length)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, length);
	bool failed;

	if (!out)
		return NULL;
	print_head(out, "build_info", "Always 1; the version is its label.", true);
	fprintf(out, PREFIX "build_info{version=\"%s\"} 1\n", TPROXY_VERSION);
	for (unsigned i = 0; i < STATS_COUNTER + COUNTER_REASONS; i++)
		print_row(out, &rows[i], f->at[i]);
	print_head(out, "finished_total", "Connections refused or ended, by reason.", false);
	for (unsigned i = STATS_COUNTER + COUNTER_REASONS; i < STATS_COUNT; i++)
		if (reason_of(i))
			fprintf(out, PREFIX "finished_total{reason=\"%s\"} %llu\n", reason_of(i),
				(unsigned long long)f->at[i]);
	fprintf(out, "# EOF\n");
	failed = ferror(out);
	if (fclose(out) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}
