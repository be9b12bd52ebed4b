/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/shell.h"
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quoted(const char *text, const char *expected)
{
	char buf[64];

	CHECK(shell_quote(text, buf, sizeof(buf)) == strlen(expected));
	CHECK_TEXT(buf, expected);
}

static void test_quote(void)
{
	quoted("lan0", "lan0");
	quoted("[::1]:80", "'[::1]:80'");
	quoted("0x1/0xff", "0x1/0xff");
	quoted("", "''");
	quoted("-x", "-x");
	quoted("~root", "'~root'");
	quoted("=ls", "'=ls'");
	quoted("x;touch /tmp/H", "'x;touch /tmp/H'");
	quoted("x';id;'", "'x'\\'';id;'\\'''");
	quoted("`id`$(id)\\", "'`id`$(id)\\'");
	quoted("\xc3\xbc", "'\xc3\xbc'");
	quoted("a\033[1m", "\"$(printf 'a\\033\\1331m')\"");
	quoted("\xff%", "\"$(printf '\\377\\045')\"");
	quoted("-\n-", "\"$(printf -- '-\\012-')\"");
	quoted("a\xc2\x9b'", "\"$(printf 'a\\302\\233\\047')\"");
}

/* What a shell makes of the words: `printf '%s\0' WORD...`, read back. */
static void read_back(const char *shell, char texts[][8], size_t count)
{
	static char command[256 * 64], got[8], word[64];
	size_t used = 0;
	FILE *out;

	used += (size_t)snprintf(command, sizeof(command), "exec %s <<'END'\nprintf '%%s\\0'",
				 shell);
	for (size_t i = 0; i < count; i++) {
		CHECK(shell_quote(texts[i], word, sizeof(word)) != 0);
		used += (size_t)snprintf(command + used, sizeof(command) - used, " %s", word);
	}
	snprintf(command + used, sizeof(command) - used, "\nEND\n");
	out = popen(command, "re"); /* NOLINT(cert-env33-c): the shell is what is tested */
	for (size_t i = 0; i < count; i++) {
		size_t length = 0;
		int c;

		while ((c = fgetc(out)) > 0 && length < sizeof(got) - 1)
			got[length++] = (char)c;
		got[length] = '\0';
		CHECK_TEXT(got, texts[i]);
	}
	CHECK(fgetc(out) == EOF && pclose(out) == 0);
}

/* Every byte, alone, at the beginning, and at the end of a word. */
static void test_shells(void)
{
	static const char *const forms[] = { "%c", "%ca", "-%c'", "%%s%c.", "\xff%c\\." };
	static const char *const shells[] = { "sh", "bash", "busybox sh" };
	static char texts[255][8];

	for (size_t s = 0; s < sizeof(shells) / sizeof(*shells); s++)
		for (size_t f = 0; f < sizeof(forms) / sizeof(*forms); f++) {
			size_t count = 0;

			for (int c = 1; c < 256; c++)
				if (c != '\n' || f)
					snprintf(texts[count++], sizeof(*texts), forms[f], c);
			read_back(shells[s], texts, count);
		}
}

/* Sh would drop the newline. */
static void test_quote_not_at_all(void)
{
	char buf[8] = "before";

	CHECK(shell_quote("a\n", buf, sizeof(buf)) == 0 && !*buf);
	CHECK(shell_quote("a b cd", buf, sizeof(buf)) == 0 && !*buf);
	CHECK(shell_quote("a b d", buf, sizeof(buf)) == 7);
	CHECK_TEXT(buf, "'a b d'");
}

static void test_command(void)
{
	char buf[24];
	struct shell_command c = shell_command(buf, sizeof(buf));

	shell_add(&c, "nft delete");
	shell_word(&c, "a b");
	shell_word(&c, "");
	CHECK_TEXT(buf, "nft delete 'a b' ''");
	shell_word(&c, "xyz");
	CHECK_TEXT(buf, "nft delete 'a b' '' xyz");
	CHECK(!c.failed);
	shell_word(&c, "y");
	CHECK(c.failed && !*buf);
	shell_add(&c, "x");
	CHECK(!*buf);
	c = shell_command(buf, sizeof(buf));
	shell_add(&c, "kill %d", 1234567890);
	shell_add(&c, " %s", "0123456789");
	CHECK(c.failed && !*buf);
}

int main(void)
{
	test_quote();
	test_shells();
	test_quote_not_at_all();
	test_command();
	return check_done();
}
