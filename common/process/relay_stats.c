/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/relay_stats.h"

#include <string.h>

#define PREFIX "tproxy_relay_"

/* ---- the tables ---- */

/*
 * The name of a number at the control socket, and as a metric: its family, and the label that
 * distinguishes it within the family. Members of one family are adjacent. A row without help
 * belongs to the family of the row before.
 */
struct row {
	const char *name, *family, *label, *help;
	bool gauge;
};

#define GAUGE(which, name, family, help)       [which] = { name, family, "", help, true }
#define COUNTER(which, name, family, help)     [which] = { name, family, "", help, false }
#define PART(which, name, family, label, help) [which] = { name, family, label, help, false }

static const struct row rows[STATS_REASONS] = {
	GAUGE(STATS_CONNECTIONS, "connections", "connections", "Connections now."),
	GAUGE(STATS_MAX, "max", "connections_max", "Connections at most (--max)."),
	GAUGE(STATS_FLOWS, "flows", "flows", "UDP flows now."),
	GAUGE(STATS_MAX_FLOWS, "max-flows", "flows_max", "UDP flows at most (--max-flows)."),
	GAUGE(STATS_THREADS, "threads", "threads", "Threads."),
	GAUGE(STATS_ACCEPTING, "accepting", "threads_accepting",
	      "Threads that accept connections now."),
	GAUGE(STATS_HEALTHY, "healthy", "healthy",
	      "1, or 0 as soon as its end has begun (--lame-duck, draining)."),
	GAUGE(STATS_REPLACED, "replaced", "replaced",
	      "1 if it ends because another relay has taken over, else 0."),
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

/* The upper end of a bucket in microseconds (the last one has none), as OpenMetrics writes it in
 * seconds, and the name of its counter. */
struct bucket {
	uint64_t us;
	const char *le, *name;
};

static const struct bucket connect_buckets[RELAY_STATS_CONNECT_BUCKETS] = {
	{ 1000, "0.001", "connect-le-1ms" },	{ 5000, "0.005", "connect-le-5ms" },
	{ 20000, "0.02", "connect-le-20ms" },	{ 100000, "0.1", "connect-le-100ms" },
	{ 500000, "0.5", "connect-le-500ms" },	{ 2500000, "2.5", "connect-le-2500ms" },
	{ 10000000, "10.0", "connect-le-10s" }, { UINT64_MAX, "+Inf", "connect-longer" },
};

static const struct bucket duration_buckets[RELAY_STATS_DURATION_BUCKETS] = {
	{ 100000, "0.1", "duration-le-100ms" },	   { 1000000, "1.0", "duration-le-1s" },
	{ 10000000, "10.0", "duration-le-10s" },   { 60000000, "60.0", "duration-le-1m" },
	{ 600000000, "600.0", "duration-le-10m" }, { 3600000000, "3600.0", "duration-le-1h" },
	{ UINT64_MAX, "+Inf", "duration-longer" },
};

static const struct histogram {
	const char *family, *help, *sum_name;
	unsigned first, sum;
	const struct bucket *buckets;
	unsigned count;
} histograms[] = {
	{ "connect_seconds", "Time that the upstream took to answer, of TCP connections.",
	  "connect-us", COUNTER_CONNECT, COUNTER_CONNECT_SUM, connect_buckets,
	  RELAY_STATS_CONNECT_BUCKETS },
	{ "duration_seconds", "Time that TCP connections lasted, once they have ended.",
	  "duration-us", COUNTER_DURATION, COUNTER_DURATION_SUM, duration_buckets,
	  RELAY_STATS_DURATION_BUCKETS },
};
#define HISTOGRAMS (sizeof(histograms) / sizeof(*histograms))

/* ---- names ---- */

unsigned relay_stats_bucket(unsigned histogram, uint64_t us)
{
	const struct histogram *h = &histograms[histogram == COUNTER_DURATION];
	unsigned i = 0;

	while (us > h->buckets[i].us)
		i++;
	return h->first + i;
}

static const char *histogram_name(unsigned counter)
{
	for (size_t i = 0; i < HISTOGRAMS; i++) {
		const struct histogram *h = &histograms[i];

		if (counter == h->sum)
			return h->sum_name;
		if (counter >= h->first && counter < h->sum)
			return h->buckets[counter - h->first].name;
	}
	return NULL;
}

const char *relay_stats_name(unsigned which)
{
	const char *reason;

	if (which < STATS_REASONS)
		return rows[which].name;
	if (which >= STATS_CONNECT)
		return histogram_name(which - STATS_COUNTER);
	reason = reason_name((enum reason)(which - STATS_REASONS));
	return *reason ? reason : NULL;
}

int relay_stats_find(const char *name)
{
	for (unsigned i = 0; i < STATS_COUNT; i++) {
		const char *known = relay_stats_name(i);

		if (known && strcmp(known, name) == 0)
			return (int)i;
	}
	return -1;
}

/* ---- metrics ---- */

void relay_stats_print_head(FILE *out, enum relay_stats_format format, const char *family,
			    const char *type, const char *help)
{
	bool counter = strcmp(type, "counter") == 0;
	const char *total = counter && format != RELAY_STATS_OPENMETRICS ? "_total" : "";

	fprintf(out, "# HELP %s%s %s\n", family, total, help);
	if (!counter || format != RELAY_STATS_BOTH)
		fprintf(out, "# TYPE %s%s %s\n", family, total, type);
}

/* One sample's labels: the relay's own, and another one. */
static void print_labels(FILE *out, const char *one, const char *other)
{
	if (*one || *other)
		fprintf(out, "{%s%s%s}", one, *one && *other ? "," : "", other);
}

static void print_sample(FILE *out, const char *name, const struct relay_stats *relay,
			 const char *label, uint64_t value)
{
	fprintf(out, PREFIX "%s", name);
	print_labels(out, relay->label, label);
	fprintf(out, " %llu\n", (unsigned long long)value);
}

/* A family: its first row and those that belong to it. Returns how many rows it has. */
static unsigned print_family(FILE *out, enum relay_stats_format format, unsigned first,
			     const struct relay_stats *relays, size_t count)
{
	const struct row *row = &rows[first];
	char family[64], name[64];
	unsigned members = 1;

	while (first + members < STATS_REASONS && !row[members].help)
		members++;
	snprintf(family, sizeof(family), PREFIX "%s", row->family);
	snprintf(name, sizeof(name), "%s%s", row->family, row->gauge ? "" : "_total");
	relay_stats_print_head(out, format, family, row->gauge ? "gauge" : "counter", row->help);
	for (size_t r = 0; r < count; r++)
		for (unsigned i = 0; i < members; i++)
			print_sample(out, name, &relays[r], row[i].label, relays[r].at[first + i]);
	return members;
}

static void print_reasons(FILE *out, enum relay_stats_format format,
			  const struct relay_stats *relays, size_t count)
{
	relay_stats_print_head(out, format, PREFIX "finished", "counter",
			       "Connections refused or ended, by reason.");
	for (size_t r = 0; r < count; r++)
		for (unsigned i = STATS_REASONS; i < STATS_CONNECT; i++) {
			char label[64];

			if (!relay_stats_name(i))
				continue;
			snprintf(label, sizeof(label), "reason=\"%s\"", relay_stats_name(i));
			print_sample(out, "finished_total", &relays[r], label, relays[r].at[i]);
		}
}

static void print_histogram(FILE *out, const struct histogram *h, const struct relay_stats *relay)
{
	const uint64_t *at = relay->at + STATS_COUNTER;
	uint64_t below = 0;

	for (unsigned i = 0; i < h->count; i++) {
		char label[32], name[64];

		below += at[h->first + i];
		snprintf(label, sizeof(label), "le=\"%s\"", h->buckets[i].le);
		snprintf(name, sizeof(name), "%s_bucket", h->family);
		print_sample(out, name, relay, label, below);
	}
	fprintf(out, PREFIX "%s_sum", h->family);
	print_labels(out, relay->label, "");
	fprintf(out, " %llu.%06llu\n", (unsigned long long)(at[h->sum] / 1000000),
		(unsigned long long)(at[h->sum] % 1000000));
	fprintf(out, PREFIX "%s_count", h->family);
	print_labels(out, relay->label, "");
	fprintf(out, " %llu\n", (unsigned long long)below);
}

static void print_histograms(FILE *out, enum relay_stats_format format,
			     const struct relay_stats *relays, size_t count)
{
	for (size_t i = 0; i < HISTOGRAMS; i++) {
		char family[64];

		snprintf(family, sizeof(family), PREFIX "%s", histograms[i].family);
		relay_stats_print_head(out, format, family, "histogram", histograms[i].help);
		for (size_t r = 0; r < count; r++)
			print_histogram(out, &histograms[i], &relays[r]);
	}
}

void relay_stats_print(FILE *out, enum relay_stats_format format, const struct relay_stats *relays,
		       size_t count)
{
	relay_stats_print_head(out, format, PREFIX "build_info", "gauge",
			       "Always 1; the version is its label.");
	for (size_t r = 0; r < count; r++) {
		char label[64];

		snprintf(label, sizeof(label), "version=\"%.48s\"", relays[r].version);
		print_sample(out, "build_info", &relays[r], label, 1);
	}
	for (unsigned i = 0; i < STATS_REASONS;)
		i += print_family(out, format, i, relays, count);
	print_reasons(out, format, relays, count);
	print_histograms(out, format, relays, count);
}
