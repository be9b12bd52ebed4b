/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * census - about how many rules there are, and when each table was made, without listing any rule.
 */
#ifndef TPROXY_FIREWALL_CENSUS_H
#define TPROXY_FIREWALL_CENSUS_H

#include "base/report.h"
#include <stddef.h>
#include <stdint.h>

/* A table of nftables in this network namespace. */
struct census_table {
	char name[64];	 /* cut off: longer names are unknown */
	uint8_t family;	 /* NFPROTO_INET, ... */
	uint64_t handle; /* the newer, the larger */
};

struct census {
	struct census_table *table;
	size_t tables;
	uint64_t rules; /* and jumps to chains: what the kernel counts as their users */
};

/* 0, or -1 with *why. To be freed in any case. */
int census_take(struct census *census, struct failure *why);
void census_free(struct census *census);

/* When that table was made; family: `inet`, `ip`, ... 0: unknown. */
uint64_t census_table_handle(const struct census *census, const char *family, const char *name);

#endif
