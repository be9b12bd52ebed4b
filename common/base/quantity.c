/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/quantity.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DURATION_MAX_MS (366ULL * 24 * 3600 * 1000)

/* Parse the digits of a number at *text; advances *text. false: no digit, or more than 64 bits. */
static bool read_digits(const char **text, unsigned base, uint64_t *out)
{
	const char *p = *text;
	uint64_t n = 0;

	for (; isxdigit((unsigned char)*p); p++) {
		unsigned digit = isdigit((unsigned char)*p) ? (unsigned)(*p - '0')
							    : (unsigned)(tolower(*p) - 'a' + 10);
		if (digit >= base)
			break;
		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
			return false;
	}
	if (p == *text)
		return false;
	*text = p;
	*out = n;
	return true;
}

static bool read_number(const char **text, uint64_t *out)
{
	if ((*text)[0] == '0' && ((*text)[1] == 'x' || (*text)[1] == 'X')) {
		*text += 2;
		return read_digits(text, 16, out);
	}
	return read_digits(text, 10, out);
}

int quantity_number(const char *text, uint64_t min, uint64_t max, uint64_t *out,
		    struct failure *why)
{
	const char *p = text;
	uint64_t n;

	if (!read_number(&p, &n) || *p)
		return report_refuse(why, "not a number (decimal or 0x...)");
	if (n < min || n > max)
		return report_refuse(why, "must be from %" PRIu64 " to %" PRIu64, min, max);
	*out = n;
	return 0;
}

static const struct {
	const char *suffix;
	uint64_t ms;
} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };

#define UNITS (sizeof(units) / sizeof(*units))

/* The unit at *text (judged by its letters), or NULL; advances past it. */
static const uint64_t *read_unit(const char **text)
{
	size_t length = strspn(*text, "dhms");

	for (size_t i = 0; i < UNITS; i++) {
		if (strlen(units[i].suffix) != length ||
		    memcmp(*text, units[i].suffix, length) != 0)
			continue;
		*text += length;
		return &units[i].ms;
	}
	return NULL;
}

int quantity_duration(const char *text, uint64_t *ms, struct failure *why)
{
	static const char *const form = "not a duration like 500ms, 30s, 5m, 1h";
	uint64_t total = 0, last = UINT64_MAX, n;
	const char *p = text;

	do {
		const uint64_t *unit;

		if (!read_digits(&p, 10, &n))
			return report_refuse(why, "%s", form);
		if (!*p && p != text && last == UINT64_MAX) {
			unit = &units[1].ms; /* a bare number */
		} else if (!(unit = read_unit(&p)) || *unit >= last) {
			return report_refuse(why, "%s", form);
		}
		last = *unit;
		if (__builtin_mul_overflow(n, *unit, &n) ||
		    __builtin_add_overflow(total, n, &total) || total > DURATION_MAX_MS)
			return report_refuse(why, "longer than 366 days");
	} while (*p);
	*ms = total;
	return 0;
}

int quantity_mark(const char *text, struct mark *out, struct failure *why)
{
	uint64_t value, mask = UINT32_MAX;
	const char *p = text;

	if (!read_number(&p, &value) || (*p == '/' && (p++, !read_number(&p, &mask))) || *p)
		return report_refuse(why, "not a mark like 0x1/0xff");
	if (value > UINT32_MAX || mask > UINT32_MAX)
		return report_refuse(why, "has more than 32 bits");
	if (!mask)
		return report_refuse(why, "a mask of 0 leaves no bit to mark with");
	if (value & ~mask)
		return report_refuse(why, "value has bits outside its mask");
	*out = (struct mark){ (uint32_t)value, (uint32_t)mask };
	return 0;
}

const char *quantity_format_mark(const struct mark *mark, char buf[QUANTITY_MARK_MAX])
{
	if (mark->mask == UINT32_MAX)
		snprintf(buf, QUANTITY_MARK_MAX, "0x%" PRIx32, mark->value);
	else
		snprintf(buf, QUANTITY_MARK_MAX, "0x%" PRIx32 "/0x%" PRIx32, mark->value,
			 mark->mask);
	return buf;
}
