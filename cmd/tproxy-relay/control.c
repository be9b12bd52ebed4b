/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/control.h"
#include "base/container.h"
#include "tproxy-relay/conn_log.h"
#include "tproxy-relay/keeper.h"
#include "tproxy-relay/stats.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 16
#define COMMAND_MAX 128

/* One client. While a visit for it is under way it reads no further command. */
struct client {
	struct control *control;
	struct loop_source source;
	struct relay_visit visit;
	struct stats stats;
	bool visiting, ended;
	char command[COMMAND_MAX];
	size_t length;
	char *answer; /* grows while a visit collects; NULL when all is sent */
	size_t sent, used, room;
	uint64_t records;
	bool failed; /* no memory for the answer */
};

struct control {
	struct relay *relay;
	struct loop_source listener;
	struct client clients[CLIENTS_MAX];
	struct sockaddr_un at;
	struct keeper *keeper; /* of the path */
};

static struct loop *loop_of(const struct control *c)
{
	return c->relay->workers[0].host.loop;
}

/* ---- answers ---- */

static void append(struct client *cl, const char *text, size_t length)
{
	if (!cl->answer || cl->used + length > cl->room) {
		size_t room = (cl->used + length) * 2;
		char *grown = realloc(cl->answer, room);

		if (!grown) {
			cl->failed = true;
			return;
		}
		cl->answer = grown;
		cl->room = room;
	}
	memcpy(cl->answer + cl->used, text, length);
	cl->used += length;
}

static void answer(struct client *cl, const struct record *r)
{
	char line[RECORD_LINE_MAX];

	append(cl, line, record_print_json(r, line));
	cl->records++;
}

static void answer_end(struct client *cl)
{
	uint64_t count = cl->records;
	struct record r;

	record_begin(&r, "end");
	record_number(&r, RECORD_COUNT, count);
	answer(cl, &r);
	cl->records = 0;
}

static void answer_error(struct client *cl, const char *text)
{
	struct record r;

	record_begin(&r, "error");
	record_text(&r, RECORD_EVIDENCE, text);
	answer(cl, &r);
	answer_end(cl);
}

static void close_client(struct client *cl)
{
	loop_close(loop_of(cl->control), &cl->source);
	free(cl->answer);
	cl->answer = NULL;
	cl->used = cl->room = cl->sent = cl->length = 0;
	cl->failed = cl->ended = false;
}

/* Send what there is; true when all of it has gone. */
static bool send_answer(struct client *cl)
{
	ssize_t n;

	while (cl->sent < cl->used) {
		n = send(cl->source.fd, cl->answer + cl->sent, cl->used - cl->sent,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			cl->ended = errno != EAGAIN && errno != EINTR;
			return false;
		}
		cl->sent += (size_t)n;
	}
	free(cl->answer);
	cl->answer = NULL;
	cl->used = cl->room = cl->sent = 0;
	return true;
}

/* ---- commands ---- */

static void list_flows(const struct worker *w, struct client *cl)
{
	struct conn_log_texts texts;
	struct record r;

	for (const struct flow *f = slab_next(&w->host.flows, NULL); f;
	     f = slab_next(&w->host.flows, f)) {
		if (f->state == FLOW_CLOSED)
			continue;
		conn_log_describe_flow(&w->log, f, NULL, &r, &texts);
		record_text(&r, RECORD_STATE, flow_state_name(f));
		answer(cl, &r);
	}
}

/* Connections whose PROXY header is awaited. */
static void list_pendings(const struct worker *w, struct client *cl)
{
	struct record r;

	for (const struct pending *p = slab_next(&w->pendings, NULL); p;
	     p = slab_next(&w->pendings, p)) {
		if (p->wait.source.dead)
			continue;
		conn_log_describe(&w->log, &p->connection, p->listener, NULL, &r);
		record_text(&r, RECORD_STATE, "proxy-header");
		answer(cl, &r);
	}
}

static void list_udp_flows(const struct worker *w, struct client *cl)
{
	struct conn_log_texts texts;
	struct record r;

	for (const struct udp_flow *f = udp_flow_next(w->host.udp, NULL); f;
	     f = udp_flow_next(w->host.udp, f)) {
		if (f->closed)
			continue;
		conn_log_describe_udp_flow(&w->log, f, NULL, &r, &texts);
		record_text(&r, RECORD_STATE, udp_flow_state_name(f));
		answer(cl, &r);
	}
}

static void visit_worker(struct worker *w, void *context)
{
	list_flows(w, context);
	list_pendings(w, context);
	if (w->host.udp)
		list_udp_flows(w, context);
}

static void serve_commands(struct client *cl);

static void end_visit(void *context)
{
	struct client *cl = context;

	cl->visiting = false;
	answer_end(cl);
	serve_commands(cl);
}

static void command_connections(struct client *cl)
{
	cl->visiting = true;
	cl->visit = (struct relay_visit){ .visit = visit_worker, .done = end_visit, .context = cl };
	relay_for_each_worker(cl->control->relay, &cl->visit);
}

static void answer_counter(struct client *cl, const char *name, uint64_t count)
{
	struct record r;

	record_begin(&r, "counter");
	record_text(&r, RECORD_CHECK, name);
	record_number(&r, RECORD_COUNT, count);
	answer(cl, &r);
}

static void end_counters(struct stats *f, void *context)
{
	struct client *cl = context;

	cl->visiting = false;
	for (unsigned i = 0; i < STATS_COUNT; i++)
		if (stats_name(i))
			answer_counter(cl, stats_name(i), f->at[i]);
	answer_end(cl);
	serve_commands(cl);
}

static void command_counters(struct client *cl)
{
	cl->visiting = stats_collect(&cl->stats, cl->control->relay, end_counters, cl);
}

static void command_drain(struct client *cl)
{
	answer_end(cl);
	relay_end(cl->control->relay, RELAY_DRAINING);
}

static void run_command(struct client *cl, const char *command)
{
	static const struct {
		const char *name;
		void (*run)(struct client *cl);
	} commands[] = {
		{ "connections", command_connections },
		{ "counters", command_counters },
		{ "drain", command_drain },
	};

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(command, commands[i].name) == 0) {
			commands[i].run(cl);
			return;
		}
	}
	answer_error(cl, "unknown command: there are connections, counters, drain");
}

/* The next whole line becomes a command. False when there is none. */
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
	run_command(cl, command);
	return true;
}

/* Go as far as possible: answers out, commands in; then wait for what is missing, or close. */
static void serve_commands(struct client *cl)
{
	struct loop *loop = loop_of(cl->control);

	while (!cl->visiting && !cl->failed && send_answer(cl) && next_command(cl))
		;
	if (cl->visiting) {
		loop_forget(loop, &cl->source);
		return;
	}
	if (cl->failed || (cl->ended && cl->sent == cl->used) || cl->length == COMMAND_MAX) {
		close_client(cl);
		return;
	}
	if (loop_watch(loop, &cl->source, cl->used ? EPOLLOUT : EPOLLIN) < 0)
		close_client(cl);
}

static void handle_client(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct client *cl = container_of(source, struct client, source);
	ssize_t got;

	if (events & EPOLLERR) {
		close_client(cl);
		return;
	}
	if (!cl->used && cl->length < COMMAND_MAX) {
		got = recv(source->fd, cl->command + cl->length, COMMAND_MAX - cl->length,
			   MSG_DONTWAIT);
		if (got > 0)
			cl->length += (size_t)got;
		else if (got == 0 || (errno != EAGAIN && errno != EINTR))
			cl->ended = true;
	}
	serve_commands(cl);
}

static void handle_listener(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct control *c = container_of(source, struct control, listener);
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (int i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
		struct client *cl = &c->clients[i];

		if (cl->source.fd >= 0 || cl->visiting)
			continue;
		cl->source.fd = fd;
		if (loop_watch(loop, &cl->source, EPOLLIN) < 0)
			break;
		return;
	}
	if (fd >= 0)
		close(fd);
}

/* ---- life ---- */

/* Does anybody answer at the path? */
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
 * Bind under a name of our own and rename: so a path is replaced at once, never missing. fchmod()
 * before bind() gives the inode its mode (Linux: unix_bind takes it from the socket's own inode).
 */
static int bind_path(struct control *c, const char *path, struct stat *st, struct failure *why)
{
	struct sockaddr_un draft = { .sun_family = AF_UNIX };
	int fd = c->listener.fd;

	if ((size_t)snprintf(draft.sun_path, sizeof(draft.sun_path), "%s.%d", path, getpid()) >=
	    sizeof(draft.sun_path))
		return report_fail(why, ENAMETOOLONG, "bind", "--control %s", path);
	unlink(draft.sun_path);
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&draft, sizeof(draft)) < 0 ||
	    listen(fd, CLIENTS_MAX) < 0)
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
	const struct keeper_task task = {
		.option = "--control",
		.path = c->at.sun_path,
		.user = user,
		.sandbox = c->relay->sandbox != 0,
		.device = st->st_dev,
		.inode = st->st_ino,
	};

	c->keeper = keeper_new(&task, why);
	if (c->keeper)
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

static int open_listener(struct control *c, const char *path, bool takeover,
			 const struct privilege_user *user, struct failure *why)
{
	struct stat st;

	if (check_path(c, path, takeover, why) < 0)
		return -1;
	c->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener.fd < 0)
		return report_fail(why, errno, "socket", "--control %s", path);
	if (bind_path(c, path, &st, why) < 0 || keep_path(c, user, &st, why) < 0)
		return -1;
	if (loop_watch(loop_of(c), &c->listener, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "--control %s", path);
	return 0;
}

struct control *control_new(struct relay *relay, const char *path, bool takeover,
			    const struct privilege_user *user, struct failure *why)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c) {
		report_fail(why, errno, "malloc", "--control %s", path);
		return NULL;
	}
	c->relay = relay;
	c->at.sun_family = AF_UNIX;
	c->listener = (struct loop_source){ .handler = handle_listener, .fd = -1 };
	for (int i = 0; i < CLIENTS_MAX; i++) {
		c->clients[i].control = c;
		c->clients[i].source = (struct loop_source){ .handler = handle_client, .fd = -1 };
	}
	if (open_listener(c, path, takeover, user, why) == 0)
		return c;
	control_free(c);
	return NULL;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	for (int i = 0; i < CLIENTS_MAX; i++) {
		if (c->clients[i].source.fd >= 0)
			close(c->clients[i].source.fd);
		free(c->clients[i].answer);
	}
	if (c->listener.fd >= 0)
		close(c->listener.fd);
	keeper_free(c->keeper);
	free(c);
}
