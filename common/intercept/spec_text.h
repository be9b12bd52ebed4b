/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spec_text - a specification as text: canonical, as options, and as differences from another one.
 *
 * The canonical text is kept in the kernel, in our own nft table, and later versions of this
 * program read it back: `v=1 name=default family=46 ...`, one word for each value of a field. Long
 * lists are in named sets there; the text holds their length and a digest, so that two
 * specifications are equal exactly when their texts are.
 */
#ifndef TPROXY_INTERCEPT_SPEC_TEXT_H
#define TPROXY_INTERCEPT_SPEC_TEXT_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stddef.h>

/* The canonical text, always terminated. Returns buf. */
const char *spec_text(const struct intercept *spec, char buf[INTERCEPT_TEXT_MAX]);

/*
 * Parse a canonical text, of this version or an older one, with its words in any order. Lists stay
 * empty; spec->digest tells what they should contain. Returns 0, or -1 with *why (which says so if
 * the text is from a newer version). The caller frees *spec in any case. Takes any bytes: the text
 * comes from the kernel, where others may write too.
 */
int spec_text_parse(const char *text, struct intercept *spec, struct failure *why);

/*
 * The options that make up this specification, without defaults: what to type after `tproxy-setup
 * up`, quoted for sh. The lists must be filled; "" if not everything fits. Returns buf.
 */
const char *spec_text_options(const struct intercept *spec, char *buf, size_t size);

/* Longest command that fixes something, with its \0. */
#define SPEC_TEXT_COMMAND_MAX 512

/* `tproxy-setup up` with the options that make up the specification; empty if it is too long.
 * Returns buf. */
const char *spec_text_up_command(const struct intercept *spec, char buf[SPEC_TEXT_COMMAND_MAX]);

/* How `now` differs from `was`, with values: `port 80 (was 443), table 101 (was 100)`. Always
 * terminated. Returns the number of differences. */
unsigned spec_text_diff(const struct intercept *was, const struct intercept *now, char *buf,
			size_t size);

#endif
