/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spec_text - a specification as text: canonical, as options, and in what it differs from another.
 *
 * The canonical text is kept in the kernel, in our own nft table, and read back by later versions
 * of this program: `v=1 name=default family=46 ...`, one word for each value of a field. Long lists
 * are in named sets there; the text holds their length and a digest, so that two specifications are
 * equal exactly when their texts are.
 */
#ifndef TPROXY_INTERCEPT_SPEC_TEXT_H
#define TPROXY_INTERCEPT_SPEC_TEXT_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stddef.h>

/* The canonical text, always ended. Returns buf. */
const char *spec_text(const struct intercept *spec, char buf[INTERCEPT_TEXT_MAX]);

/*
 * Read a canonical text, of this version or an older one, whatever the order of its words. Lists
 * stay empty; spec->digest tells what they should hold. Returns 0, or -1 with *why (a text of a
 * newer version says so). *spec is to be freed in any case. Takes any bytes: the text comes from
 * the kernel, where others may write too.
 */
int spec_text_parse(const char *text, struct intercept *spec, struct failure *why);

/*
 * The options that make up this specification, without those that are as by default: what to type
 * after `tproxy-setup up`, quoted for sh. The lists must be there; "" if not all fits. Returns buf.
 */
const char *spec_text_options(const struct intercept *spec, char *buf, size_t size);

/* Longest command that fixes something, and its end. */
#define SPEC_TEXT_COMMAND_MAX 512

/* `tproxy-setup up` with the options that make up the specification; empty if they are too long.
 * Returns buf. */
const char *spec_text_up_command(const struct intercept *spec, char buf[SPEC_TEXT_COMMAND_MAX]);

/* In what `now` differs from `was`, with values: `port 80 (was 443), table 101 (was 100)`. Always
 * ended. Returns how many there are. */
unsigned spec_text_diff(const struct intercept *was, const struct intercept *now, char *buf,
			size_t size);

#endif
