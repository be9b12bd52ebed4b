/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/quantity.h"
#include "check.h"

static struct failure why;

static void duration(const char *text, uint64_t expected)
{
	uint64_t ms = 0;

	CHECK(quantity_duration(text, &ms, &why) == 0);
	CHECK(ms == expected);
}

static void duration_refused(const char *text)
{
	uint64_t ms;

	why.detail[0] = '\0';
	CHECK(quantity_duration(text, &ms, &why) == -1);
	CHECK(why.detail[0] != '\0');
}

static void test_durations(void)
{
	duration("0", 0);
	duration("30", 30000);
	duration("500ms", 500);
	duration("2h5m", 7500000);
	duration("90s", 90000);
	duration("1d", 86400000);
	duration("366d", 366ULL * 86400000);
	duration_refused("");
	duration_refused("s");
	duration_refused("-1s");
	duration_refused("1.5s");
	duration_refused("5m2h"); /* falling units only: a typing mistake otherwise */
	duration_refused("5m30");
	duration_refused("1m1m");
	duration_refused("10x");
	duration_refused("367d");
	duration_refused("99999999999999999999h");
}

static void mark(const char *text, uint32_t value, uint32_t mask, const char *printed)
{
	char buf[QUANTITY_MARK_MAX];
	struct mark m = { 0 };

	CHECK(quantity_mark(text, &m, &why) == 0);
	CHECK(m.value == value && m.mask == mask);
	CHECK_TEXT(quantity_format_mark(&m, buf), printed);
}

static void mark_refused(const char *text, const char *reason)
{
	struct mark m;

	CHECK(quantity_mark(text, &m, &why) == -1);
	CHECK_TEXT(why.detail, reason);
}

static void test_marks(void)
{
	mark("0x1/0xff", 1, 0xff, "0x1/0xff");
	mark("1/255", 1, 0xff, "0x1/0xff");
	mark("0", 0, UINT32_MAX, "0x0");
	mark("0xffffffff", UINT32_MAX, UINT32_MAX, "0xffffffff");
	mark_refused("0x300/0xff", "value has bits outside its mask");
	mark_refused("1/0", "a mask of 0 leaves no bit to mark with");
	mark_refused("0x100000000", "has more than 32 bits");
	mark_refused("", "not a mark like 0x1/0xff");
	mark_refused("0x", "not a mark like 0x1/0xff");
	mark_refused("1/", "not a mark like 0x1/0xff");
	mark_refused("1/2/3", "not a mark like 0x1/0xff");
	mark_refused("0x1 ", "not a mark like 0x1/0xff");
}

static void test_numbers(void)
{
	uint64_t n = 0;

	CHECK(quantity_number("0x10", 0, 16, &n, &why) == 0 && n == 16);
	CHECK(quantity_number("17", 0, 16, &n, &why) == -1);
	CHECK_TEXT(why.detail, "must be from 0 to 16");
	CHECK(quantity_number("18446744073709551616", 0, UINT64_MAX, &n, &why) == -1);
	CHECK(quantity_number("12a", 0, 100, &n, &why) == -1);
}

int main(void)
{
	test_durations();
	test_marks();
	test_numbers();
	return check_done();
}
