/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/conf.h"
#include "check.h"

/* The words as `LINE:[WORD] ...`, a bar, and those of COMMAND; or what is wrong. */
static void parses(const char *text, const char *expected)
{
	struct conf conf = { 0 };
	struct failure why = { 0 };
	const struct conf_words *of[] = { &conf.setup, &conf.command };
	char got[1024] = "";
	size_t used = 0;

	if (conf_parse(text, "f", &conf, &why)) {
		report_text(&why, got, sizeof(got));
		CHECK_TEXT(got, expected);
		conf_free(&conf);
		return;
	}
	for (int i = 0; i < 2; i++) {
		for (int w = 1; w < of[i]->count; w++)
			used += (size_t)snprintf(got + used, sizeof(got) - used, "%u:[%s] ",
						 of[i]->line[w], of[i]->at[w]);
		used += (size_t)snprintf(got + used, sizeof(got) - used, "%s", i ? "" : "| ");
		CHECK(!of[i]->count || of[i]->at[of[i]->count] == NULL);
	}
	CHECK_TEXT(got, expected);
	conf_free(&conf);
}

static void too_many(void)
{
	static char text[3 * CONF_WORDS_MAX] = "SETUP=";
	size_t length = strlen(text);

	for (int i = 0; i <= CONF_WORDS_MAX; i++) {
		text[length++] = 'x';
		text[length++] = ' ';
	}
	parses(text, "f:1: SETUP: too many words");
}

int main(void)
{
	parses("SETUP=--to 80\nCOMMAND=a -b\n", "1:[--to] 1:[80] | 2:[a] 2:[-b] ");
	parses("# c\n\n \t# d\n SETUP \t= --to\t80 \r\n", "4:[--to] 4:[80] | ");
	parses("SETUP=a \\\n  b \\\n\n\nCOMMAND=c", "1:[a] 2:[b] | 5:[c] ");
	parses("SETUP='--to 80'\nCOMMAND=\"a b\"", "1:[--to] 1:[80] | 2:[a] 2:[b] ");
	parses("SETUP=\"a \\\nb\"", "1:[a] 2:[b] | ");
	parses("SETUP=\"a b\" 'c d' e\\ f g'h'\"i\" '' \\\"",
	       "1:[a b] 1:[c d] 1:[e f] 1:[ghi] 1:[] 1:[\"] | ");
	parses("SETUP=x\nCOMMAND=\"a\\\"b\\$\\x\" '\\'", "1:[x] | 2:[a\"b$\\x] 2:[\\] ");
	parses("SETUP=$HOME `id` # no comment", "1:[$HOME] 1:[`id`] 1:[#] 1:[no] 1:[comment] | ");
	parses("SETUP=", "| ");
	parses("SETUP=\"\"\nCOMMAND=\n", "| ");
	parses("SETUP=\\", "1:[\\] | ");
	parses("SETUP=a\\\n", "1:[a] | ");
	parses("", "f: SETUP is missing");
	parses("COMMAND=a\n", "f: SETUP is missing");
	parses("\n\nSETUP\n", "f:3: SETUP: not VARIABLE=VALUE");
	parses("=x\n", "f:1: : no such variable; there are SETUP and COMMAND");
	parses("SETUPS=x\n", "f:1: SETUPS: no such variable; there are SETUP and COMMAND");
	parses("SETUP=x\nSETUP=y", "f:2: SETUP: is there twice");
	parses("SETUP=x \\\n  y 'z", "f:2: 'z: a quote is not closed");
	parses("SETUP='\nCOMMAND=x", "f:1: ': a quote is not closed");
	too_many();
	return check_done();
}
