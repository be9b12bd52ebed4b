/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics - the stats of a relay as a file of OpenMetrics text, for Prometheus' node_exporter
 * (textfile collector) or whoever reads it.
 *
 * Replaced as a whole every few seconds: who reads it finds the old or the new text, never a part.
 * A process of its own writes it (file_helper.h), so that a slow disk stops no connection.
 */
#ifndef TPROXY_RELAY_METRICS_H
#define TPROXY_RELAY_METRICS_H

#include "base/report.h"
#include "process/privilege.h"
#include "tproxy-relay/relay.h"

struct metrics;

/*
 * Write the file at `path` now and, while the relay runs, every METRICS_SECONDS, by rights of
 * `user`, who the relay will be, if those will do. To be called after workers_init(), while there
 * is one thread and before privileges are dropped. NULL with *why when there is something else than
 * a file at the path, or no process to be had; that it cannot be written is told, and no error.
 */
#define METRICS_SECONDS 3
struct metrics *metrics_new(struct relay *relay, const char *path,
			    const struct privilege_user *user, struct failure *why);

/* Write it for the last time, after workers_run() and before workers_free(), and free. NULL is
 * fine. */
void metrics_free(struct metrics *m);

#endif
