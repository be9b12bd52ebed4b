/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_table - the writer of one-shot tools: a table on stdout, or NDJSON; blocking, through
 * stdio.
 *
 * Prints a header line first, then padded columns. Errors show at report_close_stdout(). A table
 * laid out for a terminal (record_table_fit()) is as wide as its contents, folded where that
 * exceeds the screen, and in colour unless NO_COLOR is set; the output to a pipe or a file never
 * depends on that.
 */
#ifndef TPROXY_BASE_RECORD_TABLE_H
#define TPROXY_BASE_RECORD_TABLE_H

#include "base/options.h"
#include "base/record.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The options that shape a table, and the rows for them in an option table. */
struct record_style {
	const char *columns; /* -o as typed, or NULL */
	bool no_header;	     /* -H */
	bool json;	     /* -j, from options_common */
};

#define RECORD_TABLE_OPTIONS(config, member) RECORD_TABLE_OPTIONS_OF(0, config, member)
#define RECORD_TABLE_OPTIONS_OF(commands, config, member)                                        \
	OPTION_OF(commands, "no-header", 'H', NULL, "no header line", option_flag, config,       \
		  member.no_header),                                                             \
		OPTION_OF(commands, "columns", 'o', "COL,...",                                   \
			  "these columns; +COL,... adds to the usual ones", option_text, config, \
			  member.columns)

struct record_screen;
struct record_table {
	struct record_columns columns;
	bool json, header_due;
	struct record_screen *screen; /* layout for a terminal, or NULL */
};

/*
 * The default columns are the `count` fields in `defaults`; `more` has the bits (RECORD_BIT) of
 * further columns that can be asked for. 0, or -1 with *why naming a column that the table cannot
 * have.
 */
int record_table_init(struct record_table *t, const struct record_style *style,
		      const enum record_field *defaults, size_t count, uint64_t more,
		      struct failure *why);

/* Lay the table out for the terminal, if stdout is one. Its first records are then held back to
 * measure them, so print nothing else in between without record_table_flush(). */
void record_table_fit(struct record_table *t);

void record_table_put(struct record_table *t, const struct record *r);

/* Write now what is held back: the reader may be waiting for it. */
void record_table_flush(struct record_table *t);

/* Write what is held back, and free the layout. Must be called after record_table_fit(). */
void record_table_end(struct record_table *t);

/* Is stdout a terminal that wants colours? */
bool record_table_in_colour(void);

/* Does the table show the text of that field? */
bool record_table_has(const struct record_table *t, enum record_field f);

#endif
