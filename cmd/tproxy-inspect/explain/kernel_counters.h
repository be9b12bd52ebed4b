/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel_counters - the counters of the network stack that grow when it loses a packet, or answers
 * or sends one again.
 *
 * They count all packets of the network namespace (in_martian_... and in_no_route of the machine),
 * so a counter that has grown is a hint, and one that has not is evidence. From /proc/net/netstat,
 * snmp, snmp6 and stat/rt_cache.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_KERNEL_COUNTERS_H
#define TPROXY_INSPECT_EXPLAIN_KERNEL_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#define KERNEL_COUNTERS 32

struct kernel_counters {
	uint64_t at[KERNEL_COUNTERS];
	bool known[KERNEL_COUNTERS]; /* the kernel has it */
};

/* Read them now. */
void kernel_counters_read(struct kernel_counters *c);

/* One that has grown. */
struct kernel_counter {
	const char *name; /* `TcpExt.ListenDrops`, a literal */
	const char *what; /* what it counts, in words */
	bool loses;	  /* packets were lost */
	uint64_t grown;
};

/* Visit those that have grown. */
typedef void kernel_counters_visitor(const struct kernel_counter *counter, void *context);
void kernel_counters_compare(const struct kernel_counters *before,
			     const struct kernel_counters *after, kernel_counters_visitor *visit,
			     void *context);

/* Parse such a file: pairs of lines, `Group: NAME...` and `Group: VALUE...`; lines of snmp6, `NAME
 * VALUE`; or of rt_cache, a line of names and one of hexadecimal values for each processor. */
enum kernel_counters_form { COUNTERS_PAIRS, COUNTERS_LINES, COUNTERS_COLUMNS };
void kernel_counters_parse(struct kernel_counters *c, enum kernel_counters_form form, char *text);

#endif
