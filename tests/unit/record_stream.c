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
	test_slow_reader();
	test_gone_reader();
	test_full_disk();
	test_sockets_and_files();
	return check_done();
}
