/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/plain.h"
#include "check.h"

static void copies(const char *text, size_t room, const char *expected)
{
	char buf[64];

	memset(buf, 'x', sizeof(buf));
	CHECK(plain_copy(buf, room, text) == strlen(expected));
	CHECK_TEXT(buf, expected);
}

int main(void)
{
	copies("two words", 64, "two words");
	copies("\033[31m\n", 64, "\\033[31m\\012");
	copies("\xc2\x9bm", 64, "\\302\\233m");
	copies("\xc2\xa0", 64, "\xc2\xa0");
	copies("\xe2\x80\xaetxt", 64, "\\342\\200\\256txt");
	copies("\xe2\x80\xafx", 64, "\xe2\x80\xafx");
	copies("\xed\xa0\x80", 64, "\\355\\240\\200"); /* half of a surrogate pair */
	copies("\xc0\xaf\xff", 64, "\\300\\257\\377");
	copies("\xf0\x9f\x90\xa7", 64, "\xf0\x9f\x90\xa7");
	copies("\xf0\x9f\x90\xa7", 5, "\xf0\x9f\x90\xa7");
	copies("\xf0\x9f\x90\xa7", 4, ""); /* not cut in its middle */
	copies("abc", 3, "ab");
	copies("a\033", 5, "a");
	copies("abc", 1, "");
	return check_done();
}
