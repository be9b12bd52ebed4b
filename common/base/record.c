/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A record has a value per field; a line is built by printing the fields one after the other into a
 * bounded buffer. Text is columns separated by blanks, so every byte of a value that would end a
 * column (or a line) is written as \ooo, like in /proc; only prose keeps its blanks and
 * backslashes, and ends with a tab if another column follows. JSON takes any bytes: invalid UTF-8
 * becomes U+FFFD.
 */
#include "base/record.h"

#include "base/clock.h"
#include "base/plain.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void record_begin(struct record *r, const char *type)
{
	r->present = 0;
	record_number(r, RECORD_V, RECORD_SCHEMA);
	record_text(r, RECORD_TYPE, type);
}

static void set_present(struct record *r, enum record_field f, bool present)
{
	if (present)
		r->present |= 1ULL << f;
	else
		r->present &= ~(1ULL << f);
}

void record_text(struct record *r, enum record_field f, const char *text)
{
	assert(record_fields[f].kind == KIND_TEXT || record_fields[f].kind == KIND_PROSE ||
	       record_fields[f].kind == KIND_YESNO);
	r->value[f].text = text;
	set_present(r, f, text && *text);
}

void record_number(struct record *r, enum record_field f, uint64_t number)
{
	assert(record_fields[f].kind == KIND_NUMBER || record_fields[f].kind == KIND_COOKIE);
	r->value[f].number = number;
	set_present(r, f, true);
}

void record_endpoint(struct record *r, enum record_field f, const struct endpoint *e)
{
	assert(record_fields[f].kind == KIND_ENDPOINT);
	if (e)
		r->value[f].endpoint = *e;
	set_present(r, f, e && endpoint_is_set(e));
}

void record_any_endpoint(struct record *r, enum record_field f, uint16_t port)
{
	assert(record_fields[f].kind == KIND_ENDPOINT);
	r->value[f].endpoint = (struct endpoint){ .port = port };
	set_present(r, f, true);
}

void record_mark(struct record *r, enum record_field f, const struct mark *mark)
{
	assert(record_fields[f].kind == KIND_MARK);
	if (mark)
		r->value[f].mark = *mark;
	set_present(r, f, mark != NULL);
}

void record_time(struct record *r, uint64_t microseconds)
{
	r->value[RECORD_TIME].number = microseconds;
	set_present(r, RECORD_TIME, true);
}

void record_time_now(struct record *r)
{
	record_time(r, clock_wall_us());
}

void record_microseconds(struct record *r, enum record_field f, uint64_t microseconds)
{
	assert(record_fields[f].kind == KIND_DURATION);
	r->value[f].number = microseconds;
	set_present(r, f, true);
}

void record_duration(struct record *r, uint64_t microseconds)
{
	record_microseconds(r, RECORD_DURATION_MS, microseconds);
}

static bool is_present(const struct record *r, enum record_field f)
{
	return r->present >> f & 1;
}

static bool has_column(const struct record_columns *columns, int f)
{
	for (size_t i = 0; i < columns->count; i++)
		if ((int)columns->at[i] == f)
			return true;
	return false;
}

/* `'fd' is not a column here; the columns are proto, state, ...` */
static int refuse_column(const char *name, int length, uint64_t known, struct failure *why)
{
	char list[sizeof(why->detail)];

	if (!known)
		return report_refuse(why, "'%.*s' is not a column; tproxy-tools(7) lists them",
				     length, name);
	return report_refuse(why, "'%.*s' is not a column here; there are %s", length, name,
			     record_fields_list(known, list, sizeof(list)));
}

int record_parse_columns(const char *text, struct record_columns *columns, struct failure *why)
{
	const char *p = *text == '+' ? text + 1 : text;

	if (*text != '+')
		columns->count = 0;
	for (;; p++) {
		size_t length = strcspn(p, ",");
		int f = record_field_find(p, length);

		if (f < 0 || (columns->known && !(columns->known >> f & 1)))
			return refuse_column(p, (int)length, columns->known, why);
		if (!has_column(columns, f))
			columns->at[columns->count++] = (enum record_field)f;
		p += length;
		if (!*p)
			return 0;
	}
}

/* A bounded line under construction. What does not fit is cut. */
struct line {
	char *at;
	size_t used, room;
};

static void put_byte(struct line *l, char c)
{
	if (l->used < l->room)
		l->at[l->used++] = c;
}

static void put_text(struct line *l, const char *text)
{
	while (*text)
		put_byte(l, *text++);
}

static void put_format(struct line *l, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void put_format(struct line *l, const char *format, ...)
{
	char text[ENDPOINT_TEXT_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	put_text(l, text);
}

static void put_time(struct line *l, uint64_t microseconds)
{
	time_t seconds = (time_t)(microseconds / 1000000);
	struct tm t;

	/* strftime(3) would check /etc/localtime each time. */
	gmtime_r(&seconds, &t);
	put_format(l, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", t.tm_year + 1900, t.tm_mon + 1,
		   t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (unsigned)(microseconds % 1000000));
}

/* (Without printf(3): some lists have several hundred thousand sockets.) */
static void put_decimal(struct line *l, uint64_t n)
{
	char text[24], *at = text + sizeof(text);

	*--at = '\0';
	do
		*--at = (char)('0' + n % 10);
	while (n /= 10);
	put_text(l, at);
}

static void put_number(struct line *l, enum record_kind kind, uint64_t n)
{
	if (kind == KIND_DURATION)
		put_format(l, "%" PRIu64 ".%03u", n / 1000, (unsigned)(n % 1000));
	else if (kind == KIND_COOKIE)
		put_format(l, "0x%" PRIx64, n);
	else
		put_decimal(l, n);
}

/* Can the byte at p, or the sequence of that length there, appear in a column unchanged? In prose a
 * backslash can: some prose is commands for the user to copy. */
static bool is_plain(const unsigned char *p, size_t length, bool prose)
{
	if (*p == ' ' || *p == '\\')
		return prose;
	return length && plain_may_show(p, length);
}

/* A value as one column, with \ooo for bytes that would split it, or that a terminal would obey. */
static void put_column(struct line *l, const char *text, bool prose)
{
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		size_t length = plain_length(p);
		bool plain = is_plain(p, length, prose);

		for (length = length ? length : 1; length; length--, p++)
			if (plain)
				put_byte(l, (char)*p);
			else
				put_format(l, "\\%03o", *p);
	}
}

/* A record distinguishes the any address of IPv4 from that of both families. */
static void put_endpoint(struct line *l, const struct endpoint *e)
{
	char buf[ENDPOINT_TEXT_MAX];

	if (e->family == AF_INET6 || (e->family == AF_INET && e->addr.v4.s_addr)) {
		put_column(l, endpoint_format(e, buf), false); /* %interface may be any text */
		return;
	}
	put_text(l, e->family == AF_INET ? "0.0.0.0:" : "*:");
	put_decimal(l, e->port);
}

static void put_text_value(struct line *l, const struct record *r, enum record_field f)
{
	const union record_value *v = &r->value[f];
	enum record_kind kind = record_fields[f].kind;
	char buf[QUANTITY_MARK_MAX];

	if (!is_present(r, f))
		put_byte(l, '-');
	else if (kind == KIND_ENDPOINT)
		put_endpoint(l, &v->endpoint);
	else if (kind == KIND_MARK)
		put_text(l, quantity_format_mark(&v->mark, buf));
	else if (kind == KIND_TIME)
		put_time(l, v->number);
	else if (kind == KIND_NUMBER || kind == KIND_COOKIE || kind == KIND_DURATION)
		put_number(l, kind, v->number);
	else
		put_column(l, v->text, kind == KIND_PROSE);
}

static size_t end_line(struct line *l)
{
	l->at[l->used++] = '\n';
	return l->used;
}

static struct line new_line(char *buf)
{
	return (struct line){ .at = buf, .room = RECORD_LINE_MAX - 1 };
}

/* Separator between one column and the next. */
static char separator(enum record_field f)
{
	return record_fields[f].kind == KIND_PROSE ? '\t' : ' ';
}

size_t record_print_text(const struct record *r, const struct record_columns *columns, char *buf)
{
	struct line l = new_line(buf);

	for (size_t i = 0; i < columns->count; i++) {
		if (i)
			put_byte(&l, separator(columns->at[i - 1]));
		put_text_value(&l, r, columns->at[i]);
	}
	return end_line(&l);
}

/* The \u form of a control character, which has at most three bytes. */
static unsigned code_point(const unsigned char *p, size_t length)
{
	if (length == 1)
		return *p;
	if (length == 2)
		return (p[0] & 0x1fU) << 6 | (p[1] & 0x3fU);
	return (p[0] & 0xfU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);
}

/* A JSON string. If it must be cut, it is cut between characters and still terminated: `reserve`
 * bytes are kept for the quote and the closing brace. */
static void put_json_string(struct line *l, const char *text)
{
	static const size_t reserve = 16;
	const unsigned char *p = (const unsigned char *)text;

	put_byte(l, '"');
	while (*p && l->used + reserve < l->room) {
		size_t length = plain_length(p);

		if (!length) {
			put_text(l, "\\ufffd");
			p++;
		} else if (*p == '"' || *p == '\\') {
			put_byte(l, '\\');
			put_byte(l, (char)*p++);
		} else if (!plain_may_show(p, length)) {
			put_format(l, "\\u%04x", code_point(p, length));
			p += length;
		} else {
			while (length--)
				put_byte(l, (char)*p++);
		}
	}
	put_byte(l, '"');
}

static void put_json_endpoint(struct line *l, const struct endpoint *e)
{
	char buf[ENDPOINT_TEXT_MAX];

	put_text(l, "{\"addr\":");
	put_json_string(l, endpoint_is_set(e) ? endpoint_format_address(e, buf) : "*");
	put_format(l, ",\"port\":%u}", e->port);
}

static void put_json_value(struct line *l, const struct record *r, enum record_field f)
{
	const union record_value *v = &r->value[f];
	char buf[QUANTITY_MARK_MAX];

	switch (record_fields[f].kind) {
	case KIND_ENDPOINT:
		put_json_endpoint(l, &v->endpoint);
		break;
	case KIND_MARK:
		put_json_string(l, quantity_format_mark(&v->mark, buf));
		break;
	case KIND_TIME:
		put_byte(l, '"');
		put_time(l, v->number);
		put_byte(l, '"');
		break;
	case KIND_COOKIE:
		put_format(l, "\"0x%" PRIx64 "\"", v->number);
		break;
	case KIND_NUMBER:
	case KIND_DURATION:
		put_number(l, record_fields[f].kind, v->number);
		break;
	case KIND_YESNO:
		put_text(l, strcmp(v->text, "yes") ? "false" : "true");
		break;
	case KIND_TEXT:
	case KIND_PROSE:
		put_json_string(l, v->text);
		break;
	}
}

/* Absent stays absent; a flag that is neither yes nor no is unknown, and therefore absent too. */
static bool json_has(const struct record *r, enum record_field f)
{
	if (!is_present(r, f))
		return false;
	return record_fields[f].kind != KIND_YESNO || !strcmp(r->value[f].text, "yes") ||
	       !strcmp(r->value[f].text, "no");
}

/* The longest value of a field that cannot be cut: an endpoint with its key. Fields after a string
 * that filled the line are left out completely, so the line remains valid JSON. */
#define JSON_FIELD_MAX 160

size_t record_print_json(const struct record *r, char *buf)
{
	struct line l = new_line(buf);
	char separator = '{';

	for (int f = 0; f < RECORD_FIELDS; f++) {
		if (!json_has(r, (enum record_field)f) || l.used + JSON_FIELD_MAX > l.room)
			continue;
		put_byte(&l, separator);
		put_format(&l, "\"%s\":", record_fields[f].name);
		put_json_value(&l, r, (enum record_field)f);
		separator = ',';
	}
	put_byte(&l, '}');
	return end_line(&l);
}

size_t record_print_padded(const struct record *r, const struct record_columns *columns, char *buf)
{
	struct line l = new_line(buf);

	for (size_t i = 0; i < columns->count; i++) {
		bool last = i + 1 == columns->count;
		size_t start = l.used;

		put_text_value(&l, r, columns->at[i]);
		if (last)
			break;
		while (l.used - start < record_fields[columns->at[i]].width)
			put_byte(&l, ' ');
		put_byte(&l, separator(columns->at[i]));
	}
	return end_line(&l);
}

size_t record_print_column(const struct record *r, enum record_field f, char *buf, size_t room)
{
	struct line l = { .at = buf, .room = room - 1 };

	put_text_value(&l, r, f);
	buf[l.used] = '\0';
	return l.used + 1;
}

const char *record_field_name(enum record_field f)
{
	return record_fields[f].name;
}

unsigned record_field_width(enum record_field f)
{
	return record_fields[f].width;
}

const char *record_field_heading(enum record_field f, char buf[RECORD_NAME_MAX])
{
	char *to = buf;

	for (const char *p = record_field_name(f); *p; p++)
		*to++ = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
	*to = '\0';
	return buf;
}

static const union record_value *get(const struct record *r, enum record_field f)
{
	return r->present & RECORD_BIT(f) ? &r->value[f] : NULL;
}

const char *record_get_text(const struct record *r, enum record_field f)
{
	const union record_value *v = get(r, f);

	assert(record_fields[f].kind == KIND_TEXT || record_fields[f].kind == KIND_PROSE ||
	       record_fields[f].kind == KIND_YESNO);
	return v ? v->text : NULL;
}

uint64_t record_get_number(const struct record *r, enum record_field f)
{
	const union record_value *v = get(r, f);

	assert(record_fields[f].kind == KIND_NUMBER || record_fields[f].kind == KIND_COOKIE ||
	       record_fields[f].kind == KIND_DURATION || record_fields[f].kind == KIND_TIME);
	return v ? v->number : 0;
}
