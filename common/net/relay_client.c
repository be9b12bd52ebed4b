/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/relay_client.h"

#include "base/clock.h"
#include "base/record_parse.h"
#include "net/unixdiag.h"
#include <errno.h>
#include <fcntl.h>
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
#define LIMIT_MS    3000    /* for the whole answer of another user */
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

/* ---- who listens ---- */

struct list {
	struct relay_client_listener *at;
	size_t count, room;
	bool failed; /* no memory */
};

static void add(struct list *list, const struct relay_client_listener *l)
{
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 8;
		struct relay_client_listener *grown = realloc(list->at, room * sizeof(*grown));

		list->failed |= !grown;
		if (!grown)
			return;
		list->at = grown;
		list->room = room;
	}
	list->at[list->count++] = *l;
}

static void take_listener(const struct unixdiag_listener *found, void *context)
{
	struct relay_client_listener l = { .known = found->known, .uid = found->uid };

	if (!is_name(found->name))
		return;
	memcpy(l.name, found->name, strlen(found->name) + 1); /* is_name() bounds it */
	add(context, &l);
}

/* `Num RefCount Protocol Flags Type St Inode Path` (proc(5)); the address, if a relay listens
 * there. */
static const char *listener_of(char *line)
{
	unsigned flags, type;
	int at = 0;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%*[^:]: %*x %*x %x %x %*x %*u %n", &flags, &type, &at) != 2 || !at ||
	    !(flags & ACCEPTS) || type != SOCK_STREAM || !is_name(line + at))
		return NULL;
	return line + at;
}

/* It does not tell whose they are.
 * #syscalls collect: openat(O_RDONLY), fstat, read, lseek */
static int list_proc(struct list *list, struct failure *why)
{
	FILE *file = fopen("/proc/self/net/unix", "re");
	size_t room = 0;
	char *line = NULL;

	if (!file)
		return report_fail(why, errno, "open", "/proc/self/net/unix");
	while (getline(&line, &room, file) > 0) {
		struct relay_client_listener l = { .known = false };
		const char *name = listener_of(line);

		if (!name)
			continue;
		snprintf(l.name, sizeof(l.name), "%s", name);
		add(list, &l);
	}
	free(line);
	fclose(file);
	return 0;
}

static int list_all(struct list *list, struct failure *why)
{
	if (unixdiag_each(take_listener, list, NULL) < 0) {
		list->count = 0;
		if (list_proc(list, why) < 0)
			return -1;
	}
	return list->failed ? report_fail(why, ENOMEM, "malloc", "list of relays") : 0;
}

int relay_client_each(int (*visit)(const struct relay_client_listener *at, void *context),
		      void *context, struct failure *why)
{
	struct list list = { .count = 0 };
	int result = list_all(&list, why);

	for (size_t i = 0; result == 0 && i < list.count; i++)
		result = visit(&list.at[i], context);
	free(list.at);
	return result;
}

bool relay_client_is_own(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

/* ---- one question ---- */

/* An answer in progress. */
struct talk {
	int fd;
	const char *name, *command;
	const struct relay_client_listener *at; /* NULL: nobody, or a path */
	struct relay_client_peer peer;
	relay_client_judge *trusts; /* NULL: anybody is asked */
	relay_client_visitor *visit;
	void *context;
	bool bounded;	   /* the whole answer of another user, too */
	uint64_t deadline; /* of clock_ms(); 0: none while records come */
	bool ended;
	char *buffer; /* BUFFER_SIZE bytes; those from start to end are read but not parsed */
	size_t start, end;
};

/* The address of a socket: its length, or 0: too long. */
static socklen_t put_address(struct sockaddr_un *to, const char *name)
{
	bool abstract = name[0] == '@';
	size_t length = strlen(name);

	if (length >= sizeof(to->sun_path))
		return 0;
	memcpy(to->sun_path, name, length);
	if (abstract)
		to->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + !abstract);
}

/* Whoever fills its own queue would make each caller wait out its timeout. A path is only reached
 * by who may, and a name that nobody listens at refuses at once. */
static bool is_waited_for(const struct relay_client_listener *at)
{
	return !at || (at->known && relay_client_is_own(at->uid));
}

static int refuse_full(const struct talk *t, struct failure *why)
{
	if (is_waited_for(t->at))
		return report_fail(why, ETIMEDOUT, "connect", "%s", t->name);
	if (t->at->known)
		report_refuse(why, "its queue is full, and uid %u is not waited for",
			      (unsigned)t->at->uid);
	else
		report_refuse(why, "its queue is full, and this kernel does not tell whose it is");
	if (why)
		why->err = EAGAIN;
	return report_about(why, "connect: %s", t->name);
}

/* #syscalls collect: setsockopt(SOL_SOCKET, SO_RCVTIMEO), setsockopt(SOL_SOCKET, SO_SNDTIMEO)
 * #syscalls collect: fcntl(F_SETFL) */
static int set_blocking(int fd, unsigned timeout_s)
{
	const struct timeval limit = { .tv_sec = timeout_s };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fcntl(fd, F_SETFL, 0);
}

/* #syscalls collect: socket(AF_UNIX, SOCK_STREAM, 0), connect */
static int connect_to(struct talk *t, unsigned timeout_s, struct failure *why)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	socklen_t length = put_address(&to, t->name);
	int result;

	if (!length)
		return report_fail(why, ENAMETOOLONG, "connect", "%s", t->name);
	t->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (t->fd < 0)
		return report_fail(why, errno, "socket", "%s", t->name);
	if (is_waited_for(t->at))
		set_blocking(t->fd, timeout_s);
	result = connect(t->fd, (const struct sockaddr *)&to, length);
	if (result < 0 && errno == EAGAIN)
		return refuse_full(t, why);
	if (result < 0 || set_blocking(t->fd, timeout_s) < 0)
		return report_fail(why, errno, "connect", "%s", t->name);
	return 0;
}

/* #syscalls collect: getsockopt, geteuid, send, shutdown */
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
	if (t->bounded && !relay_client_is_own(t->peer.uid))
		t->deadline = clock_ms() + LIMIT_MS;
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

/* #syscalls collect: recv */
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
	if (t->deadline && clock_ms() >= t->deadline)
		return report_fail(why, ETIMEDOUT, "recv", "%s", t->name);
	t->end += (size_t)got;
	if (handle_lines(t, why) < 0)
		return -1;
	if (t->end < BUFFER_SIZE)
		return 0;
	return handle_line(t, t->buffer, t->end, why); /* fails because it is too long */
}

static int talk(struct talk *t, unsigned timeout_s, struct failure *why)
{
	int result = connect_to(t, timeout_s, why);

	t->buffer = malloc(BUFFER_SIZE);
	if (result == 0)
		result = t->buffer ? ask(t, why)
				   : report_fail(why, ENOMEM, "malloc", "%s", t->name);
	while (result == 0 && !t->ended)
		result = receive(t, why);
	free(t->buffer);
	if (t->fd >= 0)
		close(t->fd);
	return result;
}

int relay_client_ask_trusted(const struct relay_client_listener *at, const char *command,
			     unsigned timeout_s, relay_client_judge *trusts,
			     relay_client_visitor *visit, void *context, struct failure *why)
{
	struct talk t = { .fd = -1,
			  .name = at->name,
			  .at = at,
			  .command = command,
			  .bounded = true,
			  .trusts = trusts,
			  .visit = visit,
			  .context = context };

	return talk(&t, timeout_s, why);
}

int relay_client_ask_within(const struct relay_client_listener *at, const char *command,
			    unsigned timeout_s, relay_client_visitor *visit, void *context,
			    struct failure *why)
{
	return relay_client_ask_trusted(at, command, timeout_s, NULL, visit, context, why);
}

/* Name in, listener out. */
static int find(const struct relay_client_listener *at, void *context)
{
	struct relay_client_listener *wanted = context;

	if (strcmp(at->name, wanted->name) != 0)
		return 0;
	*wanted = *at;
	return 1;
}

int relay_client_ask(const char *name, const char *command, relay_client_visitor *visit,
		     void *context, struct failure *why)
{
	struct relay_client_listener at = { .known = false };
	struct talk t = {
		.fd = -1, .name = name, .command = command, .visit = visit, .context = context
	};

	snprintf(at.name, sizeof(at.name), "%s", name);
	if (relay_client_each(find, &at, NULL) > 0 && strcmp(at.name, name) == 0)
		t.at = &at;
	return talk(&t, TIMEOUT_S, why);
}
