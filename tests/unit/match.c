/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/match.h"
#include "check.h"

static bool holds(const struct match_list *list, const char *text)
{
	struct endpoint e;

	CHECK(endpoint_parse(text, &e, NULL) == 0);
	return match_list_has(list, &e);
}

static void check_forms(void)
{
	struct match_list list = { 0 };

	CHECK(!holds(&list, "192.0.2.1:80"));
	CHECK(match_list_add(&list, "192.0.2.0/24", NULL) == 0);
	CHECK(holds(&list, "192.0.2.1:80") && !holds(&list, "192.0.3.1:80"));
	CHECK(match_list_add(&list, "198.51.100.7:80,443", NULL) == 0);
	CHECK(holds(&list, "198.51.100.7:443") && !holds(&list, "198.51.100.7:444"));
	CHECK(!holds(&list, "198.51.100.8:443"));
	CHECK(match_list_add(&list, "2001:db8::/32", NULL) == 0);
	CHECK(holds(&list, "[2001:db8::1]:1") && !holds(&list, "[2001:db9::1]:1"));
	CHECK(match_list_add(&list, "[2001:db9::/32]:80", NULL) == 0);
	CHECK(holds(&list, "[2001:db9::1]:80") && !holds(&list, "[2001:db9::1]:81"));
	CHECK(match_list_add(&list, "*:22", NULL) == 0);
	CHECK(holds(&list, "203.0.113.1:22") && holds(&list, "[fd00::1]:22"));
	CHECK(!holds(&list, "203.0.113.1:23"));
	match_list_free(&list);
	CHECK(!list.count);
}

static void check_mistakes(void)
{
	static const char *const wrong[] = {
		"",	      "192.0.2.1/24", "192.0.2.0/33",	 "host:80",
		"192.0.2.1:", "192.0.2.1:0",  "[2001:db8::1]:x", "192.0.2.1:80-"
	};
	struct match_list list = { 0 };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct failure why = { 0 };

		CHECK(match_list_add(&list, wrong[i], &why) == -1);
		CHECK(why.detail[0]);
	}
	CHECK(!list.count);
}

static bool covered(const char *by, const char *also, const char *text)
{
	struct match_list list = { 0 }, one = { 0 };
	bool covers;

	CHECK(match_list_add(&list, by, NULL) == 0 && match_list_add(&list, also, NULL) == 0);
	CHECK(match_list_add(&one, text, NULL) == 0);
	covers = match_list_covers(&list, one.at);
	match_list_free(&list);
	match_list_free(&one);
	return covers;
}

static void check_covers(void)
{
	CHECK(covered("192.0.2.0/24", "*:22", "192.0.2.0/24"));
	CHECK(covered("192.0.2.0/24", "*:22", "192.0.2.128/25:80"));
	CHECK(!covered("192.0.2.0/24", "*:22", "192.0.2.0/23"));
	CHECK(!covered("192.0.2.0/24", "*:22", "192.0.3.0/24"));
	CHECK(!covered("192.0.2.0/24", "*:22", "2001:db8::/32"));
	CHECK(covered("192.0.2.0/24", "*:22", "[2001:db8::/32]:22"));
	CHECK(covered("192.0.2.0/24:80-90,443", "*:22", "192.0.2.1:80,85-90,443"));
	CHECK(!covered("192.0.2.0/24:80-90,443", "*:22", "192.0.2.1:80-91"));
	CHECK(!covered("192.0.2.0/24:80-90,443", "*:22", "192.0.2.1"));
	CHECK(covered("192.0.2.0/24:1-65535", "*:22", "192.0.2.1"));
	CHECK(covered("0.0.0.0/0", "::/0", "*"));
	CHECK(covered("0.0.0.0/0", "[::/0]:80", "*:80"));
	CHECK(!covered("0.0.0.0/0", "[::/0]:80", "*:81"));
	CHECK(covered("0.0.0.0/0", "*", "::1"));
}

int main(void)
{
	check_covers();
	check_forms();
	check_mistakes();
	return check_done();
}
