/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * examiner - a helper that has `tproxy-setup doctor' examine every instance, now and then.
 *
 * A checkup takes longer than a request may wait, and is another program's work; so it happens
 * beside the requests, and the results of the last one are exported. It is made only when somebody
 * asks for metrics, and not more often than at an interval.
 */
#ifndef TPROXY_INSPECT_EXPORT_EXAMINER_H
#define TPROXY_INSPECT_EXPORT_EXAMINER_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often one check found something of one severity. */
struct examiner_finding {
	char check[24];
	char severity[8]; /* `warn' or `fail' */
	uint32_t number;
};

/* Of one instance. */
#define EXAMINER_FINDINGS 80
struct checkup {
	char name[INTERCEPT_NAME_MAX + 1];
	bool answered; /* the doctor has; if not, nothing is known */
	uint32_t count;
	struct examiner_finding at[EXAMINER_FINDINGS];
};

/* The last time: of all instances that there were. */
struct examiner_results {
	bool known;	      /* false: it has not come to an end yet */
	uint64_t ended, took; /* milliseconds; when (clock_ms()) and for how long */
	struct checkup *at;
	size_t count;
};

struct examiner;

/* Start it, with the interval in milliseconds, while there is one thread, and with the rights that
 * the doctor needs. NULL with *why: there is no tproxy-setup, ... */
struct examiner *examiner_new(uint64_t interval, struct failure *why);
void examiner_free(struct examiner *e);

/* What is known now, which belongs to the examiner until the next call. If it is older than the
 * interval, the next checkup begins. Never waits. NULL is fine: nothing is known. */
const struct examiner_results *examiner_results(struct examiner *e);

#endif
