/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain - which bytes of a text may be shown to a person, and which would be obeyed by the
 * terminal.
 *
 * Names of processes and interfaces, comments of rules and bytes from the network are other
 * people's words. Well-formed UTF-8 is shown, but for control characters: C0, DEL, C1 (CSI is
 * U+009B), and what turns the direction of writing (U+200E, U+200F, U+202A to U+202E, U+2066 to
 * U+2069).
 */
#ifndef TPROXY_BASE_PLAIN_H
#define TPROXY_BASE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed UTF-8 sequence at p (Unicode 15, table 3-7), 0 when there is none. */
size_t plain_length(const unsigned char *p);

/* May the well-formed sequence at p be shown as it is? */
bool plain_may_show(const unsigned char *p, size_t length);

/* Copy text into buf (of `room` bytes, \0 included, at least 1) with \ooo for each byte that may
 * not be shown; cut between characters if it does not fit. Returns the length. */
size_t plain_copy(char *buf, size_t room, const char *text);

#endif
