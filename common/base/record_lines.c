/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record_lines.h"

#include <stdio.h>
#include <string.h>

/* Prefix of the second and further lines of a record. */
#define INDENT 4

/* The position of hh:mm:ss in `YYYY-MM-DDThh:mm:ss.uuuuuuZ`. */
#define CLOCK_START  11
#define CLOCK_LENGTH 8

/* A text under construction, and the width of its current line. */
struct page {
	char *buf;
	size_t used;
	unsigned at, screen;
};

static void add(struct page *p, const char *text)
{
	size_t length = strlen(text),
	       room = RECORD_LINES_MAX - 1 - p->used; /* for the last newline */

	if (length > room)
		length = room;
	memcpy(p->buf + p->used, text, length);
	p->used += length;
}

/* Characters, not bytes: records print valid UTF-8. */
static unsigned width_of(const char *text)
{
	unsigned width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

/* Append one more word, after blanks that pad the last one. */
static void add_word(struct page *p, const char *text, unsigned blanks)
{
	unsigned width = width_of(text);
	char gap[64];

	if (p->at && p->at + blanks + width > p->screen) {
		add(p, "\n    ");
		p->at = INDENT;
		blanks = 0;
	}
	snprintf(gap, sizeof(gap), "%*s", (int)blanks, "");
	add(p, gap);
	add(p, text);
	p->at += blanks + width;
}

static void end_line(struct page *p)
{
	p->buf[p->used++] = '\n';
	p->at = 0;
}

/* The usual width of a column: that of IPv4 ends, for example. */
static unsigned usual_width(const struct record_lines *l, enum record_field f)
{
	switch (f) {
	case RECORD_TIME:
		return l->brief ? CLOCK_LENGTH : record_field_width(f);
	case RECORD_CLIENT:
	case RECORD_ORIGDST:
	case RECORD_UPSTREAM:
	case RECORD_UPSTREAM_LOCAL:
		return 15;
	case RECORD_REASON:
		return 11;
	case RECORD_BYTES_UP:
		return 8;
	default:
		return record_field_width(f);
	}
}

static const char *value_of(const struct record_lines *l, const struct record *r, size_t i,
			    char text[RECORD_LINE_MAX])
{
	enum record_field f = l->columns.at[i];

	record_print_column(r, f, text, RECORD_LINE_MAX);
	if (f != RECORD_TIME || !l->brief || strlen(text) < CLOCK_START + CLOCK_LENGTH)
		return text;
	text[CLOCK_START + CLOCK_LENGTH] = '\0';
	return text + CLOCK_START;
}

/* The columns of a record, or those of the header (NULL). */
static void add_columns(const struct record_lines *l, const struct record *r, struct page *p)
{
	char text[RECORD_LINE_MAX], name[RECORD_NAME_MAX];
	unsigned lacks = 0;

	for (size_t i = 0; i < l->columns.count; i++) {
		enum record_field f = l->columns.at[i];
		const char *word = r ? value_of(l, r, i, text) : record_field_heading(f, name);
		unsigned width = width_of(word), usual = usual_width(l, f);

		add_word(p, word, i ? 1 + lacks : 0);
		lacks = width < usual ? usual - width : 0;
	}
}

static void add_field(const struct record *r, enum record_field f, struct page *p)
{
	char text[RECORD_LINE_MAX];
	int length = snprintf(text, sizeof(text), "%s=", record_field_name(f));

	record_print_column(r, f, text + length, sizeof(text) - (size_t)length);
	add_word(p, text, 1);
}

static bool is_unknown(const struct record *r, enum record_field f)
{
	char text[RECORD_NAME_MAX + 64];

	record_print_column(r, f, text, sizeof(text));
	return !strcmp(text, "unknown");
}

static bool differs(const struct record *r, enum record_field f, enum record_field from)
{
	char one[RECORD_NAME_MAX + 64], other[sizeof(one)];

	record_print_column(r, f, one, sizeof(one));
	record_print_column(r, from, other, sizeof(other));
	return strcmp(one, "-") && strcmp(one, other);
}

/* Fields whose value differs from what everybody would expect. */
static void add_differences(const struct record *r, struct page *p)
{
	static const struct {
		enum record_field field, from;
	} legs[] = { { RECORD_UPSTREAM_LOCAL, RECORD_CLIENT },
		     { RECORD_UPSTREAM_SOURCE, RECORD_CLIENT },
		     { RECORD_UPSTREAM, RECORD_ORIGDST } };

	for (size_t i = 0; i < sizeof(legs) / sizeof(*legs); i++)
		if (differs(r, legs[i].field, legs[i].from))
			add_field(r, legs[i].field, p);
	if (is_unknown(r, RECORD_SOURCE_KEPT))
		add_field(r, RECORD_SOURCE_KEPT, p);
}

size_t record_lines_print(struct record_lines *l, const struct record *r,
			  char buf[RECORD_LINES_MAX])
{
	struct page p = { .buf = buf, .screen = l->screen };

	if (l->header_due) {
		add_columns(l, NULL, &p);
		end_line(&p);
	}
	l->header_due = false;
	add_columns(l, r, &p);
	if (l->brief)
		add_differences(r, &p);
	end_line(&p);
	return p.used;
}
