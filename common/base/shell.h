/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shell - commands that are printed for a person, or for sh(1), to run.
 *
 * Such a line is pasted or piped into a root shell. A word in it that others chose (the name of an
 * interface, a chain, a control group) stays one word whatever it contains, and is the same text on
 * a terminal and in a pipe: printf(1) writes the bytes that may not be shown. Half a command is a
 * different command, so a command that does not fit, or that cannot be written, is empty: all or
 * nothing.
 */
#ifndef TPROXY_BASE_SHELL_H
#define TPROXY_BASE_SHELL_H

#include <stdbool.h>
#include <stddef.h>

/* A command that grows in the caller's buffer. Plain data; the buffer is always a string. */
struct shell_command {
	char *at;
	size_t size, used;
	bool failed; /* does not fit or cannot be written: stays empty */
};

/* A new, empty command in buf (of size bytes, at least 1). */
struct shell_command shell_command(char *buf, size_t size);

/* Add a text of our own unchanged, including blanks and operators. Numbers, addresses and literals
 * only: anything that somebody else may have chosen goes through shell_word(). */
void shell_add(struct shell_command *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Add a blank, unless this is the first word, and a word quoted by shell_quote(). */
void shell_word(struct shell_command *c, const char *word);

/* The command cannot be written: it stays empty from now on. */
void shell_give_up(struct shell_command *c);

/* Enough for any file or interface name in its longest quoted form, with \0. */
#define SHELL_WORD_MAX 1280

/*
 * Write the text as one word of POSIX sh into buf: unchanged if every shell reads it that way; in
 * single quotes; or, with bytes that may not be shown (base/plain.h), as "$(printf '...')". Returns
 * its length, or 0 and an empty buf if it does not fit in `room` with its \0, or if it cannot be
 * written: sh strips newlines at the end of $().
 */
size_t shell_quote(const char *text, char *buf, size_t room);

#endif
