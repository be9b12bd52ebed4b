/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain - which bytes of a text may be shown to a person, and which ones a terminal would obey.
 *
 * Other people choose the names of processes and interfaces, the comments of rules and the bytes
 * from the network. Well-formed UTF-8 is shown except for control characters: C0, DEL, C1 (CSI is
 * U+009B), and those that change the direction of writing (U+200E, U+200F, U+202A to U+202E, U+2066
 * to U+2069).
 */
#ifndef TPROXY_BASE_PLAIN_H
#define TPROXY_BASE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed UTF-8 sequence at p (Unicode 15, table 3-7); 0 if there is none. */
size_t plain_length(const unsigned char *p);

/* May the well-formed sequence at p be shown unchanged? */
bool plain_may_show(const unsigned char *p, size_t length);

/* Copy text into buf (`room` bytes including \0, at least 1), writing \ooo for each byte that may
 * not be shown; cut between characters if it does not fit. Returns the length. */
size_t plain_copy(char *buf, size_t room, const char *text);

#endif
