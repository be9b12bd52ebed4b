/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The counters of /proc/net: which files, which lines, what has grown. */
#include "tproxy-inspect/explain/kernel_counters.h"
#include "check.h"
#include <stdlib.h>

static void parse(struct kernel_counters *c, enum kernel_counters_form form, const char *text)
{
	char *copy = strdup(text);

	kernel_counters_parse(c, form, copy);
	free(copy);
}

static char grown[512];

static void note(const struct kernel_counter *counter, void *context)
{
	size_t used = strlen(grown);

	snprintf(grown + used, sizeof(grown) - used, "%s+%llu%s ", counter->name,
		 (unsigned long long)counter->grown, counter->loses ? "!" : "");
}

static const char *compare(const struct kernel_counters *before,
			   const struct kernel_counters *after)
{
	grown[0] = '\0';
	kernel_counters_compare(before, after, note, NULL);
	return grown;
}

int main(void)
{
	struct kernel_counters a = { 0 }, b = { 0 };

	parse(&a, COUNTERS_PAIRS,
	      "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 7 3\nIpExt: InNoRoutes\nIpExt: 5\n");
	parse(&b, COUNTERS_PAIRS,
	      "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 9 5\nIpExt: InNoRoutes\nIpExt: 5\n");
	CHECK_TEXT(compare(&a, &b), "TcpExt.ListenDrops+2! ");
	/* For each processor a line. */
	parse(&a, COUNTERS_COLUMNS,
	      "entries  in_martian_src\n00000001 0000000f\n00000001 00000001\n");
	parse(&b, COUNTERS_COLUMNS,
	      "entries  in_martian_src\n00000001 00000010\n00000001 00000001\n");
	CHECK_TEXT(compare(&a, &b), "rt_cache.in_martian_src+1! TcpExt.ListenDrops+2! ");
	/* One that the kernel has only now is not compared. */
	parse(&b, COUNTERS_LINES, "Ip6InNoRoutes                   \t9\nIp6InHdrErrors 1\n");
	CHECK_TEXT(compare(&a, &b), "rt_cache.in_martian_src+1! TcpExt.ListenDrops+2! ");
	parse(&a, COUNTERS_LINES, "Ip6InNoRoutes                   \t8\n");
	CHECK_TEXT(compare(&a, &b),
		   "rt_cache.in_martian_src+1! Ip6InNoRoutes+1! TcpExt.ListenDrops+2! ");
	/* Lines that are no pair, and values that are missing. */
	a = b = (struct kernel_counters){ 0 };
	parse(&a, COUNTERS_PAIRS, "Tcp: OutRsts\nUdp: 1\n");
	parse(&b, COUNTERS_PAIRS, "Tcp: OutRsts RetransSegs\nTcp: 4\nTcp: OutRsts");
	CHECK(!a.known[23] && compare(&a, &b)[0] == '\0');
	parse(&a, COUNTERS_PAIRS, "Tcp: OutRsts\nTcp: 1\n");
	CHECK_TEXT(compare(&a, &b), "Tcp.OutRsts+3 ");
	parse(&a, COUNTERS_PAIRS, "");
	parse(&a, COUNTERS_COLUMNS, "");
	return check_done();
}
