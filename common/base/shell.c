/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/shell.h"

#include "base/plain.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The ways to write a text as a word, from the simplest one on. */
enum form { FORM_BARE, FORM_QUOTED, FORM_PRINTF, FORM_NONE };

/* Bytes that mean themselves everywhere in a word, in every shell (~ and =, which zsh expands at
 * the beginning of a word, and { and ^ are left out). */
static bool is_bare(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("_-+./:,@%", c));
}

static enum form form_of(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	enum form form = *p ? FORM_BARE : FORM_QUOTED;
	size_t length;

	for (; *p; p += length) {
		length = plain_length(p);
		if (!length || !plain_may_show(p, length))
			return text[strlen(text) - 1] == '\n' ? FORM_NONE : FORM_PRINTF;
		if (!is_bare(*p))
			form = FORM_QUOTED;
	}
	return form;
}

/* A bounded word under construction; used keeps counting when it is full. */
struct word {
	char *at;
	size_t used, room;
};

static void put(struct word *w, const char *text)
{
	size_t length = strlen(text);

	if (w->used + length < w->room)
		memcpy(w->at + w->used, text, length);
	w->used += length;
}

static void put_byte(struct word *w, enum form form, unsigned char c)
{
	char text[8] = { (char)c };

	if (form == FORM_QUOTED && c == '\'')
		snprintf(text, sizeof(text), "'\\''");
	else if (form == FORM_PRINTF && (!is_bare(c) || c == '%'))
		snprintf(text, sizeof(text), "\\%03o", c);
	put(w, text);
}

/* Some versions of printf(1) take a format that begins with a dash for an option. */
static void open_word(struct word *w, enum form form, const char *text)
{
	if (form == FORM_QUOTED)
		put(w, "'");
	if (form == FORM_PRINTF)
		put(w, *text == '-' ? "\"$(printf -- '" : "\"$(printf '");
}

static void close_word(struct word *w, enum form form)
{
	if (form == FORM_QUOTED)
		put(w, "'");
	if (form == FORM_PRINTF)
		put(w, "')\"");
}

size_t shell_quote(const char *text, char *buf, size_t room)
{
	enum form form = form_of(text);
	struct word word = { buf, 0, room };

	open_word(&word, form, text);
	for (const char *p = text; *p; p++)
		put_byte(&word, form, (unsigned char)*p);
	close_word(&word, form);
	if (form == FORM_NONE || word.used >= room)
		word.used = 0;
	buf[word.used] = '\0';
	return word.used;
}

struct shell_command shell_command(char *buf, size_t size)
{
	*buf = '\0';
	return (struct shell_command){ .at = buf, .size = size };
}

void shell_give_up(struct shell_command *c)
{
	c->failed = true;
	c->used = 0;
	*c->at = '\0';
}

void shell_add(struct shell_command *c, const char *format, ...)
{
	size_t room = c->size - c->used;
	va_list ap;
	int length;

	if (c->failed)
		return;
	va_start(ap, format);
	length = vsnprintf(c->at + c->used, room, format, ap);
	va_end(ap);
	if (length < 0 || (size_t)length >= room)
		shell_give_up(c);
	else
		c->used += (size_t)length;
}

void shell_word(struct shell_command *c, const char *word)
{
	size_t length;

	if (c->used)
		shell_add(c, " ");
	if (c->failed)
		return;
	length = shell_quote(word, c->at + c->used, c->size - c->used);
	if (length)
		c->used += length;
	else
		shell_give_up(c);
}
