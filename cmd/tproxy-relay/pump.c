/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Small data is read into one buffer that the whole thread shares, and sent on at once; only what
 * the receiver does not take is copied to the heap. Two reads in a row that fill the buffer switch
 * a pump to bulk: then pages move from socket to socket through a pipe, which costs less than half.
 * Below 16 KiB splicing gains nothing, so four small splices in a row, or a pause, switch back to
 * copying.
 *
 * A pipe is borrowed for one call and given back empty; it stays with the pump only while the
 * receiver takes no more. It is filled only when it is empty: then EAGAIN means that the socket is
 * empty, never that the pipe is full. SPLICE_F_MORE is never set: it would cork the last bytes for
 * 200 ms.
 *
 * splice() stops at an urgent mark. It then fails with EAGAIN or, when FIN is in the queue as well,
 * returns 0 (tcp_splice_read() in net/ipv4/tcp.c). Only recv() distinguishes the end of data from a
 * mark, and it reads past the mark because the sockets have SO_OOBINLINE.
 *
 * If splice() refuses, the pump copies from then on, and reads what the pipe holds out of it.
 *
 * To bound what waits here when the receiver stops reading, the sender's window is held from the
 * first full buffer on (window.h). It is released to the kernel's autotuning only when the receiver
 * has taken some RUNs without a pause.
 */
#include "tproxy-relay/pump.h"
#include "base/libc.h"
#include "tproxy-relay/window.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUN	      (256 * 1024)
#define SMALL_SPLICE  16384
#define SMALL_SPLICES 3 /* in a row, after the first */

struct pump_held {
	size_t start, end;
	size_t preface; /* bytes at the start of data that are not the sender's */
	char data[];
};

bool pump_is_heavy(const struct pump *w)
{
	return w->bulk || w->large;
}

bool pump_is_full(const struct pump *w)
{
	return w->held != NULL;
}

/* Is there just nothing to read, or no room, at this moment? An interrupted call does not say: it
 * is repeated. */
static bool is_transient(int error)
{
	return error == EAGAIN;
}

/* Does splice() not support this, as opposed to a failed socket? */
static bool is_refusal(int error)
{
	return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == ENOMEM;
}

/* ---- copying ---- */

static struct pump_held *new_held(size_t length)
{
	struct pump_held *held = malloc(sizeof(*held) + length);

	if (!held)
		return NULL;
	held->start = 0;
	held->end = length;
	held->preface = 0;
	return held;
}

static enum pump_result hold(struct pump *w, const char *data, size_t length)
{
	struct pump_held *held = new_held(length);

	if (!held)
		return PUMP_NO_MEMORY;
	memcpy(held->data, data, length);
	w->held = held;
	return PUMP_FULL;
}

/* Send as much as the receiver takes; -1: it has failed. */
/* #syscalls upstream: send */
static ssize_t send_some(struct pump *w, int to, const char *data, size_t length, int flags)
{
	ssize_t sent = TEMP_FAILURE_RETRY(send(to, data, length, flags | MSG_NOSIGNAL));

	if (sent > 0)
		w->bytes += (uint64_t)sent;
	return sent < 0 && is_transient(errno) ? 0 : sent;
}

/* How many of the bytes from this offset on belong to the preface. */
static size_t preface_within(const struct pump_held *held, size_t from, size_t count)
{
	size_t left = from < held->preface ? held->preface - from : 0;

	return left < count ? left : count;
}

static enum pump_result push_copy(struct pump *w, int to, bool more)
{
	struct pump_held *held = w->held;
	ssize_t sent = send_some(w, to, held->data + held->start, held->end - held->start,
				 more ? MSG_MORE : 0);

	if (sent < 0)
		return PUMP_TO_FAILED;
	w->bytes -= preface_within(held, held->start, (size_t)sent);
	held->start += (size_t)sent;
	if (held->start < held->end)
		return PUMP_FULL;
	free(held);
	w->held = NULL;
	return PUMP_ON;
}

/* #syscalls upstream: recv */
static enum pump_result pull_copy(struct pump *w, int from, int to, struct pump_tools *tools,
				  bool last)
{
	ssize_t sent, got = TEMP_FAILURE_RETRY(recv(from, tools->buffer, PUMP_BUFFER, 0));
	bool filled = got == PUMP_BUFFER;

	if (got == 0)
		return PUMP_ENDED;
	if (got < 0)
		return is_transient(errno) ? PUMP_EMPTY : PUMP_FROM_FAILED;
	w->bulk = filled && w->large;
	w->large = filled;
	/* The shutdown that follows pushes out what MSG_MORE holds back, in one segment with
	 * FIN. */
	sent = send_some(w, to, tools->buffer, (size_t)got, last && !filled ? MSG_MORE : 0);
	if (sent < 0)
		return PUMP_TO_FAILED;
	if (sent < got)
		return hold(w, tools->buffer + sent, (size_t)(got - sent));
	if (filled)
		return PUMP_ON;
	return last ? PUMP_ENDED : PUMP_SHORT;
}

/* ---- splicing ---- */

/* #syscalls upstream: splice */
static ssize_t move(int from, int to, size_t most)
{
	const unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

	return TEMP_FAILURE_RETRY(splice(from, NULL, to, NULL, most, flags));
}

static void keep_pipe(struct pump *w, struct pipe *pipe)
{
	w->pipe = pipe;
	w->piped = true;
}

static void give_back(struct pump *w, struct pipe *pipe, struct pump_tools *tools)
{
	int saved = errno;

	pipes_give(&tools->pipes, pipe);
	w->pipe = NULL;
	w->piped = false;
	errno = saved;
}

/*
 * A pipe never holds more than the receiver has taken so far; otherwise a whole pipe would be read
 * in advance for a receiver that reads nothing. It holds less than that, because the kernel makes
 * the sender's window a multiple of what is read at once.
 */
static size_t most_of(const struct pump *w)
{
	size_t most = w->bytes / 4;

	if (most > PIPES_SIZE)
		return PIPES_SIZE;
	return most > PUMP_BUFFER ? most : PUMP_BUFFER;
}

static void note_splice(struct pump *w, size_t moved)
{
	if (moved >= SMALL_SPLICE)
		w->small = 0;
	else if (w->small < SMALL_SPLICES)
		w->small++;
	else
		pump_rest(w);
}

/* splice() does not support this receiver: hold a copy of what the pipe holds. */
static enum pump_result unload(struct pump *w, struct pipe *pipe, struct pump_tools *tools)
{
	size_t length = pipe->held;
	struct pump_held *held = new_held(length);
	bool whole = held &&
		     TEMP_FAILURE_RETRY(read(pipe->from, held->data, length)) == (ssize_t)length;

	if (whole)
		pipe->held = 0;
	else
		free(held);
	give_back(w, pipe, tools);
	w->copies = true;
	w->held = whole ? held : NULL;
	return whole ? PUMP_FULL : PUMP_NO_MEMORY;
}

/* Send what the pipe holds, and give the pipe back unless the receiver takes no more. */
static enum pump_result drain_pipe(struct pump *w, struct pipe *pipe, int to,
				   struct pump_tools *tools)
{
	ssize_t moved = 1;

	while (pipe->held && moved > 0) {
		moved = move(pipe->from, to, pipe->held);
		if (moved <= 0)
			break;
		pipe->held -= (size_t)moved;
		w->bytes += (uint64_t)moved;
	}
	if (moved < 0 && is_refusal(errno))
		return unload(w, pipe, tools);
	if (pipe->held && (moved == 0 || is_transient(errno))) {
		keep_pipe(w, pipe);
		return PUMP_FULL;
	}
	give_back(w, pipe, tools);
	return moved < 0 ? PUMP_TO_FAILED : PUMP_ON;
}

static enum pump_result pull_pipe(struct pump *w, int from, int to, struct pump_tools *tools,
				  struct pipe *pipe, bool last)
{
	ssize_t got = move(from, pipe->to, most_of(w));
	enum pump_result result;

	if (got > 0) {
		note_splice(w, (size_t)got);
		pipe->held = (size_t)got;
		result = drain_pipe(w, pipe, to, tools);
		return result == PUMP_ON ? PUMP_SHORT : result;
	}
	give_back(w, pipe, tools);
	if (got < 0 && is_transient(errno)) {
		note_splice(w, 0); /* also if urgent data stops splice(): that takes a recv() */
		return PUMP_EMPTY;
	}
	if (got < 0 && !is_refusal(errno))
		return PUMP_FROM_FAILED;
	w->copies = got < 0;
	return pull_copy(w, from, to, tools, last);
}

/* ---- either ---- */

/* Hold the sender's window until the receiver has taken this many more RUNs. */
static void narrow(struct pump *w, int from, int to, unsigned runs)
{
	w->widen = (w->bytes / RUN + runs) & 7;
	if (w->narrow)
		return;
	w->narrow = true;
	window_limit_unsent(to);
	if (w->bytes < RUN)
		window_shrink(from);
	else
		window_hold(from);
}

/*
 * A receiver that takes no more is the slower side: the sender's window is large enough. After two
 * or three RUNs without a pause the sender may be the slower side, because its window is too small.
 * (The difference is taken modulo 8, and a read brings at most four RUNs.)
 */
static void steer(struct pump *w, int from, int to, enum pump_result result)
{
	if (result == PUMP_FULL) {
		narrow(w, from, to, 3);
	} else if (w->narrow && ((w->bytes / RUN - w->widen) & 7) < 5) {
		window_release(from);
		w->narrow = false;
	}
}

enum pump_result pump_push(struct pump *w, int to, struct pump_tools *tools, bool more)
{
	if (!pump_is_full(w))
		return PUMP_ON;
	return w->piped ? drain_pipe(w, w->pipe, to, tools) : push_copy(w, to, more);
}

enum pump_result pump_pull(struct pump *w, int from, int to, struct pump_tools *tools, bool last)
{
	struct pipe *pipe = w->bulk && !w->copies ? pipes_take(&tools->pipes) : NULL;
	bool was_heavy = pump_is_heavy(w);
	enum pump_result result = pipe ? pull_pipe(w, from, to, tools, pipe, last)
				       : pull_copy(w, from, to, tools, last);

	if (result > PUMP_FULL)
		return result; /* errno, too */
	if (pump_is_heavy(w) && (!was_heavy || w->bytes < RUN))
		narrow(w, from, to, 2);
	else
		steer(w, from, to, result);
	return result;
}

enum pump_result pump_take(struct pump *w, int from, struct pump_tools *tools)
{
	ssize_t got = TEMP_FAILURE_RETRY(recv(from, tools->buffer, PUMP_BUFFER, 0));

	if (got == 0)
		return PUMP_ENDED;
	if (got < 0)
		return is_transient(errno) ? PUMP_EMPTY : PUMP_FROM_FAILED;
	w->large = got == PUMP_BUFFER;
	return hold(w, tools->buffer, (size_t)got);
}

enum pump_result pump_preface(struct pump *w, const void *data, size_t length)
{
	size_t rest = w->held ? w->held->end : 0;
	struct pump_held *held = realloc(w->held, sizeof(*held) + length + rest);

	if (!held)
		return PUMP_NO_MEMORY;
	memmove(held->data + length, held->data, rest);
	memcpy(held->data, data, length);
	held->start = 0;
	held->end = length + rest;
	held->preface = length;
	w->held = held;
	return PUMP_FULL;
}

void pump_rest(struct pump *w)
{
	w->bulk = false;
	w->large = false;
	w->small = 0;
}

void pump_drop(struct pump *w, struct pump_tools *tools)
{
	if (w->piped)
		give_back(w, w->pipe, tools);
	else
		free(w->held);
	w->held = NULL;
}
