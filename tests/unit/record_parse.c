/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record_parse.h"
#include "check.h"

static struct failure why;

/* A record with a value of every kind comes back as it was. */
static void test_round_trip(void)
{
	struct endpoint v4, v6;
	struct mark mark = { 0x1, 0xff };
	char line[RECORD_LINE_MAX], again[RECORD_LINE_MAX];
	struct record_texts texts;
	struct record r, back;
	size_t length;

	CHECK(endpoint_parse("192.0.2.2:40000", &v4, &why) == 0);
	CHECK(endpoint_parse("[2001:db8::1]:443", &v6, &why) == 0);
	record_begin(&r, "connection");
	record_time_now(&r);
	record_endpoint(&r, RECORD_CLIENT, &v4);
	record_endpoint(&r, RECORD_ORIGDST, &v6);
	record_any_endpoint(&r, RECORD_LISTENER, 81);
	record_mark(&r, RECORD_MARK, &mark);
	record_number(&r, RECORD_COOKIE, UINT64_MAX);
	record_number(&r, RECORD_BYTES_UP, UINT64_MAX);
	record_duration(&r, 1234567);
	record_text(&r, RECORD_PROG, "a b\\\n\"/\t gr\xc3\xbc\xe2\x82\xac \033");
	record_text(&r, RECORD_TRANSPARENT, "no");
	record_text(&r, RECORD_EVIDENCE, "two words");
	length = record_print_json(&r, line);
	CHECK(record_parse_json(line, length - 1, &back, &texts, &why) == 0);
	CHECK(back.present == r.present);
	CHECK_TEXT(record_get_text(&back, RECORD_PROG), r.value[RECORD_PROG].text);
	CHECK(endpoint_equal(&back.value[RECORD_ORIGDST].endpoint, &v6));
	CHECK(record_get_number(&back, RECORD_COOKIE) == UINT64_MAX);
	CHECK(record_get_number(&back, RECORD_DURATION_MS) == 1234567);
	CHECK(record_get_number(&back, RECORD_TIME) == r.value[RECORD_TIME].number);
	CHECK(!record_get_text(&back, RECORD_REASON) && !record_get_number(&back, RECORD_PID));
	CHECK(record_print_json(&back, again) == length && !memcmp(line, again, length));
}

static int parse(const char *line, struct record *r)
{
	static struct record_texts texts;

	return record_parse_json(line, strlen(line), r, &texts, &why);
}

/* What a later version may say more is passed over. */
static void test_unknown_fields(void)
{
	struct record r;

	CHECK(parse("{\"new\":{\"a\":[1,-2.5e3,null,{\"b\":true}]},\"v\":1,\"other\":\"}\","
		    "\"type\":"
		    "\"t\",\"count\":7,\"empty\":{},\"none\":[]}",
		    &r) == 0);
	CHECK(record_get_number(&r, RECORD_COUNT) == 7);
	CHECK(parse(" { \"v\" : 1 , \"type\" : \"t\" , \"reason\" : \"\" } ", &r) == 0);
	CHECK(!record_get_text(&r, RECORD_REASON));
	CHECK(parse("{\"v\":1,\"type\":\"\\u20ac\\u0041\\ud83d\\u0000\"}", &r) == 0);
	CHECK_TEXT(record_get_text(&r, RECORD_TYPE), "\xe2\x82\xac"
						     "A\xef\xbf\xbd\xef\xbf\xbd");
}

static void test_refusals(void)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[]",
		"{\"v\":1,\"type\":\"t\"",
		"{\"v\":1,\"type\":\"t\"} x",
		"{\"v\":1,\"type\":\"t\",}",
		"{\"v\":1,\"v\":1,\"type\":\"t\"}",
		"{\"v\":1,\"type\":5}",
		"{\"v\":1,\"type\":\"t\",\"count\":-1}",
		"{\"v\":1,\"type\":\"t\",\"count\":18446744073709551616}",
		"{\"v\":1,\"type\":\"t\",\"count\":\"7\"}",
		"{\"v\":1,\"type\":\"t\",\"cookie\":\"0x\"}",
		"{\"v\":1,\"type\":\"t\",\"cookie\":\"0x11111111111111111\"}",
		"{\"v\":1,\"type\":\"t\",\"client\":{\"addr\":\"x\",\"port\":1}}",
		"{\"v\":1,\"type\":\"t\",\"client\":{\"addr\":\"192.0.2.1\",\"port\":65536}}",
		"{\"v\":1,\"type\":\"t\",\"time\":\"2024-01-01T00:00:00Z\"}",
		"{\"v\":1,\"type\":\"a\\qb\"}",
		"{\"v\":1,\"type\":\"a\\u00g0\"}",
		"{\"v\":1,\"type\":\"unended}",
		"{\"v\":1,\"type\":\"t\",\"x\":[[[[[[[[[1]]]]]]]]]}",
		"{\"v\":1,\"type\":\"t\",\"transparent\":null}",
	};
	struct record r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		why = (struct failure){ 0 };
		CHECK(parse(bad[i], &r) == -1 && why.detail[0]);
	}
	CHECK(parse("{\"v\":2,\"type\":\"t\"}", &r) == -1);
	CHECK_TEXT(why.detail, "a record of version 2; only version 1 is supported");
}

int main(void)
{
	test_round_trip();
	test_unknown_fields();
	test_refusals();
	return check_done();
}
