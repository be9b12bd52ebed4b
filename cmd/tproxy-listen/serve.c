/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/serve.h"

#include "base/container.h"
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bytes in one turn of a connection. */
#define MOVE_SIZE 16384
/* Milliseconds for a client to take the reply, and then to close. */
#define LINGER_TIME 2000

/* The reason of the end, from the result of recv() or send(). */
static const char *reason_of(ssize_t result)
{
	return result == 0 ? "client" : "reset";
}

static bool is_try_later(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Data is not even copied: MSG_TRUNC without a buffer (tcp(7)).
 * #syscalls tcp: recv */
static void discard(struct connection *c)
{
	for (int turn = 0; turn < SERVICE_TURNS; turn++) {
		ssize_t n = recv(c->source.fd, NULL, MOVE_SIZE, MSG_TRUNC | MSG_DONTWAIT);

		if (is_try_later(n))
			return;
		if (n <= 0) {
			service_finish(c, reason_of(n));
			return;
		}
		c->bytes_up += (uint64_t)n;
	}
}

/* Peek at the data, send what can be sent, and consume only that much. False: nothing more to do
 * now. */
static bool echo_some(struct connection *c)
{
	char buffer[MOVE_SIZE];
	ssize_t come = recv(c->source.fd, buffer, sizeof(buffer), MSG_PEEK | MSG_DONTWAIT), sent;

	if (come <= 0) {
		if (!is_try_later(come))
			service_finish(c, reason_of(come));
		return false;
	}
	sent = send(c->source.fd, buffer, (size_t)come, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && !is_try_later(sent)) {
		service_finish(c, "reset");
		return false;
	}
	if (sent > 0) {
		recv(c->source.fd, NULL, (size_t)sent, MSG_TRUNC | MSG_DONTWAIT);
		c->bytes_up += (uint64_t)sent;
		c->bytes_down += (uint64_t)sent;
	}
	loop_watch(c->service->loop, &c->source, sent < come ? EPOLLOUT : EPOLLIN);
	return sent == come;
}

/* #syscalls tcp: shutdown */
static void linger(struct connection *c)
{
	c->phase = PHASE_LINGERING;
	shutdown(c->source.fd, SHUT_WR);
	loop_arm(c->service->loop, &c->timer, LINGER_TIME);
	loop_watch(c->service->loop, &c->source, EPOLLIN);
	discard(c);
}

/* #syscalls tcp: send */
static void reply(struct connection *c)
{
	struct service *s = c->service;
	ssize_t sent = send(c->source.fd, s->reply + c->bytes_down, s->reply_length - c->bytes_down,
			    MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent < 0 && !is_try_later(sent)) {
		service_finish(c, "reset");
		return;
	}
	c->bytes_down += sent > 0 ? (uint64_t)sent : 0;
	if (c->bytes_down == s->reply_length)
		linger(c);
}

static void serve(struct connection *c)
{
	if (c->phase == PHASE_LINGERING) {
		discard(c);
		return;
	}
	switch (c->service->action) {
	case ACTION_REPLY:
		reply(c);
		break;
	case ACTION_ECHO:
		for (int turn = 0; turn < SERVICE_TURNS && echo_some(c); turn++)
			;
		break;
	case ACTION_DISCARD:
		discard(c);
		break;
	default: /* ACTION_HOLD: nothing is read; only the end of the client wakes us */
		service_finish(c, "client");
		break;
	}
}

static void handle_connection(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct connection *c = container_of(source, struct connection, source);

	if (events & EPOLLERR)
		service_finish(c, "reset");
	else
		serve(c);
	service_flush(loop_context(loop));
}

/* The connection is done, unless the client did not take its --reply. */
static void handle_deadline(struct loop *loop, struct loop_timer *timer)
{
	struct connection *c = container_of(timer, struct connection, timer);
	bool stuck = c->service->action == ACTION_REPLY && c->phase != PHASE_LINGERING;

	service_finish(c, stuck ? "failed" : "done");
	service_flush(loop_context(loop));
}

static uint32_t events_of(enum action action)
{
	switch (action) {
	case ACTION_REPLY:
		return EPOLLOUT;
	case ACTION_HOLD:
		return EPOLLRDHUP;
	default:
		return EPOLLIN;
	}
}

static bool start_serving(struct connection *c, struct failure *why)
{
	struct service *s = c->service;

	c->source.handler = handle_connection;
	c->timer.alarm = handle_deadline;
	if (loop_watch(s->loop, &c->source, events_of(s->action)) < 0) {
		report_fail(why, errno, "epoll_ctl", "connection");
		return false;
	}
	if (s->action == ACTION_HOLD && s->config->hold)
		loop_arm(s->loop, &c->timer, s->config->hold);
	if (s->action == ACTION_REPLY)
		loop_arm(s->loop, &c->timer, LINGER_TIME);
	return true;
}

bool serve_command(struct connection *c, struct failure *why)
{
	struct service *s = c->service;
	const struct caller *caller = &c->caller;
	struct spawner_job job = {
		.id = caller->id,
		.protocol = caller->protocol,
		.client = caller->client,
		.local = caller->origdst,
		.origdst = caller->origdst,
		.origin = caller->origin,
		.mark = caller->mark,
		.cookie = caller->cookie,
	};
	pid_t pid;

	if (!endpoint_is_set(&job.local))
		job.local = endpoint_local_of(c->source.fd);
	pid = spawner_run(s->spawner, &job, c->source.fd, why);
	if (pid < 0)
		return false;
	children_add(&s->children, &c->child, caller->id, pid);
	return true;
}

static void end_command(struct child *child, int status)
{
	struct connection *c = container_of(child, struct connection, child);

	if (WIFSIGNALED(status))
		report_verbose(1, "%s (pid %d): signal %d", c->service->command.path,
			       (int)child->pid, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		report_verbose(1, "%s (pid %d): exit status %d", c->service->command.path,
			       (int)child->pid, WEXITSTATUS(status));
	service_finish(c, WIFSIGNALED(status) ? "killed" : WEXITSTATUS(status) ? "failed" : "done");
}

void serve_ends(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);
	struct spawner_end end;
	int found;

	while ((found = spawner_take_end(s->spawner, &end)) > 0) {
		struct child *child = children_take(&s->children, end.id);

		if (child)
			end_command(child, end.status);
	}
	if (found < 0)
		service_fail(s, "the process that starts commands has ended");
	service_flush(s);
}

/* Start serving: the descriptor goes to the child, or into the loop. */
static bool begin(struct connection *c, struct failure *why)
{
	struct service *s = c->service;
	bool run = s->action == ACTION_RUN;

	if (!(run ? serve_command(c, why) : start_serving(c, why)))
		return false;
	c->phase = run ? PHASE_RUN : PHASE_SERVED;
	service_put_event(s, "open", &c->caller, run ? c->child.pid : 0, NULL);
	if (run)
		loop_close(s->loop, &c->source);
	return true;
}

static void tell_failure(struct service *s, const struct failure *why)
{
	char text[512];

	report_text(why, text, sizeof(text));
	if (service_may_tell(s, &s->told_refusal))
		report_warning("connection refused: %s (reported once a minute; with -v each time)",
			       text);
	else
		report_verbose(1, "connection refused: %s", text);
}

static bool begin_one_waiting(struct connection *c, struct failure *why)
{
	if (begin(c, why))
		return true;
	if (service_is_shortage(why->err))
		return false;
	tell_failure(c->service, why);
	service_finish(c, "resources");
	return true;
}

/* Start the waiting connections. False, with *why: there is still a shortage. */
static bool begin_waiting(struct service *s, struct failure *why)
{
	struct connection *c;

	while ((c = s->waiting)) {
		s->waiting = c->next;
		if (begin_one_waiting(c, why))
			continue;
		s->waiting = c;
		return false;
	}
	return true;
}

void serve_resume(struct service *s)
{
	struct failure why = { 0 };

	loop_disarm(s->loop, &s->pause);
	if (!begin_waiting(s, &why))
		service_pause(s, &why);
	else if (s->stage == STAGE_SERVING && !service_is_full(s))
		service_poll_listeners(s, true);
	s->room = false; /* these only freed what they had taken themselves */
}

/* Keep the connection and serve it, now or later. False: that is impossible; the caller still owns
 * the descriptor. */
static bool keep(struct service *s, const struct caller *caller, int fd)
{
	struct connection *c = service_new_connection(s, caller, fd, PHASE_WAITING);
	struct failure why = { .err = ENOMEM, .call = "malloc" };
	bool overtakes = s->waiting; /* PROXY headers arrive in any order */

	if (c && !overtakes && begin(c, &why)) {
		s->open++;
		return true;
	}
	if (c && (overtakes || service_is_shortage(why.err))) {
		s->open++;
		service_wait(c, &why);
		return true;
	}
	if (c)
		slab_put(&s->connections, c);
	tell_failure(s, &why);
	if (service_is_shortage(why.err))
		service_pause(s, &why); /* the next ones wait */
	return false;
}

/* The connection ends before it takes any memory. */
static void end_at_once(struct service *s, const struct caller *caller, int fd)
{
	const struct connection c = {
		.service = s,
		.caller = *caller,
		.opened_us = loop_now_us(s->loop),
		.phase = PHASE_SERVED,
	};

	service_put_event(s, "open", caller, 0, NULL);
	if (s->action == ACTION_RESET)
		transparent_reset(fd);
	else
		close(fd);
	service_put_close(&c, "done");
}

void serve_act(struct service *s, const struct caller *caller, int fd)
{
	if (s->action == ACTION_CLOSE || s->action == ACTION_RESET)
		end_at_once(s, caller, fd);
	else if (keep(s, caller, fd))
		return;
	else
		service_refuse(s, caller, fd, "resources");
	if (s->clients)
		client_count_leave(s->clients, &caller->client);
}
