/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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
	text_is("prog,fix", "a\\040b\\134\\012\"\xff -\n");
	text_is("evidence,type",
		"two\\040words connection\n");		    /* prose inside a line: one column */
	text_is("type,evidence", "connection two words\n"); /* last: as it is */
	CHECK(record_parse_columns("+pid,fd", &c, &why) == 0 && c.count == 3 &&
	      c.at[2] == RECORD_FD);
	CHECK(record_parse_columns("+fd,id,pid", &c, &why) == 0 && c.count == 4);
	CHECK(record_parse_columns("pid,nonsense", &c, &why) == -1);
	CHECK_TEXT(why.detail, "'nonsense' is no column; tproxy-tools(7) lists them");
	CHECK(record_parse_columns("", &c, &why) == -1);
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

static struct record_stream *stream(int fd, bool json)
{
	struct record_columns c = { { RECORD_TYPE, RECORD_ID }, 2 };
	struct record_stream *s = record_stream_new(fd, json, &c, &why);

	CHECK(s != NULL);
	return s;
}

static void put(struct record_stream *s, uint64_t id)
{
	struct record r;

	record_begin(&r, "connection");
	record_number(&r, RECORD_ID, id);
	record_stream_put(s, &r);
}

static size_t read_all(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, buf + used, size - used - 1)) > 0)
		used += (size_t)n;
	buf[used] = '\0';
	return used;
}

/* A reader that does not read: the writer neither blocks nor grows; all that is lost is counted, and
 * what arrives is whole lines. The shared pipe's flags stay as they were. */
static void test_slow_reader(void)
{
	static char buf[1 << 20];
	struct record_stream *s;
	uint64_t lines = 0, lost;
	int fds[2];

	CHECK(pipe(fds) == 0);
	s = stream(fds[1], true);
	for (uint64_t id = 0; id < 20000; id++) {
		put(s, id);
		record_stream_flush(s);
	}
	lost = record_stream_lost(s);
	CHECK(lost > 0 && lost < 20000);
	CHECK(!(fcntl(fds[1], F_GETFL) & O_NONBLOCK));
	CHECK(record_stream_flush(s));
	CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
	do { /* read and write in turn until all is through */
		size_t n = read_all(fds[0], buf, sizeof(buf));

		for (size_t i = 0; i < n; i++)
			lines += buf[i] == '\n';
	} while (record_stream_flush(s));
	read_all(fds[0], buf, sizeof(buf));
	for (char *p = buf; (p = strchr(p, '\n')); p++)
		lines++;
	CHECK(lines == 20000 - lost);
	put(s, 1); /* room again: the loss is said before it */
	record_stream_free(s, 100);
	read_all(fds[0], buf, sizeof(buf));
	CHECK(strstr(buf, "\"type\":\"lost\"") != NULL);
	close(fds[0]);
	close(fds[1]);
}

static void test_gone_reader(void)
{
	struct record_stream *s;
	int fds[2];

	CHECK(pipe(fds) == 0);
	s = stream(fds[1], false);
	close(fds[0]);
	put(s, 1);
	CHECK(!record_stream_flush(s));
	CHECK(record_stream_broken(s));
	record_stream_free(s, 100);
	close(fds[1]);
}

/* A disk that has room for a line and a half: what is lost is counted, and later lines are whole. A limit
 * of file size is such a disk. */
static void test_full_disk(void)
{
	char name[] = "/tmp/record-XXXXXX", buf[256];
	int file = mkstemp(name), again = open(name, O_RDONLY);
	struct record_stream *s = stream(file, false);
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 20, limit.rlim_max }) == 0);
	for (uint64_t id = 1; id <= 3; id++)
		put(s, id);
	CHECK(!record_stream_flush(s));
	CHECK(record_stream_trouble(s) == EFBIG);
	CHECK(record_stream_trouble(s) == 0);
	CHECK(!record_stream_broken(s));
	CHECK(record_stream_lost(s) == 2);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	put(s, 4);
	CHECK(record_stream_free(s, 100) == 2);
	read_all(again, buf, sizeof(buf));
	CHECK_TEXT(buf, "connection 1\nconnect\nconnection 4\n");
	close(file);
	close(again);
	unlink(name);
}

static void stream_to(int write_fd, int read_fd)
{
	struct record_stream *s = stream(write_fd, false);
	char buf[256];

	put(s, 1);
	put(s, 2);
	CHECK(!record_stream_flush(s));
	record_stream_free(s, 100);
	shutdown(write_fd, SHUT_WR);
	read_all(read_fd, buf, sizeof(buf));
	CHECK_TEXT(buf, "connection 1\nconnection 2\n");
}

static void test_sockets_and_files(void)
{
	char name[] = "/tmp/record-XXXXXX";
	int fds[2], file = mkstemp(name), again = open(name, O_RDONLY);

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	stream_to(fds[0], fds[1]);
	stream_to(file, again);
	close(fds[0]);
	close(fds[1]);
	close(file);
	close(again);
	unlink(name);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_text();
	test_json();
	test_json_is_cut_whole();
	test_slow_reader();
	test_gone_reader();
	test_full_disk();
	test_sockets_and_files();
	return check_done();
}
