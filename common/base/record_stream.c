/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A stream must never block the service that writes to it. Its descriptor is shared with whoever
 * started us, so its O_NONBLOCK flag is not ours to set: a pipe or terminal is opened once more
 * through /proc (a file description of our own), a socket is written with MSG_DONTWAIT, a regular
 * file never blocks for long. Where none of that works, poll() says when PIPE_BUF bytes fit.
 */
#include "base/record_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STREAM_QUEUE (256 * 1024)

/* How a stream's descriptor is written without blocking; see the theory of operation. */
enum transport { TRANSPORT_OWN, TRANSPORT_SOCKET, TRANSPORT_FILE, TRANSPORT_POLLED };

struct record_stream {
	pthread_mutex_t lock;
	int fd; /* what is written to: ours with TRANSPORT_OWN, else the caller's */
	enum transport transport;
	bool json, broken;
	bool torn;   /* the last line was written in part */
	bool told;   /* trouble was asked for */
	int trouble; /* errno of the first write that failed while there was a reader */
	struct record_columns columns;
	uint64_t lost;	   /* in all */
	uint64_t unsaid;   /* lost since the last `lost` record */
	size_t start, end; /* of what waits in queue */
	char queue[STREAM_QUEUE];
};

static void choose_transport(struct record_stream *s, int fd)
{
	char path[32];
	struct stat st;
	int own;

	s->fd = fd;
	s->transport = TRANSPORT_POLLED;
	if (fstat(fd, &st) < 0)
		return;
	if (S_ISSOCK(st.st_mode) || S_ISREG(st.st_mode)) {
		s->transport = S_ISSOCK(st.st_mode) ? TRANSPORT_SOCKET : TRANSPORT_FILE;
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (own < 0)
		return;
	s->fd = own;
	s->transport = TRANSPORT_OWN;
}

struct record_stream *record_stream_new(int fd, bool json, const struct record_columns *columns,
					struct failure *why)
{
	struct record_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		report_fail(why, ENOMEM, "malloc", "record queue");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->json = json;
	s->columns = *columns;
	choose_transport(s, fd);
	return s;
}

static bool enqueue(struct record_stream *s, const char *text, size_t length)
{
	if (s->end + length > sizeof(s->queue)) {
		memmove(s->queue, s->queue + s->start, s->end - s->start);
		s->end -= s->start;
		s->start = 0;
	}
	if (s->end + length > sizeof(s->queue))
		return false;
	memcpy(s->queue + s->end, text, length);
	s->end += length;
	return true;
}

/* Say in the stream itself how much of it is missing. Text has no place for it: there the program
 * reports record_stream_lost(). */
static void enqueue_lost(struct record_stream *s)
{
	char buf[RECORD_LINE_MAX];
	struct record r;

	if (!s->unsaid || !s->json)
		return;
	record_begin(&r, "lost");
	record_time_now(&r);
	record_number(&r, RECORD_COUNT, s->unsaid);
	if (enqueue(s, buf, record_print_json(&r, buf)))
		s->unsaid = 0;
}

void record_stream_put(struct record_stream *s, const struct record *r)
{
	char buf[RECORD_LINE_MAX];
	size_t length = s->json ? record_print_json(r, buf)
				: record_print_text(r, &s->columns, buf);

	pthread_mutex_lock(&s->lock);
	if (!s->broken) {
		if (s->torn && enqueue(s, "\n", 1))
			s->torn = false;
		enqueue_lost(s);
		if (!enqueue(s, buf, length)) {
			s->lost++;
			s->unsaid++;
		}
	}
	pthread_mutex_unlock(&s->lock);
}

/* The next piece to write: whole lines of at most PIPE_BUF bytes, which a pipe takes as one. */
static size_t next_piece(const struct record_stream *s)
{
	size_t length = s->end - s->start;
	const char *cut;

	if (length <= PIPE_BUF || s->transport == TRANSPORT_FILE)
		return length;
	cut = memrchr(s->queue + s->start, '\n', PIPE_BUF);
	return cut ? (size_t)(cut - (s->queue + s->start)) + 1 : PIPE_BUF;
}

static ssize_t write_piece(struct record_stream *s, size_t length)
{
	const char *at = s->queue + s->start;
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };

	if (s->transport == TRANSPORT_SOCKET)
		return send(s->fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (s->transport == TRANSPORT_POLLED && (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))) {
		errno = p.revents & (POLLERR | POLLNVAL) ? EPIPE : EAGAIN;
		return -1;
	}
	return write(s->fd, at, length);
}

/* The records in a piece of the queue; an empty line is none. */
static uint64_t count_records(const char *at, const char *end)
{
	uint64_t records = 0;
	const char *newline;

	for (; at < end && (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1)
		records += newline > at;
	return records;
}

/* What is queued cannot be written. */
static void drop_queue(struct record_stream *s)
{
	uint64_t records = count_records(s->queue + s->start, s->queue + s->end);

	s->lost += records;
	s->unsaid += records;
	s->torn |= s->start && s->queue[s->start - 1] != '\n';
	s->start = s->end = 0;
}

/* Nobody reads any more: give up quietly. A full disk may have room again, so then the records are lost
 * that had none. */
static void fail_to_write(struct record_stream *s, int err)
{
	if (err == EPIPE || err == EBADF) {
		s->broken = true;
		s->start = s->end = 0;
		return;
	}
	drop_queue(s);
	if (!s->trouble)
		s->trouble = err;
}

bool record_stream_flush(struct record_stream *s)
{
	bool more;

	pthread_mutex_lock(&s->lock);
	while (s->start < s->end) {
		ssize_t n = write_piece(s, next_piece(s));

		if (n > 0)
			s->start += (size_t)n;
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
			break;
		else {
			fail_to_write(s, n < 0 ? errno : EIO);
			break;
		}
	}
	more = s->start < s->end;
	pthread_mutex_unlock(&s->lock);
	return more;
}

int record_stream_fd(const struct record_stream *s)
{
	return s->fd;
}

uint64_t record_stream_lost(struct record_stream *s)
{
	uint64_t lost;

	pthread_mutex_lock(&s->lock);
	lost = s->lost;
	pthread_mutex_unlock(&s->lock);
	return lost;
}

int record_stream_trouble(struct record_stream *s)
{
	int err;

	pthread_mutex_lock(&s->lock);
	err = s->told ? 0 : s->trouble;
	s->told |= err != 0;
	pthread_mutex_unlock(&s->lock);
	return err;
}

bool record_stream_broken(struct record_stream *s)
{
	bool broken;

	pthread_mutex_lock(&s->lock);
	broken = s->broken;
	pthread_mutex_unlock(&s->lock);
	return broken;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t record_stream_free(struct record_stream *s, int ms)
{
	int64_t deadline = now_ms() + ms, left;
	uint64_t lost;

	if (!s)
		return 0;
	enqueue_lost(s);
	while (record_stream_flush(s) && (left = deadline - now_ms()) > 0) {
		struct pollfd p = { .fd = s->fd, .events = POLLOUT };

		poll(&p, 1, (int)left);
	}
	lost = s->lost + count_records(s->queue + s->start, s->queue + s->end);
	if (s->transport == TRANSPORT_OWN)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return lost;
}
