/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_table - the writer of one-shot tools: a table on stdout, or NDJSON; blocking, through
 * stdio.
 *
 * A header line first, padded columns. Errors show at report_close_stdout(). A table that was laid
 * out for a terminal (record_table_fit()) is as wide as what is in it, folded where that is wider
 * than the screen, and in colour unless NO_COLOR is set; what a pipe or a file gets never depends
 * on that.
 */
#ifndef TPROXY_BASE_RECORD_TABLE_H
#define TPROXY_BASE_RECORD_TABLE_H

#include "base/options.h"
#include "base/record.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The options that shape a table, and their rows for an option table. */
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
 * The usual columns are `count` of `defaults`; `more` has the bits (RECORD_BIT) of those that can
 * be asked for besides. 0, or -1 with *why naming a column that the table cannot have.
 */
int record_table_init(struct record_table *t, const struct record_style *style,
		      const enum record_field *defaults, size_t count, uint64_t more,
		      struct failure *why);

/* If stdout is a terminal: lay the table out for it. Its first records are then held back, to
 * see how wide they are, so nothing else may be printed in between without record_table_flush(). */
void record_table_fit(struct record_table *t);

void record_table_put(struct record_table *t, const struct record *r);

/* Write what is held back, now: the reader may be waiting for it. */
void record_table_flush(struct record_table *t);

/* Write what is held back, and free what the layout took. Must be called if record_table_fit()
 * was. */
void record_table_end(struct record_table *t);

/* Is stdout a terminal on which colours are wanted? */
bool record_table_in_colour(void);

/* Does the text of that field stand in the table? */
bool record_table_has(const struct record_table *t, enum record_field f);

#endif
