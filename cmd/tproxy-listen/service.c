/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Milliseconds: until we try to accept again after a shortage if nothing of ours ends; between two
 * warnings of one kind. */
#define SHORTAGE_PAUSE 500
#define WARNING_PAUSE  60000

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

/* Call service_flush() after it, once per batch. */
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

void service_poll_listeners(struct service *s, bool on)
{
	for (size_t i = 0; i < s->listeners.count; i++)
		if (s->sources[i].fd >= 0)
			loop_watch(s->loop, &s->sources[i], on ? EPOLLIN : 0);
	for (size_t i = 0; i < s->udp.count; i++)
		if (s->udp_sources[i].fd >= 0)
			loop_watch(s->loop, &s->udp_sources[i], on ? EPOLLIN : 0);
}

/* May the next connection be accepted? If not, this does what is necessary. */
bool service_may_accept(struct service *s)
{
	/* Nor in the rest of a batch after a shortage. */
	if (s->stage != STAGE_SERVING || s->pause.prev)
		return false;
	if (service_is_full(s) && !service_can_make_room(s)) {
		service_poll_listeners(s, false);
		return false;
	}
	return true;
}

void service_resume(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	s->room = true;
}

void service_leave(struct service *s)
{
	bool was_full = service_is_full(s);

	s->open--;
	s->room |= was_full || s->pause.prev;
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

/* The connection stays in the backlog, and level-triggered polling would report it again and
 * again. */
void service_pause(struct service *s, const struct failure *why)
{
	char text[512];

	report_text(why, text, sizeof(text));
	if (service_may_tell(s, &s->told_shortage))
		report_warning("%s: clients wait (reported once a minute; with -v each time)",
			       text);
	else
		report_verbose(1, "%s: clients wait", text);
	service_poll_listeners(s, false);
	loop_arm(s->loop, &s->pause, SHORTAGE_PAUSE);
	s->room = false;
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

	report_warning("%s: accept4: %s; no longer a listening socket",
		       endpoint_format(&listener->at, text), strerror(errno));
	loop_close(s->loop, source);
	listener->fd = -1;
	if (has_listener(s))
		return;
	report_error("no listener is left");
	s->unheard = true;
	service_note_stage(s, STAGE_DRAINING);
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

/* Is the client over its limit, or is there no memory to count? */
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

void service_note_stage(struct service *s, enum stage stage)
{
	if (stage > s->stage)
		s->stage = stage;
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
}

/* The state of a connection that is not closed at once, or NULL. The caller owns the descriptor
 * until the connection is counted as open. */
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
	if (c->caller.protocol == IPPROTO_UDP) {
		flow_table_forget(&s->flows, c);
		s->opening -= c->phase == PHASE_OPENING;
	}
	loop_close(s->loop, &c->source);
	loop_discard(s->loop, &c->garbage, service_release);
	leave(s, &c->caller);
}

bool service_can_make_room(const struct service *s)
{
	return flow_table_idle(&s->flows) != NULL;
}

bool service_make_room(struct service *s)
{
	struct connection *c = flow_table_idle(&s->flows);

	if (!c)
		return false;
	if (!s->told_room)
		report_notice("at the limit of %zu connections and flows: the flows that were idle "
			      "longest end",
			      s->open);
	s->told_room = true;
	service_finish(c, "evicted");
	return true;
}
