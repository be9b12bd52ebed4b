/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record.h"
#include "check.h"

static struct failure why;

static struct endpoint endpoint(const char *text)
{
	struct endpoint e = { 0 };

	CHECK(endpoint_parse(text, &e, &why) == 0);
	return e;
}

/* A record with a value of every kind. */
static void fill(struct record *r)
{
	struct endpoint client = endpoint("192.0.2.2:40000"), none = { 0 };
	struct mark mark = { 0x1, 0xff };

	record_begin(r, "connection");
	record_endpoint(r, RECORD_CLIENT, &client);
	record_endpoint(r, RECORD_UPSTREAM, &none);
	record_mark(r, RECORD_MARK, &mark);
	record_number(r, RECORD_COOKIE, UINT64_MAX);
	record_number(r, RECORD_BYTES_UP, 5000000000);
	record_duration(r, 1234567);
	record_text(r, RECORD_PROG, "a b\\\n\"\xff");
	record_text(r, RECORD_TRANSPARENT, "yes");
	record_text(r, RECORD_EVIDENCE, "two words");
	record_text(r, RECORD_FIX, "");
}

static void text_is(const char *columns, const char *expected)
{
	struct record_columns c = { 0 };
	char buf[RECORD_LINE_MAX + 1];
	struct record r;

	fill(&r);
	CHECK(record_parse_columns(columns, &c, &why) == 0);
	buf[record_print_text(&r, &c, buf)] = '\0';
	CHECK_TEXT(buf, expected);
}

static void test_text(void)
{
	struct record_columns c = { { RECORD_CLIENT }, 1 };

	text_is("client,upstream,mark,cookie", "192.0.2.2:40000 - 0x1/0xff 0xffffffffffffffff\n");
	text_is("bytes_up,duration_ms,transparent", "5000000000 1234.567 yes\n");
	text_is("prog,fix", "a\\040b\\134\\012\"\\377 -\n");
	text_is("evidence,type", "two words\tconnection\n"); /* prose inside a line: up to a tab */
	text_is("type,evidence", "connection two words\n");  /* last: as it is */
	CHECK(record_parse_columns("+pid,fd", &c, &why) == 0 && c.count == 3 &&
	      c.at[2] == RECORD_FD);
	CHECK(record_parse_columns("+fd,id,pid", &c, &why) == 0 && c.count == 4);
	CHECK(record_parse_columns("pid,nonsense", &c, &why) == -1);
	CHECK_TEXT(why.detail, "'nonsense' is not a column; tproxy-tools(7) lists them");
	CHECK(record_parse_columns("", &c, &why) == -1);
}

static void says(const char *text, const char *column, const char *json)
{
	struct record_columns c = { { RECORD_PROG }, 1 };
	char buf[RECORD_LINE_MAX + 1], expected[200];
	struct record r;

	record_begin(&r, "t");
	record_text(&r, RECORD_PROG, text);
	buf[record_print_text(&r, &c, buf)] = '\0';
	CHECK_TEXT(buf, column);
	buf[record_print_json(&r, buf)] = '\0';
	snprintf(expected, sizeof(expected), "{\"v\":1,\"type\":\"t\",\"prog\":\"%s\"}\n", json);
	CHECK_TEXT(buf, expected);
}

/* What others call their programs and interfaces is no command to a terminal. */
static void test_nothing_is_obeyed(void)
{
	says("\033[2J", "\\033[2J\n", "\\u001b[2J");
	says("\xc2\x9b"
	     "2J",
	     "\\302\\2332J\n", "\\u009b2J");
	says("\xe2\x80\xae"
	     "exe",
	     "\\342\\200\\256exe\n", "\\u202eexe");
	says("\xe2\x81\xa6x", "\\342\\201\\246x\n", "\\u2066x");
	says("\x7f", "\\177\n", "\\u007f");
	says("gr\xc3\xbc\xc3\x9f \xe2\x82\xac", "gr\xc3\xbc\xc3\x9f\\040\xe2\x82\xac\n",
	     "gr\xc3\xbc\xc3\x9f \xe2\x82\xac");
}

/* The any address of IPv4 is not that of both families. */
static void test_any(void)
{
	struct record_columns c = { { RECORD_LOCAL, RECORD_PEER }, 2 };
	struct endpoint v4 = { .family = AF_INET, .port = 80 };
	char buf[RECORD_LINE_MAX + 1];
	struct record r;

	record_begin(&r, "socket");
	record_endpoint(&r, RECORD_LOCAL, &v4);
	record_any_endpoint(&r, RECORD_PEER, 81);
	buf[record_print_text(&r, &c, buf)] = '\0';
	CHECK_TEXT(buf, "0.0.0.0:80 *:81\n");
	buf[record_print_json(&r, buf)] = '\0';
	CHECK_TEXT(buf, "{\"v\":1,\"type\":\"socket\",\"local\":{\"addr\":\"0.0.0.0\",\"port\":80},"
			"\"peer\":{\"addr\":\"*\",\"port\":81}}\n");
}

/* A table that has not all columns refuses those that it would leave empty. */
static void test_known_columns(void)
{
	struct record_columns c = { { RECORD_PROTO }, 1 };

	c.known = RECORD_BIT(RECORD_PROTO) | RECORD_BIT(RECORD_LOCAL);
	CHECK(record_parse_columns("+local", &c, &why) == 0 && c.count == 2);
	CHECK(record_parse_columns("+origdst", &c, &why) == -1);
	CHECK_TEXT(why.detail, "'origdst' is not a column here; there are proto,local");
}

static void test_json(void)
{
	char buf[RECORD_LINE_MAX + 1];
	struct record r;

	fill(&r);
	buf[record_print_json(&r, buf)] = '\0';
	CHECK_TEXT(buf, "{\"v\":1,\"type\":\"connection\","
			"\"client\":{\"addr\":\"192.0.2.2\",\"port\":40000},\"mark\":\"0x1/0xff\","
			"\"cookie\":\"0xffffffffffffffff\",\"prog\":\"a b\\\\\\u000a\\\"\\ufffd\","
			"\"bytes_up\":5000000000,\"duration_ms\":1234.567,\"transparent\":true,"
			"\"evidence\":\"two words\"}\n");
}

/* Whatever the texts are, a line is bounded, whole, and ends as JSON does. */
static void test_json_is_cut_whole(void)
{
	static char huge[3 * RECORD_LINE_MAX];
	char buf[RECORD_LINE_MAX + 1];
	struct record r;
	size_t length;

	for (size_t i = 0; i + 1 < sizeof(huge); i++)
		huge[i] = "\xc3\xa4"[i % 2];
	record_begin(&r, "check");
	record_text(&r, RECORD_CHECK, huge);
	record_text(&r, RECORD_EVIDENCE, huge);
	record_number(&r, RECORD_COUNT, 1);
	length = record_print_json(&r, buf);
	CHECK(length <= RECORD_LINE_MAX);
	buf[length] = '\0';
	CHECK(length > 1000 && !strcmp(buf + length - 3, "\"}\n"));
	CHECK(!strstr(buf, "\\ufffd")); /* cut between characters, never inside one */
}

int main(void)
{
	test_text();
	test_nothing_is_obeyed();
	test_any();
	test_known_columns();
	test_json();
	test_json_is_cut_whole();
	return check_done();
}
