/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot - the state of this network namespace's instances and relays at one moment, as the texts
 * that are exported.
 */
#ifndef TPROXY_INSPECT_EXPORT_SNAPSHOT_H
#define TPROXY_INSPECT_EXPORT_SNAPSHOT_H

#include "tproxy-inspect/export/examiner.h"
#include <stdbool.h>
#include <stddef.h>

/* The metrics in Prometheus' text format and in OpenMetrics; health as JSON:
 * {"healthy":false,"reasons":[{...}]}. */
enum snapshot_body { SNAPSHOT_TEXT, SNAPSHOT_OPENMETRICS, SNAPSHOT_HEALTH, SNAPSHOT_BODIES };

struct snapshot {
	bool healthy;
	char *body[SNAPSHOT_BODIES]; /* NULL: no memory; not terminated */
	size_t size[SNAPSHOT_BODIES];
};

/*
 * Compare every installed instance with its specification, and ask every relay. What cannot be read
 * is a reason not to be healthy. Takes 3 s at most if relays hang. *s is the caller's. What the
 * doctor found the last time is told with it.
 */
void snapshot_take(struct snapshot *s, const struct examiner_results *doctor);

void snapshot_free(struct snapshot *s);

#endif
