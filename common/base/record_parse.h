/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_parse - a line of NDJSON becomes a record again: what another program of ours has written.
 *
 * Reads what record_print_json() writes, of this version or a later one: fields that it does not
 * know are passed over. The text comes from another process, so nothing is taken on trust.
 */
#ifndef TPROXY_BASE_RECORD_PARSE_H
#define TPROXY_BASE_RECORD_PARSE_H

#include "base/record.h"
#include "base/report.h"
#include <stddef.h>

/* Where the texts of a parsed record are kept. */
struct record_texts {
	char at[RECORD_LINE_MAX];
	size_t used;
};

/*
 * Parse one line without its newline, of less than RECORD_LINE_MAX bytes, into *r, which borrows
 * its texts from *texts. Returns 0, or -1 with *why: it is no JSON object, a field has a value of
 * another kind or twice, or it is of another schema.
 */
int record_parse_json(const char *line, size_t length, struct record *r, struct record_texts *texts,
		      struct failure *why);

#endif
