/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_lines - the records of a service on a terminal: a header line, and lines that fit the
 * screen.
 *
 * No record is held back to measure it: a column has the width of its usual values, a wider value
 * shifts the rest of its line, and what does not fit continues on another line.
 */
#ifndef TPROXY_BASE_RECORD_LINES_H
#define TPROXY_BASE_RECORD_LINES_H

#include "base/record.h"
#include <stdbool.h>
#include <stddef.h>

/* The longest text of one record with the header. */
#define RECORD_LINES_MAX (2 * RECORD_LINE_MAX)

struct record_lines {
	struct record_columns columns;
	/* The user did not choose columns: of the time only the clock is shown, and the ends of the
	 * upstream leg only where they differ from those of the connection. */
	bool brief;
	bool header_due;
	unsigned screen; /* characters */
};

/* Print the record into buf, preceded by the header if it is the first; returns the length. */
size_t record_lines_print(struct record_lines *l, const struct record *r,
			  char buf[RECORD_LINES_MAX]);

#endif
