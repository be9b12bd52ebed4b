/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay_census - the numbers of all relays of this network namespace.
 *
 * Anybody may have taken a relay's name: only who was root or our own user when it began to listen
 * is trusted, others are counted.
 */
#ifndef TPROXY_INSPECT_EXPORT_RELAY_CENSUS_H
#define TPROXY_INSPECT_EXPORT_RELAY_CENSUS_H

#include "base/report.h"
#include "net/relay_client.h"
#include "process/relay_stats.h"
#include <stdbool.h>
#include <stddef.h>

/* A relay that does not answer within a second is passed over; when all have taken this long, the
 * rest are not asked. */
#define RELAY_CENSUS_LIMIT_MS 3000

struct relay_census_entry {
	char id[RELAY_CLIENT_NAME_MAX]; /* its pid, in its own pid namespace; perhaps `.2` */
	char label[RELAY_CLIENT_NAME_MAX + 16];
	char version[32], state[16];
	bool known; /* it has answered; else: */
	struct failure why;
	uint64_t at[STATS_COUNT];
};

struct relay_census {
	struct relay_census_entry *at;
	size_t count;
	size_t untrusted;
};

/* Ask them all. A relay that ends meanwhile is left out. 0, or -1 with *why; the caller frees *c in
 * any case. */
int relay_census_take(struct relay_census *c, struct failure *why);
void relay_census_free(struct relay_census *c);

/* Is it a reason not to be healthy? A relay that ends because another one has taken over is not. */
bool relay_census_is_well(const struct relay_census_entry *relay);

#endif
