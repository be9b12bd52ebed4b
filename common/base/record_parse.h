/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_parse - turns a line of NDJSON that another program of ours wrote back into a record.
 *
 * Reads what record_print_json() writes, in this version or a later one: unknown fields are
 * skipped. The text comes from another process, so nothing is taken on trust.
 */
#ifndef TPROXY_BASE_RECORD_PARSE_H
#define TPROXY_BASE_RECORD_PARSE_H

#include "base/record.h"
#include "base/report.h"
#include <stddef.h>

/* Storage for the texts of a parsed record. */
struct record_texts {
	char at[RECORD_LINE_MAX];
	size_t used;
};

/*
 * Parse one line of less than RECORD_LINE_MAX bytes, without its newline, into *r, which borrows
 * its texts from *texts. Returns 0, or -1 with *why: it is not a JSON object, a field has a value
 * of the wrong kind or occurs twice, or the schema is another one.
 */
int record_parse_json(const char *line, size_t length, struct record *r, struct record_texts *texts,
		      struct failure *why);

#endif
