/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A stream must never block the service that writes to it. We share its descriptor with whoever
 * started us, so we must not set its O_NONBLOCK flag: a pipe or terminal is opened once more
 * through /proc (which gives a file description of our own), a socket is written with MSG_DONTWAIT,
 * a regular file never blocks for long. Where none of that works, poll() says when PIPE_BUF bytes
 * fit.
 *
 * The queue is a list of chunks; a line is never split between two of them. It begins with one
 * chunk and returns to one when everything is written, so a reader that keeps up costs one chunk,
 * and a reader that does not costs RECORD_STREAM_MAX.
 *
 * A write that fails (a full disk) leaves the queue unchanged: a partly written record continues
 * where it stopped once there is room, so no line is torn.
 */
#include "base/record_stream.h"

#include "base/record_lines.h"
#include "base/screen.h"
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
#include <unistd.h>

#define CHUNK_SIZE (64 * 1024)
#define CHUNKS_MAX (RECORD_STREAM_MAX / CHUNK_SIZE)

/* How to write to a stream's descriptor without blocking; see the theory of operation. */
enum transport { TRANSPORT_OWN, TRANSPORT_SOCKET, TRANSPORT_FILE, TRANSPORT_POLLED };

struct chunk {
	struct chunk *next;
	size_t start, end; /* of the waiting bytes in text */
	char text[CHUNK_SIZE];
};

struct record_stream {
	pthread_mutex_t lock;
	int fd; /* where to write: our own with TRANSPORT_OWN, else the caller's */
	enum transport transport;
	bool json, broken;
	bool told;   /* about trouble */
	int trouble; /* errno of the last write, if it failed while there was a reader */
	struct record_columns columns;
	struct record_lines *lines; /* for a terminal; NULL: none */
	struct record_losses lost;
	uint64_t written; /* bytes */
	uint64_t unsaid;  /* lost since the last `lost` record */
	struct chunk *first, *last;
	unsigned chunks;
	char name[128]; /* of the descriptor, for messages about trouble */
};

static struct chunk *add_chunk(struct record_stream *s)
{
	struct chunk *c = s->chunks < CHUNKS_MAX ? malloc(sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	c->next = NULL;
	c->start = c->end = 0;
	*(s->last ? &s->last->next : &s->first) = c;
	s->last = c;
	s->chunks++;
	return c;
}

/* The first chunk is written: free it, unless it is the last, which is kept for later records. */
static void drop_chunk(struct record_stream *s)
{
	struct chunk *c = s->first;

	if (c == s->last) {
		c->start = c->end = 0;
		return;
	}
	s->first = c->next;
	s->chunks--;
	free(c);
}

static bool is_empty(const struct record_stream *s)
{
	return s->first == s->last && s->first->start == s->first->end;
}

/* `standard output (/var/log/relay)`: the kernel's name for it, read while /proc is still
 * accessible. */
static void name_descriptor(struct record_stream *s, int fd, const char *proc)
{
	char target[96] = "?";
	ssize_t length = readlink(proc, target, sizeof(target) - 1);

	if (length > 0)
		target[length] = '\0';
	if (fd == STDOUT_FILENO)
		snprintf(s->name, sizeof(s->name), "standard output (%s)", target);
	else
		snprintf(s->name, sizeof(s->name), "descriptor %d (%s)", fd, target);
}

static void choose_transport(struct record_stream *s, int fd)
{
	char path[32];
	struct stat st;
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	name_descriptor(s, fd, path);
	s->fd = fd;
	s->transport = TRANSPORT_POLLED;
	if (fstat(fd, &st) < 0)
		return;
	if (S_ISSOCK(st.st_mode) || S_ISREG(st.st_mode)) {
		s->transport = S_ISSOCK(st.st_mode) ? TRANSPORT_SOCKET : TRANSPORT_FILE;
		return;
	}
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

	if (!s || !add_chunk(s)) {
		report_fail(why, ENOMEM, "malloc", "record queue");
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->json = json;
	s->columns = *columns;
	choose_transport(s, fd);
	return s;
}

/* ---- writing ---- */

/* The next piece to write: whole lines of at most PIPE_BUF bytes, which a pipe takes atomically. */
static size_t next_piece(const struct record_stream *s)
{
	const struct chunk *c = s->first;
	size_t length = c->end - c->start;
	const char *cut;

	if (length <= PIPE_BUF || s->transport == TRANSPORT_FILE)
		return length;
	cut = memrchr(c->text + c->start, '\n', PIPE_BUF);
	return cut ? (size_t)(cut - (c->text + c->start)) + 1 : PIPE_BUF;
}

/* #syscalls base: send, poll, write */
static ssize_t write_piece(struct record_stream *s, size_t length)
{
	const char *at = s->first->text + s->first->start;
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };

	if (s->transport == TRANSPORT_SOCKET)
		return send(s->fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (s->transport == TRANSPORT_POLLED && (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))) {
		errno = p.revents & (POLLERR | POLLNVAL) ? EPIPE : EAGAIN;
		return -1;
	}
	return write(s->fd, at, length);
}

/* The reader is gone. */
static void give_up(struct record_stream *s)
{
	s->broken = true;
	while (!is_empty(s))
		drop_chunk(s);
}

/* What to do after a write that took nothing. True: try again. */
static bool handle_error(struct record_stream *s, int err)
{
	if (err == EINTR)
		return true;
	if (err == EPIPE || err == EBADF)
		give_up(s);
	else if (err != EAGAIN && err != ENOBUFS)
		s->trouble = err;
	return false;
}

/* Called with the lock held. */
static void write_queue(struct record_stream *s)
{
	while (!is_empty(s)) {
		ssize_t n = write_piece(s, next_piece(s));

		if (n <= 0 && !handle_error(s, n < 0 ? errno : EIO))
			return;
		if (n <= 0)
			continue;
		s->trouble = 0;
		s->written += (uint64_t)n;
		s->first->start += (size_t)n;
		if (s->first->start == s->first->end)
			drop_chunk(s);
	}
	s->told = false;
}

/* ---- the queue ---- */

static bool enqueue(struct record_stream *s, const char *text, size_t length)
{
	struct chunk *c = s->last;

	if (c->end + length > sizeof(c->text))
		c = add_chunk(s);
	if (!c)
		return false;
	memcpy(c->text + c->end, text, length);
	c->end += length;
	return true;
}

#define LOST_TYPE "lost"

/* Report in the stream itself how many records are missing. Text has no place for it: there the
 * program reports record_stream_losses(). */
static void enqueue_lost(struct record_stream *s)
{
	char buf[RECORD_LINE_MAX];
	struct record r;

	if (!s->unsaid || !s->json)
		return;
	record_begin(&r, LOST_TYPE);
	record_time_now(&r);
	record_number(&r, RECORD_COUNT, s->unsaid);
	if (enqueue(s, buf, record_print_json(&r, buf)))
		s->unsaid = 0;
}

static bool try_to_enqueue(struct record_stream *s, const char *text, size_t length)
{
	enqueue_lost(s);
	return enqueue(s, text, length);
}

static void count_loss(struct record_stream *s, uint64_t records)
{
	*(s->trouble ? &s->lost.unwritten : &s->lost.unread) += records;
	s->unsaid += records;
}

void record_stream_fit(struct record_stream *s, const struct record_columns *brief, bool header)
{
	if (s->json || !isatty(s->fd) || !(s->lines = malloc(sizeof(*s->lines))))
		return; /* lay them out as for a file */
	*s->lines = (struct record_lines){
		.columns = brief ? *brief : s->columns,
		.brief = brief,
		.header_due = header,
		.screen = screen_columns(s->fd),
	};
}

static size_t print(const struct record_stream *s, const struct record *r,
		    char buf[RECORD_LINES_MAX])
{
	return s->json ? record_print_json(r, buf) : record_print_text(r, &s->columns, buf);
}

void record_stream_put(struct record_stream *s, const struct record *r)
{
	char buf[RECORD_LINES_MAX];
	size_t length = s->lines ? 0 : print(s, r, buf);

	pthread_mutex_lock(&s->lock);
	if (s->lines) /* under the lock because of the header */
		length = record_lines_print(s->lines, r, buf);
	if (!s->broken && !try_to_enqueue(s, buf, length)) {
		write_queue(s);
		if (!s->broken && !try_to_enqueue(s, buf, length))
			count_loss(s, 1);
	}
	pthread_mutex_unlock(&s->lock);
}

bool record_stream_flush(struct record_stream *s)
{
	bool more;

	pthread_mutex_lock(&s->lock);
	enqueue_lost(s);
	write_queue(s);
	more = s->trouble ? !s->told : !is_empty(s);
	pthread_mutex_unlock(&s->lock);
	return more;
}

int record_stream_fd(const struct record_stream *s)
{
	return s->fd;
}

/* ---- what is asked of it ---- */

/* A line that reports losses does not count as a record: those records have been counted. Nor does
 * a further line of a record. */
static bool is_record(const char *line, size_t length)
{
	static const char type[] = "\"type\":\"" LOST_TYPE "\"";

	if (length && *line == ' ')
		return false;
	return !memmem(line, length < 32 ? length : 32, type, sizeof(type) - 1);
}

/* The waiting records; the first one may be partly written. */
static uint64_t count_waiting(const struct record_stream *s)
{
	uint64_t records = 0;

	for (const struct chunk *c = s->first; c; c = c->next) {
		const char *line = c->text + c->start, *end = c->text + c->end, *newline;

		for (; line < end; line = newline + 1) {
			newline = memchr(line, '\n', (size_t)(end - line));
			records += is_record(line, (size_t)(newline - line));
		}
	}
	return records;
}

uint64_t record_stream_waiting(struct record_stream *s)
{
	uint64_t waiting;

	pthread_mutex_lock(&s->lock);
	waiting = count_waiting(s);
	pthread_mutex_unlock(&s->lock);
	return waiting;
}

uint64_t record_stream_written(struct record_stream *s)
{
	uint64_t written;

	pthread_mutex_lock(&s->lock);
	written = s->written;
	pthread_mutex_unlock(&s->lock);
	return written;
}

bool record_stream_is_congested(struct record_stream *s)
{
	bool congested;

	pthread_mutex_lock(&s->lock);
	if (s->chunks > CHUNKS_MAX / 2)
		write_queue(s);
	congested = s->chunks > CHUNKS_MAX / 2 && !s->trouble;
	pthread_mutex_unlock(&s->lock);
	return congested;
}

struct record_losses record_stream_losses(struct record_stream *s)
{
	struct record_losses lost;

	pthread_mutex_lock(&s->lock);
	lost = s->lost;
	pthread_mutex_unlock(&s->lock);
	return lost;
}

bool record_stream_trouble(struct record_stream *s, struct failure *why)
{
	bool news;

	pthread_mutex_lock(&s->lock);
	news = s->trouble && !s->told;
	if (news) {
		report_fail(why, s->trouble, "write", "records: %s", s->name);
		report_hint(why, "they wait for room, up to %d MiB of them",
			    RECORD_STREAM_MAX >> 20);
		s->told = true;
	}
	pthread_mutex_unlock(&s->lock);
	return news;
}

bool record_stream_is_broken(struct record_stream *s)
{
	bool broken;

	pthread_mutex_lock(&s->lock);
	broken = s->broken;
	pthread_mutex_unlock(&s->lock);
	return broken;
}

const char *record_stream_losses_text(const struct record_losses *losses, char *buf)
{
	unsigned long long unread = losses->unread, unwritten = losses->unwritten;
	bool one = unread + unwritten == 1;

	if (!unread && !unwritten)
		return NULL;
	if (unread && unwritten)
		snprintf(buf, RECORD_LOSSES_TEXT,
			 "%llu records were lost: their reader was too slow for %llu, and %llu "
			 "could not be written",
			 unread + unwritten, unread, unwritten);
	else
		snprintf(buf, RECORD_LOSSES_TEXT, "%llu record%s lost: %s", unread + unwritten,
			 one ? " was" : "s were",
			 unread ? (one ? "its reader was too slow" : "their reader was too slow")
				: (one ? "it could not be written" : "they could not be written"));
	return buf;
}

struct record_losses record_stream_free(struct record_stream *s)
{
	struct record_losses lost = { 0 };

	if (!s)
		return lost;
	record_stream_flush(s);
	count_loss(s, count_waiting(s));
	lost = s->lost;
	if (s->transport == TRANSPORT_OWN)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	while (s->first != s->last)
		drop_chunk(s);
	free(s->last);
	free(s->lines);
	free(s);
	return lost;
}
