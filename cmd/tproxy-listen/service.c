/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

/* Milliseconds: until accepting is tried again after a shortage; a child's between SIGTERM and
 * SIGKILL. */
#define SHORTAGE_PAUSE 500
#define KILL_TIME      5000

/* The record borrows the interface's name. */
void service_describe(struct record *r, const char *event, const struct caller *c,
		      char name[IF_NAMESIZE])
{
	struct mark mark = { c->mark, ~0u };

	record_begin(r, "connection");
	record_time_now(r);
	record_text(r, RECORD_EVENT, event);
	record_number(r, RECORD_ID, c->id);
	record_text(r, RECORD_PROTO, c->protocol == IPPROTO_UDP ? "udp" : "tcp");
	record_endpoint(r, RECORD_CLIENT, &c->client);
	record_endpoint(r, RECORD_ORIGDST, &c->origdst);
	record_text(r, RECORD_ORIGDST_BY, transparent_origin_name(c->origin));
	record_endpoint(r, RECORD_LISTENER, &c->listener->at);
	if (c->interface)
		record_text(r, RECORD_IIF, if_indextoname(c->interface, name));
	if (c->cookie) {
		record_mark(r, RECORD_MARK, &mark);
		record_number(r, RECORD_COOKIE, c->cookie);
	}
}

/* Everything that is put must be followed by service_flush(), once a batch. */
void service_put_event(struct service *s, const char *event, const struct caller *c, pid_t pid,
		       const char *reason)
{
	char name[IF_NAMESIZE];
	struct record r;

	if (!s->stream)
		return;
	service_describe(&r, event, c, name);
	if (pid > 0)
		record_number(&r, RECORD_PID, (uint64_t)pid);
	record_text(&r, RECORD_REASON, reason);
	record_stream_put(s->stream, &r);
}

static void put_close(struct connection *c, const char *reason)
{
	struct service *s = c->service;
	char name[IF_NAMESIZE];
	struct record r;

	if (!s->stream || !s->config->log)
		return;
	service_describe(&r, "close", &c->caller, name);
	if (c->phase == PHASE_RUN) {
		record_number(&r, RECORD_PID, (uint64_t)c->child.pid);
	} else {
		record_number(&r, RECORD_BYTES_UP, c->bytes_up);
		record_number(&r, RECORD_BYTES_DOWN, c->bytes_down);
	}
	if (c->caller.protocol == IPPROTO_UDP && c->phase != PHASE_RUN) {
		record_number(&r, RECORD_PACKETS_UP, c->packets_up);
		record_number(&r, RECORD_PACKETS_DOWN, c->packets_down);
	}
	record_duration(&r, loop_now_us(s->loop) - c->opened_us);
	record_text(&r, RECORD_REASON, reason);
	record_stream_put(s->stream, &r);
}

/* The reader of the records is gone: without CMD there is nothing left to do here. */
static void lose_reader(struct service *s)
{
	loop_forget(s->loop, &s->output);
	if (s->action != ACTION_RUN)
		service_advance(s, STAGE_DRAINING);
}

void service_flush(struct service *s)
{
	bool more;
	int trouble;

	if (!s->stream)
		return;
	more = record_stream_flush(s->stream);
	trouble = record_stream_trouble(s->stream);
	if (trouble) {
		report_warning("records: %s: they are lost until they can be written again",
			       strerror(trouble));
		s->told_unwritable = true;
	}
	if (record_stream_broken(s->stream))
		lose_reader(s);
	else if (s->output.watched) /* a regular file is not: it takes everything at once */
		loop_watch(s->loop, &s->output, more ? EPOLLOUT : 0);
}

void service_handle_output(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);

	if (events & (EPOLLERR | EPOLLHUP))
		lose_reader(s);
	else
		service_flush(s);
}

bool service_is_full(const struct service *s)
{
	return s->config->max && s->open >= s->config->max;
}

bool service_has_enough(const struct service *s)
{
	return s->config->count && s->accepted >= s->config->count;
}

void service_poll_listeners(struct service *s, bool on)
{
	for (size_t i = 0; i < s->listeners.count; i++)
		if (s->sources[i].fd >= 0)
			loop_watch(s->loop, &s->sources[i], on ? EPOLLIN : 0);
	for (size_t i = 0; i < s->udp.count; i++)
		if (s->udp_sources[i].fd >= 0)
			loop_watch(s->loop, &s->udp_sources[i], on ? EPOLLIN : 0);
}

static void close_group(struct service *s, struct listeners *l, struct loop_source *sources)
{
	for (size_t i = 0; i < l->count; i++) {
		loop_close(s->loop, &sources[i]);
		l->at[i].fd = -1;
	}
}

static void close_listeners(struct service *s)
{
	close_group(s, &s->listeners, s->sources);
	close_group(s, &s->udp, s->udp_sources);
	loop_disarm(s->loop, &s->pause);
}

/* Whether the next one may be accepted; if not, what is to be done about it has been done. */
bool service_may_accept(struct service *s)
{
	if (s->stage != STAGE_SERVING)
		return false;
	if (service_is_full(s) && !flows_can_make_room(s)) {
		service_poll_listeners(s, false);
		return false;
	}
	return true;
}

void service_resume(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	if (s->stage == STAGE_SERVING && !service_is_full(s))
		service_poll_listeners(s, true);
}

/* No descriptor or memory left: the connection stays in the backlog, where level-triggered polling
 * would find it again and again. */
void service_pause(struct service *s)
{
	if (!s->told_shortage)
		report_warning("%s: clients wait (further shortages are told with -v)",
			       strerror(errno));
	else
		report_verbose(1, "%s: clients wait", strerror(errno));
	s->told_shortage = true;
	service_poll_listeners(s, false);
	loop_arm(s->loop, &s->pause, SHORTAGE_PAUSE);
}

static bool has_listener(const struct service *s)
{
	for (size_t i = 0; i < s->listeners.count; i++)
		if (s->sources[i].fd >= 0)
			return true;
	for (size_t i = 0; i < s->udp.count; i++)
		if (s->udp_sources[i].fd >= 0)
			return true;
	return false;
}

void service_lose_listener(struct service *s, struct loop_source *source)
{
	struct listener *listener = &s->listeners.at[source - s->sources];
	char text[ENDPOINT_TEXT_MAX];

	report_warning("%s: accept4: %s; it is no listening socket any more",
		       endpoint_format(&listener->at, text), strerror(errno));
	loop_close(s->loop, source);
	listener->fd = -1;
	if (has_listener(s))
		return;
	report_error("no listener is left");
	s->unheard = true;
	service_advance(s, STAGE_DRAINING);
}

void service_read_socket(struct service *s, int fd, struct caller *c)
{
	socklen_t length = sizeof(c->cookie);

	if (!s->wants_socket)
		return;
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &c->cookie, &length);
	length = sizeof(c->mark);
	getsockopt(fd, SOL_SOCKET, SO_MARK, &c->mark, &length);
}

/* Over the client's limit, or no memory to count. */
bool service_is_crowded(struct service *s, const struct caller *caller)
{
	uint32_t now = s->clients ? client_count_enter(s->clients, &caller->client) : 0;

	if (now <= s->config->max_per_client || !s->clients)
		return false;
	if (now != UINT32_MAX)
		client_count_leave(s->clients, &caller->client);
	return true;
}

void service_refuse(struct service *s, const struct caller *caller, int fd, const char *reason)
{
	service_put_event(s, "refused", caller, 0, reason);
	transparent_reset(fd);
}

/* The last one of this service is gone, and no more will come. */
void service_end_if_idle(struct service *s)
{
	if (s->stage != STAGE_SERVING && !s->open)
		loop_stop(s->loop);
}

void service_release(struct loop *loop, struct loop_garbage *garbage)
{
	struct connection *c = container_of(garbage, struct connection, garbage);

	slab_put(&c->service->connections, c);
}

static void leave(struct service *s, const struct caller *caller)
{
	if (s->clients)
		client_count_leave(s->clients, &caller->client);
	if (s->open-- == s->config->max && s->stage == STAGE_SERVING)
		service_poll_listeners(s, true);
	service_end_if_idle(s);
}

/* A connection that outlives its acceptance, or NULL. The descriptor stays the caller's until it is
 * counted as open. */
struct connection *service_new_connection(struct service *s, const struct caller *caller, int fd,
					  enum phase phase)
{
	struct connection *c = slab_get(&s->connections);

	if (!c)
		return NULL;
	c->service = s;
	c->caller = *caller;
	c->source.fd = fd;
	c->phase = phase;
	c->opened_us = loop_now_us(s->loop);
	return c;
}

void service_finish(struct connection *c, const char *reason)
{
	struct service *s = c->service;

	if (c->phase == PHASE_OPENING)
		service_put_event(s, "refused", &c->caller, 0, reason);
	else
		put_close(c, reason);
	if (c->phase != PHASE_RUN)
		loop_disarm(s->loop, &c->timer);
	if (c->caller.protocol == IPPROTO_UDP)
		flows_forget(c);
	loop_close(s->loop, &c->source);
	loop_discard(s->loop, &c->garbage, service_release);
	leave(s, &c->caller);
}

static void finish_all(struct service *s, const char *reason)
{
	struct connection *c, *next;

	/* service_release() comes after the batch: the walk stays valid */
	for (c = slab_next(&s->connections, NULL); c; c = next) {
		next = slab_next(&s->connections, c);
		if (c->source.dead)
			continue;
		if (c->phase == PHASE_HEADER)
			accept_refuse_header(c, reason);
		else
			service_finish(c, reason);
	}
}

/* Flows that only the listener knows of have nothing to wait for without it. */
static void finish_silent_flows(struct service *s)
{
	struct connection *c, *next;

	for (c = slab_next(&s->connections, NULL); c; c = next) {
		next = slab_next(&s->connections, c);
		if (c->source.dead || c->caller.protocol != IPPROTO_UDP || c->source.fd >= 0)
			continue;
		if (c->phase != PHASE_RUN)
			service_finish(c, "stopped");
	}
}

static void enter_stage(struct service *s)
{
	bool run = s->action == ACTION_RUN;

	switch (s->stage) {
	case STAGE_SERVING:
	case STAGE_FINISHING:
		break;
	case STAGE_DRAINING:
		if (run)
			loop_arm(s->loop, &s->drain, s->config->drain);
		else
			finish_all(s, "stopped");
		break;
	case STAGE_ENDING:
		if (s->children.count)
			report_notice("%zu connections are still served: ending them",
				      s->children.count);
		children_signal(&s->children, SIGTERM);
		loop_arm(s->loop, &s->drain, KILL_TIME);
		break;
	case STAGE_KILLING:
		children_signal(&s->children, SIGKILL);
		break;
	}
}

void service_advance(struct service *s, enum stage stage)
{
	if (stage <= s->stage)
		return;
	if (s->stage == STAGE_SERVING) {
		close_listeners(s);
		s->stage = stage;
		finish_silent_flows(s);
	}
	s->stage = stage;
	enter_stage(s);
	service_end_if_idle(s);
}

void service_drain_expired(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	service_advance(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
}

void service_time_out(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	s->timed_out = s->stage == STAGE_SERVING;
	service_advance(s, STAGE_DRAINING);
	service_flush(s);
}

void service_handle_signal(struct loop *loop, int signo, void *context)
{
	struct service *s = context;

	if (signo == SIGCHLD)
		children_reap(&s->children, serve_child_ended, s);
	else if (s->stage < STAGE_DRAINING)
		service_advance(s, STAGE_DRAINING);
	else
		service_advance(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
	service_flush(s);
}
