/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics - the stats of a relay in a file of OpenMetrics text, for Prometheus' node_exporter
 * (textfile collector) or any other reader.
 *
 * The file is replaced as a whole every few seconds: a reader finds the old or the new text, never
 * a part. A separate process writes it (file_helper.h), so that a slow disk stalls no connection.
 */
#ifndef TPROXY_RELAY_METRICS_H
#define TPROXY_RELAY_METRICS_H

#include "base/report.h"
#include "process/privilege.h"
#include "tproxy-relay/relay.h"

struct metrics;

/*
 * Write the file at `path` now and, while the relay runs, every METRICS_SECONDS, with the rights of
 * `user`, the user the relay will run as, if they suffice. Call this after workers_init(), while
 * there is one thread and before privileges are dropped. NULL with *why if the path is something
 * other than a file, or the process could not be started. A file that cannot be written is reported
 * and is no error.
 */
#define METRICS_SECONDS 3
struct metrics *metrics_new(struct relay *relay, const char *path,
			    const struct privilege_user *user, struct failure *why);

/* Write it for the last time, after workers_run() and before workers_free(), and free. NULL is
 * fine. */
void metrics_free(struct metrics *m);

#endif
