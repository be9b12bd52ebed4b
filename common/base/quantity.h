/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quantity - numbers that a user types: counts, durations, sizes, marks.
 *
 * Every parser takes the whole string or nothing, checks its bounds, and says in *why what would be
 * right (detail only; the caller knows which option it was). All return 0, or -1 with *why filled.
 */
#ifndef TPROXY_BASE_QUANTITY_H
#define TPROXY_BASE_QUANTITY_H

#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A packet mark under its mask: only the bits of mask are ours. value has no bits outside mask. */
struct mark {
	uint32_t value, mask;
};

/* A decimal or 0x-hexadecimal number from min to max, inclusive. */
int quantity_number(const char *text, uint64_t min, uint64_t max, uint64_t *out,
		    struct failure *why);

/* `500ms`, `30s`, `5m`, `1h`, `2h5m`; a bare number is seconds. In milliseconds, at most 366
 * days. */
int quantity_duration(const char *text, uint64_t *ms, struct failure *why);

/* `VALUE[/MASK]`, hexadecimal or decimal; without a mask all 32 bits count. */
int quantity_mark(const char *text, struct mark *out, struct failure *why);

/* Longest text that quantity_format_mark() writes, with its \0. */
#define QUANTITY_MARK_MAX 24

/* `0x1/0xff`; `0x1` when the mask is all bits. Returns buf. */
const char *quantity_format_mark(const struct mark *mark, char buf[QUANTITY_MARK_MAX]);

#endif
