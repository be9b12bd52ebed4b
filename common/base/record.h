/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record - what goes to stdout: one record per line, as text columns or as NDJSON.
 *
 * The only place that knows the names of fields and both forms. A program fills a struct record and
 * hands it to a writer; the writer decides about columns, header or JSON. A field that was not set
 * is `-` in text and absent in JSON. Every JSON record carries v (schema version) and type.
 * tproxy-tools(7) documents each field once; a test compares it with this list.
 */
#ifndef TPROXY_BASE_RECORD_H
#define TPROXY_BASE_RECORD_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/record_fields.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_SCHEMA 1

/* One record. It borrows its texts until it is written. Zero it, or call record_begin(). */
struct record {
	uint64_t present; /* one bit per field */
	union record_value {
		const char *text;
		uint64_t number;
		struct endpoint endpoint;
		struct mark mark;
	} value[RECORD_FIELDS];
};

/* Empty the record and give it its type (borrowed, normally a literal). */
void record_begin(struct record *r, const char *type);

/* Set a field. The function must match the kind of the field in the list above (checked by assert).
 * An unset endpoint and a NULL or empty text leave the field absent. */
void record_text(struct record *r, enum record_field f, const char *text);
void record_number(struct record *r, enum record_field f, uint64_t number);
void record_endpoint(struct record *r, enum record_field f, const struct endpoint *e);

/* Any address of both families with that port: `*:80`; the address is `*` in JSON. */
void record_any_endpoint(struct record *r, enum record_field f, uint16_t port);
void record_mark(struct record *r, enum record_field f, const struct mark *mark);

/* Set RECORD_TIME: to a time of the wall clock, in microseconds, or to now. Set RECORD_DURATION_MS,
 * and the other fields of its kind, from microseconds. */
void record_time(struct record *r, uint64_t microseconds);
void record_time_now(struct record *r);
void record_duration(struct record *r, uint64_t microseconds);
void record_microseconds(struct record *r, enum record_field f, uint64_t microseconds);

/* The columns of a text table: field numbers, and how many. */
struct record_columns {
	enum record_field at[RECORD_FIELDS];
	size_t count;
	uint64_t known; /* RECORD_BITs of the columns that exist; 0: any */
};
#define RECORD_BIT(field) (1ULL << (field))

/* `proto,client` replaces *columns, `+mark,cookie` adds to it; a column that is already there stays
 * in its place. -1 with *why naming the bad column and the known ones. */
int record_parse_columns(const char *text, struct record_columns *columns, struct failure *why);

/* Longest line of one record, including the newline; a longer one is cut in its prose fields. */
#define RECORD_LINE_MAX 2048

/* Print one line with its newline into buf (RECORD_LINE_MAX bytes); returns its length. Text:
 * columns are separated by blanks, values are never empty and have no blanks; prose keeps its
 * blanks, and ends with a tab if another column follows. */
size_t record_print_text(const struct record *r, const struct record_columns *columns, char *buf);
size_t record_print_json(const struct record *r, char *buf);

/* Like record_print_text(), with each column padded to record_field_width(). */
size_t record_print_padded(const struct record *r, const struct record_columns *columns, char *buf);

/* Print one column of the record into buf, with \0; cut to `room`. Returns its length including
 * \0. */
size_t record_print_column(const struct record *r, enum record_field f, char *buf, size_t room);

/* The name of a field, and the width of its column in a padded table. */
#define RECORD_NAME_MAX 32
const char *record_field_name(enum record_field f);
unsigned record_field_width(enum record_field f);

/* The name in capitals, for a column heading; returns buf. */
const char *record_field_heading(enum record_field f, char buf[RECORD_NAME_MAX]);

/* The value of a field; NULL or 0 if it is absent. */
const char *record_get_text(const struct record *r, enum record_field f);
uint64_t record_get_number(const struct record *r, enum record_field f);

#endif
