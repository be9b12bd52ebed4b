/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steps - what happens to the packet, step by step, and the verdict.
 *
 * Plain data, in the order in which the kernel does it. The first thing that ends the packet's path
 * is the verdict; nothing after it is evaluated.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_STEPS_H
#define TPROXY_INSPECT_EXPLAIN_STEPS_H

#include "base/shell.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ok: it continues; warn: it may end here, or that is unknown; fail: it ends here. */
enum step_severity { STEP_OK, STEP_WARN, STEP_FAIL };

struct step {
	const char *name; /* `prerouting`: a literal */
	enum step_severity severity;
	char *where;	/* `-150, ip mangle PREROUTING`; "" */
	char *evidence; /* what was seen */
	uint64_t time;	/* when: wall clock, in microseconds; 0: of no time */
};

/* Longest command that fixes something, and its end. */
#define STEPS_FIX_MAX 1024

struct steps {
	struct step *at;
	size_t count, room;
	bool lost; /* memory ran out */

	/* The verdict, once there is one. */
	const char
		*reason; /* a literal: of a closed list, which the man page has; NULL: none yet */
	char words[512];
	char fix[STEPS_FIX_MAX]; /* a command for sh; "" where there is none */
};

/* `ok`, `warn`, `fail`. */
const char *step_severity_name(enum step_severity severity);

/* A step; texts are copied. */
void steps_add(struct steps *s, const char *name, enum step_severity severity, const char *where,
	       const char *evidence, ...) __attribute__((format(printf, 5, 6)));

/* Give the last step its time. */
void steps_time(struct steps *s, uint64_t microseconds);

/* Set the verdict: the reason, an explanation, and the command that would change it. A second
 * verdict is ignored. */
void steps_conclude(struct steps *s, const char *reason, const char *fix, const char *words, ...)
	__attribute__((format(printf, 4, 5)));

/* Is there a verdict, and has it that reason? */
bool steps_over(const struct steps *s);
bool steps_concluded(const struct steps *s, const char *reason);

void steps_free(struct steps *s);

#endif
