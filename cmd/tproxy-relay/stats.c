/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	f->at[STATS_REPLACED] = relay->replaced;
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

char *stats_print(const struct stats *f, size_t *length)
{
	const struct relay_stats relay = { "", TPROXY_VERSION, f->at };
	char *text = NULL;
	FILE *out = open_memstream(&text, length);
	bool failed;

	if (!out)
		return NULL;
	relay_stats_print(out, RELAY_STATS_BOTH, &relay, 1);
	fprintf(out, "# EOF\n");
	failed = ferror(out);
	if (fclose(out) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}
