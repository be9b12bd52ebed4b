/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics - the stats of a relay as a file of OpenMetrics text, for Prometheus' node_exporter
 * (textfile collector) or whoever reads it.
 *
 * Replaced as a whole every few seconds: who reads it finds the old or the new text, never a part. A
 * thread of its own writes it, so that a slow disk stops no connection.
 */
#ifndef TPROXY_RELAY_METRICS_H
#define TPROXY_RELAY_METRICS_H

#include "base/report.h"
#include "tproxy-relay/worker.h"

struct metrics;

/* A file could not be written, for the first time since it could be; NULL: it can be again. Called in
 * any thread. */
typedef void metrics_tell(const char *path, const struct failure *why);

/*
 * Write the file at `path` (borrowed) now and, while the relay runs, every METRICS_SECONDS. To be called
 * after relay_init() and before relay_run(). NULL with *why when there is something else than a file at
 * the path, or no thread to be had; that it cannot be written is told, and no error.
 */
#define METRICS_SECONDS 3
struct metrics *metrics_new(struct relay *relay, const char *path, metrics_tell *tell,
			    struct failure *why);

/* Write it for the last time, after relay_run() and before relay_free(), and free. NULL is fine. */
void metrics_free(struct metrics *m);

#endif
