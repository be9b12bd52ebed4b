/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/relay_client.h"

#include "base/record_parse.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PREFIX	    "@tproxy-relay/"
#define TIMEOUT_S   10
#define ACCEPTS	    0x10000 /* __SO_ACCEPTCON among the flags of /proc/net/unix (linux/net.h) */
#define BUFFER_SIZE 65536

/* ---- names ---- */

/* `@tproxy-relay/` and a number, possibly `.` and another one: so nothing else reaches a
 * terminal. */
static bool is_name(const char *name)
{
	size_t digits;

	if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0)
		return false;
	name += sizeof(PREFIX) - 1;
	digits = strspn(name, "0123456789");
	if (!digits || digits > 10)
		return false;
	name += digits;
	return !*name || (*name == '.' && name[1] >= '2' && name[1] <= '9' && !name[2]);
}

/* `Num RefCount Protocol Flags Type St Inode Path` (proc(5)); the address, if a relay listens
 * there. */
static const char *listener_of(char *line)
{
	unsigned flags;
	int at = 0;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%*[^:]: %*x %*x %x %*x %*x %*u %n", &flags, &at) != 1 || !at ||
	    !(flags & ACCEPTS) || !is_name(line + at))
		return NULL;
	return line + at;
}

int relay_client_each(int (*visit)(const char *name, void *context), void *context,
		      struct failure *why)
{
	FILE *list = fopen("/proc/self/net/unix", "re");
	size_t room = 0;
	char *line = NULL;
	int result = 0;

	if (!list)
		return report_fail(why, errno, "open", "/proc/self/net/unix");
	while (result == 0 && getline(&line, &room, list) > 0) {
		const char *name = listener_of(line);

		if (name)
			result = visit(name, context);
	}
	free(line);
	fclose(list);
	return result;
}

/* ---- one question ---- */

/* An answer in progress. */
struct talk {
	int fd;
	const char *name, *command;
	struct relay_client_peer peer;
	relay_client_judge *trusts; /* NULL: anybody is asked */
	relay_client_visitor *visit;
	void *context;
	bool ended;
	char *buffer; /* BUFFER_SIZE bytes; those from start to end are read but not parsed */
	size_t start, end;
};

static int connect_to(const char *name, unsigned timeout_s, struct failure *why)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const struct timeval limit = { .tv_sec = timeout_s };
	bool abstract = name[0] == '@';
	size_t length = strlen(name);
	int fd;

	if (length >= sizeof(at.sun_path))
		return report_fail(why, ENAMETOOLONG, "connect", "%s", name);
	memcpy(at.sun_path, name, length);
	if (abstract)
		at.sun_path[0] = '\0';
	length += offsetof(struct sockaddr_un, sun_path) + !abstract;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return report_fail(why, errno, "socket", "%s", name);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&at, (socklen_t)length) == 0)
		return fd;
	report_fail(why, errno, "connect", "%s", name);
	close(fd);
	return -1;
}

static int ask(struct talk *t, struct failure *why)
{
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);
	char line[128];
	int size = snprintf(line, sizeof(line), "%s\n", t->command);

	if (getsockopt(t->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
		t->peer = (struct relay_client_peer){ peer.pid, peer.uid };
	if (t->trusts && !t->trusts(&t->peer, t->context)) {
		report_refuse(why, "belongs to a process of uid %u", (unsigned)t->peer.uid);
		why->err = EPERM;
		return report_about(why, "%s", t->name);
	}
	if (size < 0 || size >= (int)sizeof(line))
		return report_refuse(why, "no such command");
	if (send(t->fd, line, (size_t)size, MSG_NOSIGNAL) != size)
		return report_fail(why, errno, "send", "%s", t->name);
	/* The end of our data tells the relay that it may hang up. */
	shutdown(t->fd, SHUT_WR);
	return 0;
}

/* The relay answers with an error. */
static int handle_error(const struct talk *t, const struct record *r, struct failure *why)
{
	const char *text = record_get_text(r, RECORD_EVIDENCE);

	report_refuse(why, "%s", text ? text : "it cannot answer");
	return report_about(why, "%s: %s", t->name, t->command);
}

static int handle_line(struct talk *t, const char *line, size_t length, struct failure *why)
{
	struct record_texts texts;
	struct record r;
	const char *type;

	if (length >= RECORD_LINE_MAX || record_parse_json(line, length, &r, &texts, why) < 0) {
		if (length >= RECORD_LINE_MAX)
			report_refuse(why, "a line that is longer than any record");
		return report_about(why, "%s: %s", t->name, t->command);
	}
	type = record_get_text(&r, RECORD_TYPE);
	if (strcmp(type, "error") == 0)
		return handle_error(t, &r, why);
	t->ended = strcmp(type, "end") == 0;
	return t->ended ? 0 : t->visit(&r, &t->peer, t->context, why);
}

/* Handle all complete lines received so far. */
static int handle_lines(struct talk *t, struct failure *why)
{
	char *at, *end;

	while (!t->ended &&
	       (at = t->buffer + t->start, end = memchr(at, '\n', t->end - t->start)) != NULL) {
		t->start += (size_t)(end - at) + 1;
		if (handle_line(t, at, (size_t)(end - at), why) < 0)
			return -1;
	}
	memmove(t->buffer, t->buffer + t->start, t->end - t->start);
	t->end -= t->start;
	t->start = 0;
	return 0;
}

static int receive(struct talk *t, struct failure *why)
{
	ssize_t got = recv(t->fd, t->buffer + t->end, BUFFER_SIZE - t->end, 0);

	if (got < 0 && errno == EINTR)
		return 0;
	if (got < 0)
		return report_fail(why, errno == EAGAIN ? ETIMEDOUT : errno, "recv", "%s", t->name);
	if (got == 0) {
		report_refuse(why, "the answer ended before its end");
		return report_about(why, "%s: %s", t->name, t->command);
	}
	t->end += (size_t)got;
	if (handle_lines(t, why) < 0)
		return -1;
	if (t->end < BUFFER_SIZE)
		return 0;
	return handle_line(t, t->buffer, t->end, why); /* fails because it is too long */
}

int relay_client_ask_trusted(const char *name, const char *command, unsigned timeout_s,
			     relay_client_judge *trusts, relay_client_visitor *visit, void *context,
			     struct failure *why)
{
	struct talk t = { .name = name,
			  .command = command,
			  .trusts = trusts,
			  .visit = visit,
			  .context = context };
	int result;

	t.fd = connect_to(name, timeout_s, why);
	if (t.fd < 0)
		return -1;
	t.buffer = malloc(BUFFER_SIZE);
	result = t.buffer ? ask(&t, why) : report_fail(why, ENOMEM, "malloc", "%s", name);
	while (result == 0 && !t.ended)
		result = receive(&t, why);
	free(t.buffer);
	close(t.fd);
	return result;
}

int relay_client_ask_within(const char *name, const char *command, unsigned timeout_s,
			    relay_client_visitor *visit, void *context, struct failure *why)
{
	return relay_client_ask_trusted(name, command, timeout_s, NULL, visit, context, why);
}

int relay_client_ask(const char *name, const char *command, relay_client_visitor *visit,
		     void *context, struct failure *why)
{
	return relay_client_ask_within(name, command, TIMEOUT_S, visit, context, why);
}
