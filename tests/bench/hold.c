/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hold - keeps many connections open that have carried something and then fallen silent.
 *
 *	hold ADDRESS:PORT PATH
 *
 * Each line on stdin is a number: connections are opened until there are that many, every one of
 * them fetches PATH over HTTP/1.1 and then stays open, idle. The number is printed once all have
 * their answer. They end with the program, at the end of stdin.
 */
#include "base/endpoint.h"
#include "base/report.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define TIMEOUT 10 /* seconds for one connect, send or recv */
#define BATCH	32 /* how many are opened at once */

struct hold {
	struct endpoint server;
	const char *where, *path; /* as the user wrote them */
	int *fds;
	size_t count, room;
};

/* A connected socket, or -1. */
static int hold_connect(const struct hold *h, struct failure *why)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT };
	union endpoint_sockaddr sa;
	socklen_t length = endpoint_to_sockaddr(&h->server, &sa);
	int fd = socket(sa.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return report_fail(why, errno, "socket", "connection %zu", h->count + 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, &sa.sa, length) == 0)
		return fd;
	report_fail(why, errno, "connect", "%s: connection %zu", h->where, h->count + 1);
	close(fd);
	return -1;
}

/* How long the answer that begins with this text will be, or 0 while its header is incomplete. */
static size_t hold_length(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");
	const char *field = strcasestr(text, "\r\nContent-Length:");

	if (!end)
		return 0;
	return (size_t)(end + 4 - text) +
	       (field && field < end ? strtoul(field + 17, NULL, 10) : 0);
}

static int hold_ask(const struct hold *h, int fd, struct failure *why)
{
	char request[512];
	int size = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: hold\r\n\r\n",
			    h->path);

	if (send(fd, request, (size_t)size, MSG_NOSIGNAL) == size)
		return 0;
	return report_fail(why, errno, "send", "%s: connection %zu", h->where, h->count + 1);
}

/* Read the answer to its last byte: nothing must be on its way when we rest. */
static int hold_answer(const struct hold *h, size_t which, struct failure *why)
{
	char answer[65536];
	size_t got = 0, whole = 0;

	while (!whole || got < whole) {
		ssize_t n = recv(h->fds[which], answer + got, sizeof(answer) - 1 - got, 0);

		if (n < 0)
			return report_fail(why, errno, "recv", "%s: connection %zu", h->where,
					   which + 1);
		if (n == 0)
			return report_refuse(why,
					     "%s: connection %zu: ended by the other side, or an "
					     "answer of more than 64K",
					     h->where, which + 1);
		got += (size_t)n;
		answer[got] = '\0';
		whole = hold_length(answer);
	}
	return 0;
}

static int hold_grow(struct hold *h, struct failure *why)
{
	size_t room = h->room ? 2 * h->room : 1024;
	int *fds = reallocarray(h->fds, room, sizeof(*fds));

	if (!fds)
		return report_fail(why, errno, "reallocarray", "%zu connections", room);
	h->fds = fds;
	h->room = room;
	return 0;
}

/* One connection more, with the request on its way. */
static int hold_open(struct hold *h, struct failure *why)
{
	int fd;

	if (h->count == h->room && hold_grow(h, why) < 0)
		return -1;
	fd = hold_connect(h, why);
	if (fd < 0)
		return -1;
	h->fds[h->count] = fd;
	if (hold_ask(h, fd, why) < 0)
		return -1;
	h->count++;
	return 0;
}

/* Until there are so many: a batch is opened before its answers are waited for. */
static int hold_until(struct hold *h, size_t wanted, struct failure *why)
{
	while (h->count < wanted) {
		size_t first = h->count, i;

		while (h->count < wanted && h->count - first < BATCH)
			if (hold_open(h, why) < 0)
				return -1;
		for (i = first; i < h->count; i++)
			if (hold_answer(h, i, why) < 0)
				return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct hold h = { 0 };
	struct failure why = { 0 };
	size_t wanted;

	report_init("hold");
	if (argc != 3 || strlen(argv[2]) > 256) {
		report_error("usage: hold ADDRESS:PORT PATH, and numbers on stdin");
		return STATUS_USAGE;
	}
	h.where = argv[1];
	h.path = argv[2];
	if (endpoint_parse(h.where, &h.server, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	while (scanf("%zu", &wanted) == 1) {
		if (hold_until(&h, wanted, &why) < 0)
			return report_failure(&why, STATUS_REFUSED);
		printf("%zu\n", h.count);
		fflush(stdout);
	}
	free(h.fds);
	return report_close_stdout(STATUS_DONE);
}
