/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shell - commands that are printed for a person, or for sh(1), to run.
 *
 * Such a line is copied into a root shell, or piped into one. A word in it that is not ours (the
 * name of an interface, a chain, a control group) stays one word whatever it holds, and says the
 * same on a terminal as in a pipe: bytes that may not be shown are written by printf(1). Half a
 * command is another command, so one that does not fit, or that cannot be written, is empty: whole
 * or not at all.
 */
#ifndef TPROXY_BASE_SHELL_H
#define TPROXY_BASE_SHELL_H

#include <stdbool.h>
#include <stddef.h>

/* A command that grows in the caller's buffer. Plain data; the buffer is always a string. */
struct shell_command {
	char *at;
	size_t size, used;
	bool failed; /* does not fit or cannot be written: empty from now on */
};

/* A new, empty command in buf (of size bytes, at least 1). */
struct shell_command shell_command(char *buf, size_t size);

/* Add a text of our own as it is, blanks and operators included. Numbers, addresses and literals
 * only: what anybody else may have chosen is a word. */
void shell_add(struct shell_command *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Add a blank, unless it is the first, and a word quoted as shell_quote() does. */
void shell_word(struct shell_command *c, const char *word);

/* It turns out that it cannot be written: empty from now on. */
void shell_give_up(struct shell_command *c);

/* Long enough for any file name or interface name that is quoted at its worst, and \0. */
#define SHELL_WORD_MAX 1280

/*
 * Write the text as one word of POSIX sh into buf: as it is if every shell reads it so; in single
 * quotes; or, with bytes that may not be shown (base/plain.h), as "$(printf '...')". Returns its
 * length, or 0 and an empty buf when it does not fit in `room` with its \0, or when it cannot be
 * written: sh takes the newlines from the end of $().
 */
size_t shell_quote(const char *text, char *buf, size_t room);

#endif
