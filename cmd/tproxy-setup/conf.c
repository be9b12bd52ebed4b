/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The parser's position, and the end of the current value. */
struct reader {
	const char *path;
	const char *at, *end;
	unsigned line;
	struct failure *why;
};

/* Report the word, as written in the file, and what is wrong with it. */
static int refuse(const struct reader *r, unsigned line, const char *word, size_t length,
		  const char *reason)
{
	return report_refuse(r->why, "%s:%u: %.*s: %s", r->path, line,
			     length < 80 ? (int)length : 80, word, reason);
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct reader *r)
{
	while (is_blank(*r->at))
		r->at++;
}

/* The newline that ends a value, or the end of the text. A newline after a backslash does not end
 * it. */
static const char *end_of_value(const char *p)
{
	while (*p && *p != '\n')
		p += p[0] == '\\' && p[1] ? 2 : 1;
	return p;
}

/* Strip blanks at the end, and quotes around the whole value, if it contains no others of that
 * kind. */
static void trim_value(struct reader *r)
{
	while (r->end > r->at && is_blank(r->end[-1]))
		r->end--;
	if (r->end - r->at < 2 || (*r->at != '"' && *r->at != '\'') || r->end[-1] != *r->at ||
	    memchr(r->at + 1, *r->at, (size_t)(r->end - r->at) - 2))
		return;
	r->at++;
	r->end--;
}

/* --- words ------------------------------------------------------------------------------------ */

/* Is it the backslash of a continued line? */
static bool goes_on(const struct reader *r)
{
	return r->at[0] == '\\' && r->end - r->at > 1 && r->at[1] == '\n';
}

static bool is_between(const struct reader *r)
{
	return is_blank(*r->at) || goes_on(r);
}

static void skip_to_word(struct reader *r)
{
	for (; r->at < r->end && is_between(r); r->at++)
		if (goes_on(r)) {
			r->at++;
			r->line++;
		}
}

/* Copy the character after a backslash; inside double quotes only some are escaped (sh(1)). */
static char *copy_escaped(struct reader *r, char *to, bool quoted)
{
	char c = r->at[1];

	r->at += 2;
	if (quoted && c == '\n') {
		r->line++;
		return to;
	}
	if (quoted && !strchr("\"\\$`", c))
		*to++ = '\\';
	*to++ = c;
	return to;
}

/* Copy one word to *to, without its quotes, and end it. 0, or -1: the end of a quote is missing. */
static int copy_word(struct reader *r, char **to)
{
	const char *start = r->at;
	unsigned line = r->line;
	char quote = 0;

	while (r->at < r->end && (quote || !is_between(r))) {
		if (*r->at == '\\' && quote != '\'' && r->end - r->at > 1) {
			*to = copy_escaped(r, *to, quote != 0);
			continue;
		}
		if (quote ? *r->at == quote : *r->at == '\'' || *r->at == '"')
			quote = quote ? 0 : *r->at;
		else
			*(*to)++ = *r->at;
		r->at++;
	}
	*(*to)++ = '\0';
	return quote ? refuse(r, line, start, (size_t)(r->end - start), "a quote is not closed")
		     : 0;
}

/* A word is at least as long as its copy; the last one has a \0 of its own. */
static int make_room(const struct reader *r, struct conf_words *words, size_t key)
{
	words->at = calloc(CONF_WORDS_MAX + 2, sizeof(*words->at));
	words->line = calloc(CONF_WORDS_MAX + 2, sizeof(*words->line));
	words->text = calloc(1, key + (size_t)(r->end - r->at) + 2);
	return words->at && words->line && words->text
		       ? 0
		       : report_fail(r->why, ENOMEM, "malloc", "%s", r->path);
}

/* Split the value from r->at to r->end. */
static int split(struct reader *r, struct conf_words *words, const char *key, size_t length)
{
	char *to;

	if (make_room(r, words, length))
		return -1;
	memcpy(words->text, key, length);
	words->at[0] = words->text;
	words->line[0] = r->line;
	words->count = 1;
	to = words->text + length + 1;
	for (skip_to_word(r); r->at < r->end; skip_to_word(r)) {
		if (words->count > CONF_WORDS_MAX)
			return refuse(r, r->line, key, length, "too many words");
		words->at[words->count] = to;
		words->line[words->count++] = r->line;
		if (copy_word(r, &to))
			return -1;
	}
	return 0;
}

/* --- the file --------------------------------------------------------------------------------- */

/* The place for the words of a variable; NULL with a reason. */
static struct conf_words *find_variable(const struct reader *r, struct conf *conf, const char *key,
					size_t length)
{
	struct conf_words *words = NULL;

	if (length == strlen("SETUP") && !memcmp(key, "SETUP", length))
		words = &conf->setup;
	else if (length == strlen("COMMAND") && !memcmp(key, "COMMAND", length))
		words = &conf->command;
	if (words && !words->count)
		return words;
	refuse(r, r->line, key, length,
	       words ? "is there twice" : "no such variable; there are SETUP and COMMAND");
	return NULL;
}

/* `VARIABLE = VALUE`, up to its newline. */
static int parse_line(struct reader *r, struct conf *conf)
{
	const char *key = r->at, *next;
	size_t length = strcspn(key, "= \t\r\n");
	struct conf_words *words;

	r->at += length;
	skip_blanks(r);
	if (*r->at != '=')
		return refuse(r, r->line, key, length, "not VARIABLE=VALUE");
	words = find_variable(r, conf, key, length);
	if (!words)
		return -1;
	r->at++;
	skip_blanks(r);
	next = r->end = end_of_value(r->at);
	trim_value(r);
	if (split(r, words, key, length))
		return -1;
	r->at = next;
	return 0;
}

int conf_parse(const char *text, const char *path, struct conf *conf, struct failure *why)
{
	struct reader r = { .path = path, .at = text, .line = 1, .why = why };

	for (;;) {
		skip_blanks(&r);
		if (*r.at == '#')
			r.at += strcspn(r.at, "\n");
		else if (*r.at && *r.at != '\n' && parse_line(&r, conf))
			return -1;
		if (!*r.at)
			break;
		r.at++;
		r.line++;
	}
	if (!conf->setup.count)
		return report_refuse(why, "%s: SETUP is missing", path);
	return 0;
}

/* All of it, as a string. */
static int read_text(int fd, const char *path, char **text, struct failure *why)
{
	struct stat st;
	ssize_t got;

	if (fstat(fd, &st) < 0)
		return report_fail(why, errno, "stat", "%s", path);
	if (!S_ISREG(st.st_mode))
		return report_refuse(why, "%s: not a regular file", path);
	*text = calloc(1, CONF_SIZE_MAX + 2);
	if (!*text)
		return report_fail(why, ENOMEM, "malloc", "%s", path);
	got = read(fd, *text, CONF_SIZE_MAX + 1);
	if (got < 0)
		return report_fail(why, errno, "read", "%s", path);
	if (got > CONF_SIZE_MAX)
		return report_refuse(why, "%s: larger than %d bytes", path, CONF_SIZE_MAX);
	if (strlen(*text) != (size_t)got)
		return report_refuse(why, "%s: not a text: it has a NUL byte", path);
	return 0;
}

int conf_read(const char *path, struct conf *conf, struct failure *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err;
	char *text = NULL;

	*conf = (struct conf){ 0 };
	if (fd < 0) {
		err = errno;
		report_fail(why, err, "open", "%s", path);
		return err == EACCES ? report_hint(why, "the user of the unit must be able to read "
							"it: chmod a+r")
				     : -1;
	}
	err = read_text(fd, path, &text, why);
	close(fd);
	err = err ? -1 : conf_parse(text, path, conf, why);
	free(text);
	return err;
}

static void free_words(struct conf_words *words)
{
	free(words->at);
	free(words->line);
	free(words->text);
}

void conf_free(struct conf *conf)
{
	free_words(&conf->setup);
	free_words(&conf->command);
	*conf = (struct conf){ 0 };
}
