/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_lines - the records of a service on a terminal: a header line, and lines that fit the
 * screen.
 *
 * Nothing is held back to see how wide it is: a column is as wide as its usual values are, a wider
 * one moves the rest of its line, and what does not fit goes on in a further line.
 */
#ifndef TPROXY_BASE_RECORD_LINES_H
#define TPROXY_BASE_RECORD_LINES_H

#include "base/record.h"
#include <stdbool.h>
#include <stddef.h>

/* The longest text of one record with its header. */
#define RECORD_LINES_MAX (2 * RECORD_LINE_MAX)

struct record_lines {
	struct record_columns columns;
	/* Not the columns that somebody asked for: of the time the clock's is enough, and the ends
	 * of the upstream leg are told where they are not those of the connection. */
	bool brief;
	bool header_due;
	unsigned screen; /* characters */
};

/* Print the record, and in front of the first one the header, into buf; returns the length. */
size_t record_lines_print(struct record_lines *l, const struct record *r,
			  char buf[RECORD_LINES_MAX]);

#endif
