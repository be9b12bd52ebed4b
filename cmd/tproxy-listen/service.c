/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

/* Milliseconds: until accepting is tried again after a shortage in which nothing of ours ends; between
 * two warnings of one kind; a child's between SIGTERM and SIGKILL. */
#define SHORTAGE_PAUSE 500
#define WARNING_PAUSE  60000
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
		record_text(r, RECORD_IIF, endpoint_interface_name(c->interface, name));
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

void service_put_close(const struct connection *c, const char *reason)
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
static void handle_lost_reader(struct record_output *o)
{
	struct service *s = container_of(o, struct service, output);

	if (s->action != ACTION_RUN)
		service_advance(s, STAGE_DRAINING);
	service_end_if_idle(s);
}

static void tell_unwritable(const struct failure *why)
{
	char text[512];

	report_warning("%s", report_text(why, text, sizeof(text)));
}

static void tell_waiting(uint64_t records, uint64_t ms)
{
	report_notice("%llu records wait for their reader, for %llu s at most; a signal ends that",
		      (unsigned long long)records, (unsigned long long)(ms + 999) / 1000);
}

void service_flush(struct service *s)
{
	record_output_flush(&s->output);
}

bool service_is_full(const struct service *s)
{
	return s->config->max && s->open >= s->config->max;
}

bool service_has_enough(const struct service *s)
{
	return s->config->count && s->accepted >= s->config->count;
}

static void poll_listeners(struct service *s, bool on)
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
}

/* Whether the next one may be accepted; if not, what is to be done about it has been done. */
bool service_may_accept(struct service *s)
{
	/* Not in the rest of a batch that has met a shortage either. */
	if (s->stage != STAGE_SERVING || s->pause.prev)
		return false;
	if (service_is_full(s) && !flows_can_make_room(s)) {
		poll_listeners(s, false);
		return false;
	}
	return true;
}

/* Begin those that wait. False, with *why: there is still a shortage. */
static bool begin_waiting(struct service *s, struct failure *why)
{
	struct connection *c;

	while ((c = s->waiting)) {
		s->waiting = c->next;
		if (serve_waiting(c, why))
			continue;
		s->waiting = c;
		return false;
	}
	return true;
}

/* There may be room again: for those that wait here first, then for those in the backlog. */
static void try_again(struct service *s)
{
	struct failure why = { 0 };

	loop_disarm(s->loop, &s->pause);
	s->begins = true;
	if (!begin_waiting(s, &why))
		service_pause(s, &why);
	else if (s->stage == STAGE_SERVING && !service_is_full(s))
		poll_listeners(s, true);
	s->begins = false;
}

void service_resume(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	try_again(s);
	service_flush(s);
}

void service_leave(struct service *s)
{
	bool was_full = service_is_full(s);

	s->open--;
	if ((was_full || s->pause.prev) && !s->begins)
		try_again(s);
}

void service_wait(struct connection *c, const struct failure *why)
{
	struct service *s = c->service;

	if (!s->waiting) {
		s->last_waiting = &s->waiting;
		service_pause(s, why);
	}
	*s->last_waiting = c;
	s->last_waiting = &c->next;
}

bool service_is_shortage(int err)
{
	/* ETOOMANYREFS: descriptors in flight, see unix(7); ENOSPC: epoll_ctl(2) */
	return report_shortage(err) || err == EAGAIN || err == ETOOMANYREFS || err == ENOSPC;
}

bool service_may_tell(struct service *s, struct service_told *told)
{
	uint64_t now = loop_now(s->loop);

	if (told->ever && now - told->at < WARNING_PAUSE)
		return false;
	*told = (struct service_told){ true, now };
	return true;
}

/* The connection stays in the backlog, where level-triggered polling would find it again and again. */
void service_pause(struct service *s, const struct failure *why)
{
	char text[512];

	report_text(why, text, sizeof(text));
	if (service_may_tell(s, &s->told_shortage))
		report_warning("%s: clients wait (told once a minute; -v: each time)", text);
	else
		report_verbose(1, "%s: clients wait", text);
	poll_listeners(s, false);
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

/* #syscalls tcp udp: getsockopt */
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

/* The last one of this service is gone, and no more will come: what is left to do is to wait for
 * the reader of the records. */
void service_end_if_idle(struct service *s)
{
	if (s->stage == STAGE_SERVING || s->open)
		return;
	record_output_end(&s->output, s->config->drain);
	if (record_output_is_done(&s->output))
		loop_stop(s->loop);
}

void service_fail(struct service *s, const char *why)
{
	report_error("%s", why);
	s->failed = true;
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
	service_leave(s);
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

	if (c->phase == PHASE_OPENING || c->phase == PHASE_WAITING)
		service_put_event(s, "refused", &c->caller, 0, reason);
	else
		service_put_close(c, reason);
	if (c->phase != PHASE_RUN)
		loop_disarm(s->loop, &c->timer);
	if (c->phase == PHASE_WAITING) {
		transparent_reset(c->source.fd);
		c->source.fd = -1;
	}
	if (c->caller.protocol == IPPROTO_UDP)
		flows_forget(c);
	loop_close(s->loop, &c->source);
	loop_discard(s->loop, &c->garbage, service_release);
	leave(s, &c->caller);
}

static void finish_stopped(struct connection *c)
{
	if (c->phase == PHASE_HEADER)
		accept_refuse_header(c, "stopped");
	else
		service_finish(c, "stopped");
}

/* Those that have not begun will not; flows that only the listener knows of have nothing to wait for
 * without it. */
static bool has_nothing(const struct connection *c)
{
	if (c->phase == PHASE_WAITING)
		return c->service->stage >= STAGE_DRAINING;
	return c->caller.protocol == IPPROTO_UDP && c->source.fd < 0 && c->phase != PHASE_RUN;
}

/* End those that are left to be ended. Where the reader of the records cannot keep up this goes
 * on when it has caught up, or has had its time. */
static void finish_left(struct service *s)
{
	struct connection *c, *next;

	/* service_release() comes after the batch: the walk stays valid */
	for (c = slab_next(&s->connections, NULL); c; c = next) {
		next = slab_next(&s->connections, c);
		if (c->source.dead || !(s->finishes_all || has_nothing(c)))
			continue;
		if (record_output_is_congested(&s->output)) {
			record_output_end(&s->output, s->config->drain);
			return;
		}
		finish_stopped(c);
	}
}

static void handle_ready_reader(struct record_output *o)
{
	struct service *s = container_of(o, struct service, output);

	if (s->stage != STAGE_SERVING)
		finish_left(s);
	service_flush(s);
	service_end_if_idle(s);
}

const struct record_output_ops service_output_ops = {
	.trouble = tell_unwritable,
	.gone = handle_lost_reader,
	.ready = handle_ready_reader,
	.waiting = tell_waiting,
};

static void enter_stage(struct service *s)
{
	bool run = s->action == ACTION_RUN;

	switch (s->stage) {
	case STAGE_SERVING:
		break;
	case STAGE_FINISHING:
		finish_left(s);
		break;
	case STAGE_DRAINING:
		s->finishes_all = !run;
		s->waiting = NULL; /* they are still among all connections */
		finish_left(s);
		if (run)
			loop_arm(s->loop, &s->drain, s->config->drain);
		break;
	case STAGE_ENDING:
		if (s->children.count)
			report_notice("%zu connections are still served: ending them",
				      s->children.count);
		spawner_signal(s->spawner, SIGTERM);
		loop_arm(s->loop, &s->drain, KILL_TIME);
		break;
	case STAGE_KILLING:
		spawner_signal(s->spawner, SIGKILL);
		break;
	}
}

void service_advance(struct service *s, enum stage stage)
{
	if (stage <= s->stage)
		return;
	/* --count has as many as it wants; others have been let in by the kernel, and know that. */
	if (s->stage == STAGE_SERVING && stage == STAGE_DRAINING)
		accept_last(s);
	if (stage <= s->stage)
		return; /* these were as many */
	if (s->stage == STAGE_SERVING)
		close_listeners(s);
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

static void end_sooner(struct service *s)
{
	if (s->stage < STAGE_DRAINING) {
		service_advance(s, STAGE_DRAINING);
		return;
	}
	record_output_hurry(&s->output);
	service_advance(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
}

void service_handle_signal(struct loop *loop, int signo, void *context)
{
	struct service *s = context;

	end_sooner(s);
	service_flush(s);
}
