/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drop_reasons - why the kernel itself drops packets, counted by its own reasons (the tracepoint
 * skb:kfree_skb, through perf_event_open(2)).
 *
 * The tracepoint does not say which packet it was, nor in which network namespace, so these are the
 * packets of one family of the whole machine. It says when: those that were dropped while a packet
 * in question came to its end are told from the others. Its number and its format are in tracefs, of which a mount of our own is enough
 * that nobody else sees. All that needs CAP_SYS_ADMIN in the first user namespace.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_DROP_REASONS_H
#define TPROXY_INSPECT_EXPLAIN_DROP_REASONS_H

#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reasons beyond that are counted as one. */
#define DROP_REASONS_MAX 256

/* How the tracepoint reports. */
struct drop_reasons_format {
	unsigned offset;		 /* of the reason: 4 bytes, in the machine's order */
	char name[DROP_REASONS_MAX][32]; /* "": none */
	/* The number of NOT_SPECIFIED, beyond which a reason says something: 2 since Linux 6.2,
	 * lower before, when there was no SKB_CONSUMED. 0: it is not named. */
	unsigned unspecified;
};

/* Parse the tracepoint's file `format`. False: it has no reasons (before Linux 5.17), or is
 * another one. */
bool drop_reasons_parse(const char *text, struct drop_reasons_format *out);

/* Begin to count, for AF_INET or AF_INET6 (AF_UNSPEC: both). NULL with *why. */
struct drop_reasons;
struct drop_reasons *drop_reasons_open(int family, struct failure *why);
void drop_reasons_close(struct drop_reasons *d);

/* Take what was reported since the last call. Its queue is small: call it often. */
void drop_reasons_read(struct drop_reasons *d);

/* A packet in question has ended; the last that was heard of it was read at that time
 * (microseconds, monotonic). Note the drops of that time, of which the last thousand are known. */
void drop_reasons_ended(struct drop_reasons *d, uint64_t at_us);

/* Visit what was counted; `name` is NULL for what has no name, and for reports that were lost.
 * meanwhile: how many of them while a packet in question ended. */
typedef void drop_reasons_visitor(const char *name, uint64_t count, uint64_t meanwhile,
				  void *context);
void drop_reasons_each(const struct drop_reasons *d, drop_reasons_visitor *visit, void *context);

#endif
