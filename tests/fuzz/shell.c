/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Other people's words, in a command and on a terminal: sh reads one word, and that word; a
 * terminal gets nothing that it would obey. */
#include "base/shell.h"
#include "base/plain.h"
#include "fuzz.h"

#define SUBSTITUTION "\"$(printf "

/* What printf(1) makes of a format of plain characters and \ooo, up to the closing quote. */
static const char *read_format(const char *word, char *out)
{
	unsigned value;
	int length;

	for (; *word != '\''; word++) {
		fuzz_holds(*word && *word != '%', "the format is closed, and converts nothing");
		if (*word != '\\') {
			*out++ = *word;
			continue;
		}
		fuzz_holds(sscanf(word, "\\%3o%n", &value, &length) == 1 && length == 4,
			   "an escape has three digits");
		*out++ = (char)value;
		word += 3;
	}
	*out = '\0';
	return word + 1;
}

/* What sh makes of the word, if it is one of the three forms; anything else does not hold. */
static void read_word(const char *word, char *out)
{
	static const char bare[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "_-+./:,@%";
	bool quoted = false;

	if (!strncmp(word, SUBSTITUTION, strlen(SUBSTITUTION))) {
		word += strlen(SUBSTITUTION);
		word += strncmp(word, "-- ", 3) ? 0 : 3;
		fuzz_holds(*word == '\'', "the format is quoted");
		fuzz_holds(!strcmp(read_format(word + 1, out), ")\""), "one substitution");
		return;
	}
	for (; *word; word++)
		if (*word == '\'')
			quoted = !quoted;
		else if (!quoted && *word == '\\')
			*out++ = *++word;
		else
			fuzz_holds(quoted || strchr(bare, *word), "what is bare is plain"),
				*out++ = *word;
	fuzz_holds(!quoted, "quotes are closed");
	*out = '\0';
}

static void quoting(const char *text, size_t room)
{
	static char word[4 * FUZZ_TEXT_MAX + 64], back[FUZZ_TEXT_MAX + 1], small[64];
	size_t length = shell_quote(text, word, sizeof(word));

	if (!length) {
		fuzz_holds(text[strlen(text) - 1] == '\n',
			   "only the newline at the end has no form");
	} else {
		fuzz_holds(length == strlen(word), "its length");
		read_word(word, back);
		fuzz_holds(!strcmp(text, back), "the word reads back");
	}
	fuzz_holds(shell_quote(text, small, room) == (length < room ? length : 0),
		   "whole or not at all");
	fuzz_holds(strlen(small) < room, "in its room");
}

static void showing(const char *text, size_t room)
{
	static char out[4 * FUZZ_TEXT_MAX + 1], small[64];
	size_t whole = plain_copy(out, sizeof(out), text), length;

	fuzz_holds(plain_copy(small, room, text) < room && !strncmp(out, small, strlen(small)),
		   "a cut text is the beginning");
	fuzz_holds(whole == strlen(out), "its length");
	for (const unsigned char *p = (unsigned char *)out; *p; p += length) {
		length = plain_length(p);
		fuzz_holds(length && plain_may_show(p, length), "all may be shown");
		fuzz_holds(*p >= ' ' && *p != 0x7f, "no control character");
		fuzz_holds(*p != 0xc2 || p[1] >= 0xa0, "no control character of C1");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size || size > FUZZ_TEXT_MAX)
		return 0;
	text = fuzz_text(data + 1, size - 1);
	quoting(text, 1 + data[0] % 64);
	showing(text, 1 + data[0] % 64);
	free(text);
	return 0;
}
