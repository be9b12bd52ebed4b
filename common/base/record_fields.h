/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_fields - the names of fields and the kinds of their values: for those who print and parse
 * records, and nobody else.
 */
#ifndef TPROXY_BASE_RECORD_FIELDS_H
#define TPROXY_BASE_RECORD_FIELDS_H

#include "base/record.h"
#include <stddef.h>
#include <stdint.h>

enum record_kind {
	KIND_TEXT,
	KIND_PROSE,
	KIND_NUMBER,
	KIND_ENDPOINT,
	KIND_MARK,
	KIND_COOKIE,
	KIND_TIME,
	KIND_DURATION,
	KIND_YESNO,
};

struct record_field_row {
	const char *name;
	enum record_kind kind;
	uint8_t width; /* of a column in a padded table */
};

extern const struct record_field_row record_fields[RECORD_FIELDS];

/* The field of that name, or -1. */
int record_field_find(const char *name, size_t length);

#endif
