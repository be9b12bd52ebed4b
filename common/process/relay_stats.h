/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay_stats - the numbers of a relay: their names at its control socket, and as metrics.
 *
 * The relay counts them and writes --metrics-file; `tproxy-inspect export` asks relays for them and
 * writes those of all.
 */
#ifndef TPROXY_PROCESS_RELAY_STATS_H
#define TPROXY_PROCESS_RELAY_STATS_H

#include "process/reason.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Buckets of the histograms, the last one for whatever is longer than all others. */
#define RELAY_STATS_CONNECT_BUCKETS  8
#define RELAY_STATS_DURATION_BUCKETS 7

/* What each thread counts. */
enum relay_stats_counter {
	COUNTER_ACCEPTED,      /* connections taken from a listener */
	COUNTER_OPENED,	       /* of these, the upstream leg was established */
	COUNTER_REFUSED,       /* of the accepted, refused */
	COUNTER_CLOSED,	       /* of the opened, ended */
	COUNTER_BYTES_UP,      /* of connections that have ended */
	COUNTER_BYTES_DOWN,    /* the same */
	COUNTER_PACKETS_UP,    /* the same, for UDP */
	COUNTER_PACKETS_DOWN,  /* the same */
	COUNTER_AT_LIMIT,      /* times accepting paused at --max */
	COUNTER_NO_DESCRIPTOR, /* times accepting paused for lack of a descriptor */
	COUNTER_REASONS,       /* from here one for each enum reason */
	/* TCP connections by the time that the upstream took to answer, and their sum in
	 * microseconds; the same for the time that they lasted. */
	COUNTER_CONNECT = COUNTER_REASONS + REASON_COUNT,
	COUNTER_CONNECT_SUM = COUNTER_CONNECT + RELAY_STATS_CONNECT_BUCKETS,
	COUNTER_DURATION,
	COUNTER_DURATION_SUM = COUNTER_DURATION + RELAY_STATS_DURATION_BUCKETS,
	COUNTER_COUNT
};

enum relay_stats_number {
	STATS_CONNECTIONS,  /* now, including those being accepted */
	STATS_MAX,	    /* at once */
	STATS_FLOWS,	    /* UDP flows now */
	STATS_MAX_FLOWS,    /* at once */
	STATS_THREADS,	    /* of the relay */
	STATS_ACCEPTING,    /* threads that are accepting */
	STATS_HEALTHY,	    /* 1, or 0 from the lame duck on */
	STATS_REPLACED,	    /* 1: it ends because another relay has taken over */
	STATS_RECORDS_LOST, /* not written, or the reader was too slow */
	STATS_COUNTER,	    /* from here on, one for each counter */
	STATS_REASONS = STATS_COUNTER + COUNTER_REASONS,
	STATS_CONNECT = STATS_COUNTER + COUNTER_CONNECT,
	STATS_COUNT = STATS_COUNTER + COUNTER_COUNT
};

/* The counter for that time in a histogram, COUNTER_CONNECT or COUNTER_DURATION. */
unsigned relay_stats_bucket(unsigned histogram, uint64_t us);

/*
 * `connections`, `accepted`, ..., and the reasons' names. NULL: that number has no meaning. And the
 * number of that name, or -1: an unknown one, of a later version.
 */
const char *relay_stats_name(unsigned which);
int relay_stats_find(const char *name);

/* One relay's numbers. */
struct relay_stats {
	const char *label;   /* of all its samples: `relay="4711"`, or "" */
	const char *version; /* without quotes, backslashes and newlines */
	const uint64_t *at;  /* STATS_COUNT */
};

/*
 * The two formats want different names after TYPE for a counter with samples `x_total`: OpenMetrics
 * wants `x`, Prometheus' text format `x_total`. Text that is to be both has none for counters,
 * which both allow; their names show that they are counters.
 */
enum relay_stats_format { RELAY_STATS_BOTH, RELAY_STATS_TEXT, RELAY_STATS_OPENMETRICS };

/* HELP and TYPE of a family, as that format wants them. family: without `_total'; type: `counter',
 * `gauge', `histogram'. */
void relay_stats_print_head(FILE *out, enum relay_stats_format format, const char *family,
			    const char *type, const char *help);

/* All numbers of these relays, family by family, without the end of an OpenMetrics text. */
void relay_stats_print(FILE *out, enum relay_stats_format format, const struct relay_stats *relays,
		       size_t count);

#endif
