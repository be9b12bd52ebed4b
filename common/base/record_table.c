/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record_table.h"

#include "base/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many records determine the widths of the columns. */
#define HELD_MAX 256

/* Prefix of the second and further lines of a folded record. */
#define FOLD_INDENT 4

struct record_screen {
	unsigned columns; /* of characters */
	bool colour;
	unsigned width[RECORD_FIELDS]; /* of each column of the table */
	char *held;		       /* the columns of `rows` records, each ended by \0 */
	size_t used, room;
	unsigned rows;
	bool settled; /* the widths are final */
};

/* The columns of one record. */
struct row {
	const char *at[RECORD_FIELDS];
	bool header;
};

int record_table_init(struct record_table *t, const struct record_style *style,
		      const enum record_field *defaults, size_t count, uint64_t more,
		      struct failure *why)
{
	*t = (struct record_table){ .json = style->json,
				    .header_due = !style->no_header && !style->json };
	memcpy(t->columns.at, defaults, count * sizeof(*defaults));
	t->columns.count = count;
	t->columns.known = more | RECORD_BIT(RECORD_V) | RECORD_BIT(RECORD_TYPE);
	for (size_t i = 0; i < count; i++)
		t->columns.known |= RECORD_BIT(defaults[i]);
	if (!style->columns || record_parse_columns(style->columns, &t->columns, why) == 0)
		return 0;
	return report_about(why, "--columns %s", style->columns);
}

bool record_table_has(const struct record_table *t, enum record_field f)
{
	for (size_t i = 0; i < t->columns.count; i++)
		if (t->columns.at[i] == f)
			return true;
	return false;
}

/* ---- for pipes and files ---- */

static void put_header(const struct record_table *t)
{
	char name[RECORD_NAME_MAX];

	for (size_t i = 0; i < t->columns.count; i++) {
		enum record_field f = t->columns.at[i];

		record_field_heading(f, name);
		if (i + 1 == t->columns.count)
			printf("%s\n", name);
		else
			printf("%-*s ", (int)record_field_width(f), name);
	}
}

/* ---- for a screen ---- */

bool record_table_in_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && *term && strcmp(term, "dumb");
}

void record_table_fit(struct record_table *t)
{
	if (t->json || !isatty(STDOUT_FILENO))
		return;
	t->screen = calloc(1, sizeof(*t->screen));
	if (!t->screen)
		return; /* lay it out as for a file */
	t->screen->columns = screen_columns(STDOUT_FILENO);
	t->screen->colour = record_table_in_colour();
}

/* Colours for values that say whether something is well; others have none. */
static const char *colour_of(enum record_field f, const char *text)
{
	static const struct {
		enum record_field field;
		const char *text, *colour;
	} colours[] = {
		{ RECORD_STATE, "ESTAB", "32" },	{ RECORD_STATE, "LISTEN", "36" },
		{ RECORD_STATE, "UNCONN", "36" },	{ RECORD_STATE, "CLOSE-WAIT", "33" },
		{ RECORD_STATE, "SYN-SENT", "33" },	{ RECORD_STATE, "FIN-WAIT-1", "33" },
		{ RECORD_STATE, "FIN-WAIT-2", "33" },	{ RECORD_STATE, "LAST-ACK", "33" },
		{ RECORD_STATE, "TIME-WAIT", "2" },	{ RECORD_TRANSPARENT, "no", "33" },
		{ RECORD_TRANSPARENT, "unknown", "2" }, { RECORD_ORIGDST_BY, "none", "33" },
		{ RECORD_SEVERITY, "ok", "32" },	{ RECORD_SEVERITY, "warn", "33" },
		{ RECORD_SEVERITY, "fail", "31" },	{ RECORD_STATE, "missing", "31" },
		{ RECORD_STATE, "changed", "31" },
	};

	for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++)
		if (colours[i].field == f && !strcmp(colours[i].text, text))
			return colours[i].colour;
	return NULL;
}

/* Characters, not bytes: records print valid UTF-8. */
static unsigned width_of(const char *text)
{
	unsigned width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static void put_cell(const struct record_screen *s, enum record_field f, const struct row *row,
		     size_t i, bool last)
{
	const char *text = row->at[i];
	const char *colour = !s->colour ? NULL : row->header ? "1" : colour_of(f, text);
	unsigned width = width_of(text);

	printf(colour ? "\033[%sm%s\033[0m" : "%.0s%s", colour ? colour : "", text);
	if (!last)
		printf("%*s", (int)(width < s->width[i] ? s->width[i] - width + 1 : 1), "");
}

/* Is the column after the one that ends at `at` on the next line? */
static bool folds(const struct record_table *t, size_t next, unsigned at)
{
	return next < t->columns.count && at + 1 + t->screen->width[next] > t->screen->columns;
}

static void put_row(const struct record_table *t, const struct row *row)
{
	unsigned at = 0;

	for (size_t i = 0; i < t->columns.count; i++) {
		bool last = i + 1 == t->columns.count, fold;

		at += t->screen->width[i];
		fold = folds(t, i + 1, at);
		put_cell(t->screen, t->columns.at[i], row, i, last || fold);
		at++;
		if (!fold)
			continue;
		printf("\n%*s", FOLD_INDENT, "");
		at = FOLD_INDENT;
	}
	putchar('\n');
}

static void put_screen_header(struct record_table *t)
{
	char names[RECORD_FIELDS][RECORD_NAME_MAX];
	struct row row = { .header = true };

	if (!t->header_due)
		return;
	t->header_due = false;
	for (size_t i = 0; i < t->columns.count; i++)
		row.at[i] = record_field_heading(t->columns.at[i], names[i]);
	put_row(t, &row);
}

static void see_width(struct record_screen *s, size_t i, unsigned width)
{
	if (!s->settled && width > s->width[i])
		s->width[i] = width;
}

static void settle(struct record_table *t)
{
	struct record_screen *s = t->screen;
	const char *p = s->held;
	struct row row = { .header = false };

	if (!s->settled && t->header_due)
		for (size_t i = 0; i < t->columns.count; i++)
			see_width(s, i, (unsigned)strlen(record_field_name(t->columns.at[i])));
	s->settled = true;
	put_screen_header(t);
	for (unsigned n = 0; n < s->rows; n++) {
		for (size_t i = 0; i < t->columns.count; i++, p += strlen(p) + 1)
			row.at[i] = p;
		put_row(t, &row);
	}
	s->rows = 0;
	s->used = 0;
}

/* Keep the columns, each terminated by \0, until the widths are known. */
static bool hold(struct record_screen *s, const char *columns, size_t size)
{
	char *grown;

	if (s->used + size > s->room) {
		grown = realloc(s->held, 2 * (s->used + size));
		if (!grown)
			return false;
		s->held = grown;
		s->room = 2 * (s->used + size);
	}
	memcpy(s->held + s->used, columns, size);
	s->used += size;
	s->rows++;
	return true;
}

static void put_on_screen(struct record_table *t, const struct record *r)
{
	struct record_screen *s = t->screen;
	char text[RECORD_LINE_MAX];
	struct row row = { .header = false };
	size_t used = 0;

	for (size_t i = 0; i < t->columns.count; i++) {
		row.at[i] = text + used;
		used += record_print_column(r, t->columns.at[i], text + used, sizeof(text) - used);
		see_width(s, i, width_of(row.at[i]));
	}
	if (!s->settled && s->rows < HELD_MAX && hold(s, text, used))
		return;
	settle(t);
	put_row(t, &row);
}

/* ---- both ---- */

void record_table_put(struct record_table *t, const struct record *r)
{
	char buf[RECORD_LINE_MAX];

	if (t->json) {
		fwrite(buf, 1, record_print_json(r, buf), stdout);
		return;
	}
	if (t->screen) {
		put_on_screen(t, r);
		return;
	}
	if (t->header_due)
		put_header(t);
	t->header_due = false;
	fwrite(buf, 1, record_print_padded(r, &t->columns, buf), stdout);
}

void record_table_flush(struct record_table *t)
{
	if (t->screen && t->screen->rows)
		settle(t);
	fflush(stdout);
}

void record_table_end(struct record_table *t)
{
	record_table_flush(t);
	if (t->screen)
		free(t->screen->held);
	free(t->screen);
	t->screen = NULL;
}
