/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * One pass over the line with a cursor that never moves beyond its end. A function that has parsed
 * what it looked for returns true and leaves the cursor behind it; false ends all parsing.
 */
#include "base/record_parse.h"

#include "base/record_fields.h"
#include <assert.h>
#include <string.h>
#include <time.h>

#define SKIP_DEPTH 8 /* of the values of unknown fields */

struct cursor {
	const char *at, *end;
	struct record_texts *texts;
};

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
		c->at++;
}

static bool take(struct cursor *c, char wanted)
{
	skip_blanks(c);
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
		return false;
	c->at += length;
	return true;
}

/* ---- strings ---- */

static bool keep(struct cursor *c, char byte)
{
	if (c->texts->used == sizeof(c->texts->at))
		return false;
	c->texts->at[c->texts->used++] = byte;
	return true;
}

static bool keep_character(struct cursor *c, uint32_t u)
{
	if (u < 0x80)
		return keep(c, (char)u);
	if (u < 0x800)
		return keep(c, (char)(0xc0 | u >> 6)) && keep(c, (char)(0x80 | (u & 0x3f)));
	return keep(c, (char)(0xe0 | u >> 12)) && keep(c, (char)(0x80 | (u >> 6 & 0x3f))) &&
	       keep(c, (char)(0x80 | (u & 0x3f)));
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* \uXXXX. We never write surrogates: each half becomes U+FFFD. A text has no NUL. */
static bool take_code(struct cursor *c)
{
	uint32_t u = 0;

	for (int i = 0; i < 4; i++, c->at++) {
		int digit = c->at < c->end ? hex_digit(*c->at) : -1;

		if (digit < 0)
			return false;
		u = u << 4 | (uint32_t)digit;
	}
	return keep_character(c, !u || (u >= 0xd800 && u < 0xe000) ? 0xfffd : u);
}

static bool take_escape(struct cursor *c)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *known;

	if (c->at == c->end)
		return false;
	if (*c->at == 'u') {
		c->at++;
		return take_code(c);
	}
	known = *c->at ? strchr(from, *c->at) : NULL;
	c->at++;
	return known && keep(c, to[known - from]);
}

/* A string; *text is the unescaped, terminated string in the storage for texts. */
static bool take_string(struct cursor *c, const char **text)
{
	*text = c->texts->at + c->texts->used;
	if (!take(c, '"'))
		return false;
	while (c->at < c->end && *c->at != '"') {
		char byte = *c->at++;

		if ((unsigned char)byte < ' ' || !(byte == '\\' ? take_escape(c) : keep(c, byte)))
			return false;
	}
	return take(c, '"') && keep(c, '\0');
}

/* ---- numbers ---- */

/* One or more digits, at most as many as fit. */
static bool take_number(struct cursor *c, uint64_t *number)
{
	const char *first;

	skip_blanks(c);
	*number = 0;
	for (first = c->at; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
		if (__builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(*c->at - '0'), number))
			return false;
	return c->at > first;
}

/* Milliseconds with up to three decimals, as microseconds. */
static bool take_duration(struct cursor *c, uint64_t *microseconds)
{
	unsigned scale = 1000;

	if (!take_number(c, microseconds) ||
	    __builtin_mul_overflow(*microseconds, 1000, microseconds))
		return false;
	if (c->at == c->end || *c->at != '.')
		return true;
	for (c->at++; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
		scale /= 10;
		if (__builtin_add_overflow(*microseconds, scale * (unsigned)(*c->at - '0'),
					   microseconds))
			return false;
	}
	return true;
}

/* `0x1f`, the whole text. */
static bool read_hex(const char *text, uint64_t *number)
{
	if (text[0] != '0' || text[1] != 'x' || !text[2] || strlen(text) > 2 + 16)
		return false;
	*number = 0;
	for (text += 2; *text; text++) {
		if (hex_digit(*text) < 0)
			return false;
		*number = *number << 4 | (uint64_t)hex_digit(*text);
	}
	return true;
}

/* RFC 3339 in the form that we write: UTC, six decimals. */
static bool read_time(const char *text, uint64_t *microseconds)
{
	struct tm t = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S.", &t);
	uint64_t decimals = 0;
	time_t seconds;

	if (!rest || strlen(rest) != 7 || rest[6] != 'Z')
		return false;
	for (int i = 0; i < 6; i++) {
		if (rest[i] < '0' || rest[i] > '9')
			return false;
		decimals = decimals * 10 + (uint64_t)(rest[i] - '0');
	}
	seconds = timegm(&t);
	if (seconds < 0)
		return false;
	*microseconds = (uint64_t)seconds * 1000000 + decimals;
	return true;
}

/* ---- values ---- */

/* {"addr":"192.0.2.1","port":80}; the address may be `*`. */
static bool take_endpoint(struct cursor *c, struct endpoint *e)
{
	const char *key, *address;
	struct failure why;
	uint64_t port;

	if (!take(c, '{') || !take_string(c, &key) || strcmp(key, "addr") != 0 || !take(c, ':') ||
	    !take_string(c, &address) || !take(c, ',') || !take_string(c, &key) ||
	    strcmp(key, "port") != 0 || !take(c, ':') || !take_number(c, &port) || !take(c, '}') ||
	    port > UINT16_MAX)
		return false;
	*e = (struct endpoint){ 0 };
	if (strcmp(address, "*") != 0 && endpoint_parse_address(address, e, &why) < 0)
		return false;
	e->port = (uint16_t)port;
	return true;
}

static bool take_yesno(struct cursor *c, const char **text)
{
	skip_blanks(c);
	*text = take_word(c, "true") ? "yes" : take_word(c, "false") ? "no" : NULL;
	return *text;
}

static bool take_value(struct cursor *c, enum record_kind kind, union record_value *v)
{
	const char *text;

	switch (kind) {
	case KIND_TEXT:
	case KIND_PROSE:
		return take_string(c, &v->text);
	case KIND_NUMBER:
		return take_number(c, &v->number);
	case KIND_ENDPOINT:
		return take_endpoint(c, &v->endpoint);
	case KIND_MARK:
		return take_string(c, &text) && quantity_mark(text, &v->mark, NULL) == 0;
	case KIND_COOKIE:
		return take_string(c, &text) && read_hex(text, &v->number);
	case KIND_TIME:
		return take_string(c, &text) && read_time(text, &v->number);
	case KIND_DURATION:
		return take_duration(c, &v->number);
	case KIND_YESNO:
		return take_yesno(c, &v->text);
	}
	return false;
}

/* A number, true, false or null as the value of an unknown field. */
static bool skip_word(struct cursor *c)
{
	const char *first = c->at;

	while (c->at < c->end && (*c->at == '-' || *c->at == '+' || *c->at == '.' ||
				  (*c->at >= '0' && *c->at <= '9') ||
				  ((*c->at | 0x20) >= 'a' && (*c->at | 0x20) <= 'z')))
		c->at++;
	return c->at > first;
}

static bool skip_value(struct cursor *c, int depth);

/* The members of an object or elements of an array, after its opening bracket. */
static bool skip_members(struct cursor *c, char close, int depth)
{
	const char *key;

	if (take(c, close))
		return true;
	do {
		if (close == '}' && !(take_string(c, &key) && take(c, ':')))
			return false;
		if (!skip_value(c, depth))
			return false;
	} while (take(c, ','));
	return take(c, close);
}

static bool skip_value(struct cursor *c, int depth)
{
	const char *text;

	if (depth == SKIP_DEPTH)
		return false;
	if (take(c, '{'))
		return skip_members(c, '}', depth + 1);
	if (take(c, '['))
		return skip_members(c, ']', depth + 1);
	return c->at < c->end && *c->at == '"' ? take_string(c, &text) : skip_word(c);
}

/* ---- the record ---- */

/* An empty text is the same as an absent one. */
static bool is_empty(enum record_kind kind, const union record_value *v)
{
	return (kind == KIND_TEXT || kind == KIND_PROSE) && !*v->text;
}

static bool take_field(struct cursor *c, struct record *r)
{
	size_t used = c->texts->used;
	const char *name;
	bool taken;
	int f;

	if (!take_string(c, &name) || !take(c, ':'))
		return false;
	f = record_field_find(name, strlen(name));
	c->texts->used = used; /* the name is no longer needed */
	if (f < 0) {
		taken = skip_value(c, 0);
		c->texts->used = used;
		return taken;
	}
	if (r->present & RECORD_BIT(f) || !take_value(c, record_fields[f].kind, &r->value[f]))
		return false;
	if (!is_empty(record_fields[f].kind, &r->value[f]))
		r->present |= RECORD_BIT(f);
	return true;
}

static bool take_record(struct cursor *c, struct record *r)
{
	if (!take(c, '{'))
		return false;
	do {
		if (!take_field(c, r))
			return false;
	} while (take(c, ','));
	if (!take(c, '}'))
		return false;
	skip_blanks(c);
	return c->at == c->end;
}

int record_parse_json(const char *line, size_t length, struct record *r, struct record_texts *texts,
		      struct failure *why)
{
	struct cursor c = { .at = line, .end = line + length, .texts = texts };

	r->present = 0;
	texts->used = 0;
	if (!take_record(&c, r))
		return report_refuse(why, "byte %zu of a record is unexpected",
				     (size_t)(c.at - line));
	if (record_get_number(r, RECORD_V) != RECORD_SCHEMA)
		return report_refuse(why, "a record of version %llu; only version %d is supported",
				     (unsigned long long)record_get_number(r, RECORD_V),
				     RECORD_SCHEMA);
	if (!record_get_text(r, RECORD_TYPE))
		return report_refuse(why, "a record without type");
	return 0;
}
