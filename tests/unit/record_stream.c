/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/record_stream.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct failure why;

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

static size_t count_lines(const char *buf, size_t length)
{
	size_t lines = 0;

	for (size_t i = 0; i < length; i++)
		lines += buf[i] == '\n';
	return lines;
}

/* A reader that does not read: the writer neither blocks nor grows beyond its limit; all that is
 * lost is counted, and what arrives is whole lines. The shared pipe's flags stay as they were. */
static void test_slow_reader(void)
{
	static char buf[2 * RECORD_STREAM_MAX];
	const uint64_t many = 200000; /* of more than 40 bytes */
	struct record_stream *s;
	uint64_t lines = 0, lost;
	int fds[2];

	CHECK(pipe(fds) == 0);
	s = stream(fds[1], true);
	CHECK(!record_stream_is_congested(s));
	for (uint64_t id = 0; id < many; id++)
		put(s, id);
	lost = record_stream_losses(s).unread;
	CHECK(lost > 0 && lost < many && record_stream_losses(s).unwritten == 0);
	CHECK(record_stream_is_congested(s));
	CHECK(!(fcntl(fds[1], F_GETFL) & O_NONBLOCK));
	CHECK(record_stream_flush(s));
	CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
	do { /* read and write in turn until all is through; one line says what is missing */
		lines += count_lines(buf, read_all(fds[0], buf, sizeof(buf)));
	} while (record_stream_flush(s));
	lines += count_lines(buf, read_all(fds[0], buf, sizeof(buf)));
	CHECK(lines == many - lost + 1);
	CHECK(strstr(buf, "\"type\":\"lost\"") != NULL);
	CHECK(!record_stream_is_congested(s));
	CHECK(record_stream_free(s).unread == lost);
	close(fds[0]);
	close(fds[1]);
}

/* What does not fit into the queue is written first, not lost: a file is always ready. */
static void test_burst_to_file(void)
{
	static char buf[2 * RECORD_STREAM_MAX];
	char name[] = "/tmp/record-XXXXXX";
	int file = mkstemp(name), again = open(name, O_RDONLY);
	struct record_stream *s = stream(file, true);
	const uint64_t many = 150000;

	for (uint64_t id = 0; id < many; id++)
		put(s, id);
	CHECK(!record_stream_is_congested(s));
	CHECK(!record_stream_flush(s));
	CHECK(count_lines(buf, read_all(again, buf, sizeof(buf))) == many);
	CHECK(record_stream_free(s).unread == 0);
	close(file);
	close(again);
	unlink(name);
}

/* What waits at the end for a reader that has stopped is lost, and counted: records, not the
 * lines that tell of losses. */
static void test_stopped_reader(void)
{
	struct record_stream *s;
	uint64_t came;
	static char buf[1 << 20];
	int fds[2];

	CHECK(pipe(fds) == 0);
	s = stream(fds[1], true);
	for (uint64_t id = 0; id < 200000; id++)
		put(s, id);
	record_stream_flush(s);
	CHECK(record_stream_waiting(s) > 50000);
	CHECK(record_stream_waiting(s) + record_stream_losses(s).unread < 200000);
	CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
	uint64_t lost = record_stream_free(s).unread;
	came = count_lines(buf, read_all(fds[0], buf, sizeof(buf)));
	CHECK(came + lost == 200000);
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
	CHECK(record_stream_is_broken(s));
	record_stream_free(s);
	close(fds[1]);
}

static void test_losses_text(void)
{
	char buf[RECORD_LOSSES_TEXT];

	CHECK(!record_stream_losses_text(&(struct record_losses){ 0, 0 }, buf));
	CHECK_TEXT(record_stream_losses_text(&(struct record_losses){ 1, 0 }, buf),
		   "1 record was lost: its reader was too slow");
	CHECK_TEXT(record_stream_losses_text(&(struct record_losses){ 0, 3 }, buf),
		   "3 records were lost: they could not be written");
	CHECK_TEXT(record_stream_losses_text(&(struct record_losses){ UINT64_MAX - 2, 2 }, buf),
		   "18446744073709551615 records were lost: their reader was too slow for "
		   "18446744073709551613, and 2 could not be written");
}

/* A disk that has room for a line and a half: that is told once, with the file's name; what
 * waits is written when there is room, in whole lines, and what is left at the end is counted as
 * not written. A limit of file size is such a disk. */
static void test_full_disk(void)
{
	char name[] = "/tmp/record-XXXXXX", buf[256];
	int file = mkstemp(name), again = open(name, O_RDONLY);
	struct record_stream *s = stream(file, false);
	struct record_losses lost;
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 20, limit.rlim_max }) == 0);
	for (uint64_t id = 1; id <= 3; id++)
		put(s, id);
	CHECK(record_stream_flush(s)); /* it has something to tell */
	CHECK(record_stream_trouble(s, &why));
	CHECK(why.err == EFBIG && strstr(why.subject, name));
	CHECK(!record_stream_flush(s)); /* that, and there is no reader to wait for */
	CHECK(!record_stream_trouble(s, &why));
	CHECK(!record_stream_is_broken(s));
	CHECK(!record_stream_is_congested(s));
	CHECK(record_stream_losses(s).unwritten == 0);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	put(s, 4);
	CHECK(!record_stream_flush(s));
	read_all(again, buf, sizeof(buf));
	CHECK_TEXT(buf, "connection 1\nconnection 2\nconnection 3\nconnection 4\n");
	/* The next time it is told again. */
	CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 60, limit.rlim_max }) == 0);
	put(s, 5);
	put(s, 6);
	CHECK(record_stream_flush(s));
	CHECK(record_stream_trouble(s, &why));
	lost = record_stream_free(s);
	CHECK(lost.unwritten == 2 && lost.unread == 0);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
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
	record_stream_free(s);
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
	test_slow_reader();
	test_burst_to_file();
	test_stopped_reader();
	test_losses_text();
	test_gone_reader();
	test_full_disk();
	test_sockets_and_files();
	return check_done();
}
