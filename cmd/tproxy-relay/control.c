/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A client is in one of three states: the relay waits for its command (EPOLLIN), other threads are
 * making its answer (not watched), or the answer waits for the client to read (EPOLLOUT). In the
 * first and the last state it has CONTROL_IDLE_MS from the last byte in either direction. A failed
 * write closes the connection.
 */
#include "tproxy-relay/control.h"
#include "base/container.h"
#include "base/report.h"
#include "process/loop.h"
#include "tproxy-relay/answer.h"
#include "tproxy-relay/file_helper.h"
#include "tproxy-relay/relay.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define COMMAND_MAX  128
#define NAMES_MAX    9
#define BACKLOG	     16
#define RETRY_MS     1000  /* before accepting again after a shortage of descriptors */
#define OVERFLOW_UID 65534 /* the kernel's uid for any unmapped user (user_namespaces(7)) */

struct client {
	struct control *control;
	struct loop_source source;
	struct loop_timer timer;
	uint64_t since; /* loop_now() of the last byte in either direction */
	bool stranger;	/* may not ask */
	bool ended;	/* it will send no more */
	bool broken;	/* it can no longer be answered */
	char command[COMMAND_MAX];
	size_t length;
	struct answer answer;
};

/* A listener: on the name, or on the path. */
struct door {
	struct loop_source source;
	struct control *control;
	bool guarded; /* clients' credentials are checked */
};

struct control {
	struct relay *relay;
	struct door name, path;
	struct loop_timer retry;
	struct client clients[CONTROL_CLIENTS_MAX];
	uid_t users[2];		    /* the user who started the relay, and its current user */
	struct sockaddr_un at;	    /* of the path */
	struct file_helper *helper; /* of the path */
	bool full;		    /* new clients wait until one has its answer */
};

static struct loop *loop_of(const struct control *c)
{
	return c->relay->workers[0].host.loop;
}

static void watch_doors(struct control *c)
{
	if (c->name.source.fd >= 0)
		loop_watch(loop_of(c), &c->name.source, EPOLLIN);
	if (c->path.source.fd >= 0)
		loop_watch(loop_of(c), &c->path.source, EPOLLIN);
}

/* ---- one client ---- */

static void close_client(struct client *cl)
{
	loop_disarm(loop_of(cl->control), &cl->timer);
	loop_close(loop_of(cl->control), &cl->source);
	answer_clear(&cl->answer);
	cl->length = 0;
	cl->ended = cl->broken = false;
	if (cl->control->full) {
		cl->control->full = false;
		watch_doors(cl->control);
	}
}

static void note_progress(struct client *cl)
{
	cl->since = loop_now(loop_of(cl->control));
	loop_arm(loop_of(cl->control), &cl->timer, CONTROL_IDLE_MS);
}

static void handle_timer(struct loop *loop, struct loop_timer *timer)
{
	struct client *cl = container_of(timer, struct client, timer);

	if (cl->answer.busy)
		cl->broken = true; /* closed when the threads have finished */
	else
		close_client(cl);
}

/* Send what is ready; true when all of it is sent. */
static bool send_answer(struct client *cl)
{
	struct answer *a = &cl->answer;

	while (a->sent < a->used) {
		ssize_t n = send(cl->source.fd, a->text + a->sent, a->used - a->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			cl->broken = errno != EAGAIN;
			return false;
		}
		a->sent += (size_t)n;
		note_progress(cl);
	}
	return true;
}

/* Take the next complete line as a command. False: there is none. */
static bool next_command(struct client *cl)
{
	char command[COMMAND_MAX], *end = memchr(cl->command, '\n', cl->length);
	size_t length;

	if (!end)
		return false;
	length = (size_t)(end - cl->command);
	memcpy(command, cl->command, length);
	command[length && command[length - 1] == '\r' ? length - 1 : length] = '\0';
	cl->length -= length + 1;
	memmove(cl->command, end + 1, cl->length);
	if (cl->stranger)
		answer_refuse(&cl->answer, "only root and the relay's own user are answered here");
	else
		answer_begin(&cl->answer, command);
	return true;
}

/* Everything is sent: begin what comes next. False: nothing to do until the client sends more. */
static bool go_on(struct client *cl)
{
	if (cl->answer.more) {
		answer_continue(&cl->answer);
		return true;
	}
	answer_clear(&cl->answer);
	if (next_command(cl))
		return true;
	if (cl->length < COMMAND_MAX)
		return false;
	cl->length = 0;
	cl->ended = true;
	answer_refuse(&cl->answer, "a command has at most 127 bytes and a newline");
	return true;
}

/* Do as much as possible: answers out, commands in; then wait for what is missing, or close. */
static void serve(struct client *cl)
{
	struct loop *loop = loop_of(cl->control);
	struct answer *a = &cl->answer;
	bool idle = false;

	while (!a->busy && !a->failed && !cl->broken && !idle && send_answer(cl))
		idle = !go_on(cl);
	if (a->busy)
		loop_forget(loop, &cl->source);
	else if (a->failed || cl->broken || (idle && cl->ended) ||
		 loop_watch(loop, &cl->source, idle ? EPOLLIN : EPOLLOUT) < 0)
		close_client(cl);
}

static void handle_answer(struct answer *a)
{
	serve(container_of(a, struct client, answer));
}

static void receive(struct client *cl)
{
	ssize_t got = recv(cl->source.fd, cl->command + cl->length, COMMAND_MAX - cl->length,
			   MSG_DONTWAIT);

	if (got > 0) {
		cl->length += (size_t)got;
		note_progress(cl);
	} else if (got == 0) {
		cl->ended = true;
	} else {
		cl->broken = errno != EAGAIN && errno != EINTR;
	}
}

static void handle_client(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct client *cl = container_of(source, struct client, source);

	if (cl->answer.used == cl->answer.sent)
		receive(cl);
	serve(cl);
}

/* ---- who may ask ---- */

/* #syscalls control: getsockopt */
static bool is_allowed(const struct control *c, int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return false;
	if (peer.uid == 0)
		return true;
	return peer.uid != OVERFLOW_UID && (peer.uid == c->users[0] || peer.uid == c->users[1]);
}

/* Who goes first: those who do not take their answer, then the longest idle. */
static bool goes_before(const struct client *a, const struct client *b)
{
	bool deaf = a->answer.sent < a->answer.used;

	if (deaf != (b->answer.sent < b->answer.used))
		return deaf;
	return a->since < b->since;
}

/* The one to close, of those that are being answered by the threads at this moment or of the
 * others; free slots come first. */
static struct client *find_first(struct control *c, bool busy)
{
	struct client *first = NULL;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *cl = &c->clients[i];

		if (cl->answer.busy != busy)
			continue;
		if (cl->source.fd < 0)
			return cl;
		if (!first || goes_before(cl, first))
			first = cl;
	}
	return first;
}

/* A slot for one more client: free, or of one to close. NULL: all are being answered; then one is
 * closed as soon as it is, and the listeners are watched again. */
static struct client *find_place(struct control *c)
{
	struct client *cl = find_first(c, false);

	if (cl)
		return cl;
	find_first(c, true)->broken = true;
	c->full = true;
	loop_forget(loop_of(c), &c->name.source);
	loop_forget(loop_of(c), &c->path.source);
	return NULL;
}

/* What it has sent already is read at once: else clients that come at the same moment, and never
 * read, may take its place before it has been heard. */
static void take_client(struct client *cl, int fd, bool guarded)
{
	if (cl->source.fd >= 0)
		close_client(cl);
	cl->source.fd = fd;
	cl->stranger = guarded && !is_allowed(cl->control, fd);
	note_progress(cl);
	receive(cl);
	serve(cl);
}

static void handle_retry(struct loop *loop, struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, retry);

	watch_doors(c);
}

/* Without a free descriptor, clients keep waiting: polling would report them again and again.
 * #syscalls control: accept4, recv, send */
static void handle_listener(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct door *door = container_of(source, struct door, source);
	struct client *place = find_place(door->control);
	int fd;

	if (!place)
		return;
	fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		take_client(place, fd, door->guarded);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		loop_forget(loop, source);
		loop_arm(loop, &door->control->retry, RETRY_MS);
	}
}

/* ---- the name ---- */

static int bind_name(int fd)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	for (int n = 1; n <= NAMES_MAX; n++) {
		char *name = at.sun_path + 1; /* after the NUL that makes it abstract */
		int length = n == 1 ? sprintf(name, "tproxy-relay/%d", (int)getpid())
				    : sprintf(name, "tproxy-relay/%d.%d", (int)getpid(), n);

		length += (int)offsetof(struct sockaddr_un, sun_path) + 1;
		if (bind(fd, (struct sockaddr *)&at, (socklen_t)length) == 0)
			return 0;
		if (errno != EADDRINUSE)
			break;
	}
	return -1;
}

int control_listen(struct control *c, struct failure *why)
{
	struct loop_source *listener = &c->name.source;

	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd >= 0 && bind_name(listener->fd) == 0 &&
	    listen(listener->fd, BACKLOG) == 0 && loop_watch(loop_of(c), listener, EPOLLIN) == 0)
		return 0;
	report_fail(why, errno, "bind", "control socket @tproxy-relay/%d", (int)getpid());
	loop_close(loop_of(c), listener);
	return -1;
}

/* ---- the path ---- */

/* Does a process serve the path? */
static bool is_served(const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served = fd >= 0 && (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 ||
				  errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return served;
}

/*
 * Bind to a temporary name and rename: this replaces the path atomically. fchmod() before bind()
 * gives the inode its mode (Linux: unix_bind takes it from the socket's own inode).
 */
static int bind_path(struct control *c, const char *path, struct stat *st, struct failure *why)
{
	struct sockaddr_un draft = { .sun_family = AF_UNIX };
	int fd = c->path.source.fd;

	if ((size_t)snprintf(draft.sun_path, sizeof(draft.sun_path), "%s.%d", path, getpid()) >=
	    sizeof(draft.sun_path))
		return report_fail(why, ENAMETOOLONG, "bind", "--control %s", path);
	unlink(draft.sun_path);
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&draft, sizeof(draft)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return report_fail(why, errno, "bind", "--control %s", path);
	if (rename(draft.sun_path, path) == 0 && stat(path, st) == 0)
		return 0;
	report_fail(why, errno, "rename", "--control %s", path);
	unlink(draft.sun_path);
	return -1;
}

/* Have the path removed at the end. */
static int keep_path(struct control *c, const struct privilege_user *user, const struct stat *st,
		     struct failure *why)
{
	const struct file_helper_task task = {
		.option = "--control",
		.path = c->at.sun_path,
		.user = user,
		.sandbox = c->relay->sandbox,
		.device = st->st_dev,
		.inode = st->st_ino,
	};

	c->helper = file_helper_new(&task, why);
	if (c->helper)
		return 0;
	unlink(c->at.sun_path);
	return -1;
}

static int check_path(struct control *c, const char *path, bool takeover, struct failure *why)
{
	struct stat st;

	if (strlen(path) >= sizeof(c->at.sun_path))
		return report_fail(why, ENAMETOOLONG, "bind", "--control %s", path);
	strcpy(c->at.sun_path, path);
	if (lstat(path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		report_refuse(why, "exists and is not a socket");
		return report_about(why, "--control %s", path);
	}
	if (takeover || !is_served(&c->at))
		return 0;
	report_refuse(why, "another relay answers there");
	report_hint(why, "--takeover replaces it");
	return report_about(why, "--control %s", path);
}

int control_add_path(struct control *c, const char *path, bool takeover,
		     const struct privilege_user *user, struct failure *why)
{
	struct loop_source *listener = &c->path.source;
	struct stat st;

	if (check_path(c, path, takeover, why) < 0)
		return -1;
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return report_fail(why, errno, "socket", "--control %s", path);
	if (bind_path(c, path, &st, why) < 0 || keep_path(c, user, &st, why) < 0)
		return -1;
	if (loop_watch(loop_of(c), listener, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "--control %s", path);
	return 0;
}

/* ---- life ---- */

struct control *control_new(struct relay *relay, struct failure *why)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c) {
		report_fail(why, errno, "malloc", "control socket");
		return NULL;
	}
	c->relay = relay;
	c->users[0] = c->users[1] = getuid();
	c->at.sun_family = AF_UNIX;
	c->retry.alarm = handle_retry;
	c->name = (struct door){ { .handler = handle_listener, .fd = -1 }, c, true };
	c->path = (struct door){ { .handler = handle_listener, .fd = -1 }, c, false };
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		c->clients[i] = (struct client){
			.control = c,
			.source = { .handler = handle_client, .fd = -1 },
			.timer = { .alarm = handle_timer },
			.answer = { .relay = relay, .ready = handle_answer },
		};
	return c;
}

void control_set_user(struct control *c)
{
	c->users[1] = geteuid();
}

void control_free(struct control *c)
{
	if (!c)
		return;
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (c->clients[i].source.fd >= 0)
			close(c->clients[i].source.fd);
		answer_clear(&c->clients[i].answer);
	}
	if (c->name.source.fd >= 0)
		close(c->name.source.fd);
	if (c->path.source.fd >= 0)
		close(c->path.source.fd);
	file_helper_free(c->helper);
	free(c);
}
