/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/flows.h"

#include "net/translation.h"
#include "socket/datagram.h"
#include "tproxy-listen/serve.h"
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Milliseconds: a flow ends after this time without a datagram; a refused flow is remembered for
 * this time; its first datagram may take this long through lo (the loop's clock is coarse). */
#define FLOW_IDLE    30000
#define REFUSAL_TIME 30000
#define OPENING_TIME 250
/* This many flows may wait for their first datagram: normally it arrives at once, so if many wait
 * it will not come. And the depth to which strays, met while a flow's socket is opened, may open
 * sockets for flows themselves. */
#define OPENING_MAX    256
#define FLOW_DEPTH_MAX 2

int flows_init(struct service *s, struct failure *why)
{
	if (!(s->refused = recent_new(why)) || !(s->sent = recent_new(why)))
		return -1;
	return flow_table_init(&s->flows, recent_seed(s->refused), why);
}

void flows_free(struct service *s)
{
	if (s->failed_flows > 1)
		report_warning("%llu flows were refused because they could not be opened",
			       (unsigned long long)s->failed_flows);
	recent_free(s->refused);
	recent_free(s->sent);
	flow_table_free(&s->flows);
}

/* The flow is not idle. */
static void touch_flow(struct connection *c)
{
	flow_table_touch(&c->service->flows, c);
	loop_arm(c->service->loop, &c->timer, FLOW_IDLE);
}

static void flow_is_idle(struct loop *loop, struct loop_timer *timer)
{
	service_finish(container_of(timer, struct connection, timer), "idle");
	service_flush(loop_context(loop));
}

/* Answer on the flow's own socket; errors from the client's host (ICMP) are ignored. */
/* #syscalls udp: recv, send */
static void answer_datagrams(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct connection *c = container_of(source, struct connection, source);
	struct service *s = loop_context(loop);
	char payload[DATAGRAM_MAX];
	ssize_t come, sent;

	for (int turn = 0; turn < SERVICE_TURNS; turn++) {
		come = recv(source->fd, payload, sizeof(payload), MSG_DONTWAIT);
		if (come < 0)
			break;
		c->packets_up++;
		c->bytes_up += (uint64_t)come;
		sent = s->action == ACTION_REPLY
			       ? send(source->fd, s->reply, s->reply_length, MSG_DONTWAIT)
			       : send(source->fd, payload, (size_t)come, MSG_DONTWAIT);
		c->packets_down += sent >= 0;
		c->bytes_down += sent > 0 ? (uint64_t)sent : 0;
	}
	touch_flow(c);
}

bool flows_need_sockets(const struct service *s)
{
	return s->action == ACTION_RUN || s->action == ACTION_REPLY || s->action == ACTION_ECHO;
}

/* ---- how a flow begins ---- */

/* Remember a refused flow for a while: otherwise each of its datagrams would be a record. */
static void remember_refusal(struct service *s, const struct caller *caller)
{
	uint64_t now = loop_now(s->loop);

	recent_note(s->refused, flow_table_hash(&s->flows, &caller->client, &caller->local), now,
		    now + REFUSAL_TIME);
}

static void refuse_flow(struct service *s, const struct caller *caller, const char *reason)
{
	remember_refusal(s, caller);
	service_put_event(s, "refused", caller, 0, reason);
}

/* The flow cannot be opened. For lack of memory or descriptors the others wait, and it may try
 * again; any other failure is reported once, as its next datagram would fail, too. */
static void fail_flow(struct connection *c, const struct failure *why)
{
	struct service *s = c->service;
	bool short_of = service_is_shortage(why->err);
	char text[512];

	report_text(why, text, sizeof(text));
	if (!short_of) {
		if (!s->failed_flows++)
			report_warning("flow refused (-v reports further ones): %s", text);
		else
			report_verbose(1, "flow refused: %s", text);
		remember_refusal(s, &c->caller);
	}
	service_finish(c, "resources");
	if (short_of)
		service_pause(s, why); /* last: the place that this one frees must not end it */
}

static void fail_lost_flow(struct connection *c)
{
	struct failure why;

	report_refuse(&why, "the first datagram did not come back through lo");
	report_hint(&why, "a firewall or rp_filter may have dropped it there, or NAT changed it");
	fail_flow(c, &why);
}

static bool start_answering(struct connection *c, struct failure *why)
{
	struct service *s = c->service;

	c->source.handler = answer_datagrams;
	c->timer.alarm = flow_is_idle;
	if (loop_watch(s->loop, &c->source, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "flow") == 0;
	loop_arm(s->loop, &c->timer, FLOW_IDLE);
	return true;
}

/* The flow is set up: have it answered. (Epoll must not watch a socket that a child will get.) */
static void serve_flow(struct connection *c)
{
	struct service *s = c->service;
	struct failure why = { 0 };
	bool run = s->action == ACTION_RUN;

	loop_forget(s->loop, &c->source);
	loop_disarm(s->loop, &c->timer);
	if (s->stage != STAGE_SERVING) {
		service_finish(c, "stopped");
		return;
	}
	if (!(run ? serve_command(c, &why) : start_answering(c, &why))) {
		fail_flow(c, &why);
		return;
	}
	c->phase = run ? PHASE_RUN : PHASE_SERVED;
	s->opening--;
	s->accepted++;
	service_put_event(s, "open", &c->caller, run ? c->child.pid : 0, NULL);
	if (run)
		loop_close(s->loop, &c->source);
}

/* One flow less is opening: continue what waited for that. */
static void end_turn(struct service *s)
{
	if (service_has_enough(s))
		service_note_stage(s, STAGE_FINISHING);
	if (!s->pause.prev)
		service_resume(s->loop, &s->pause);
	service_flush(s);
}

static void first_has_come(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct connection *c = container_of(source, struct connection, source);
	struct service *s = loop_context(loop);

	if (!datagram_has_arrived(s->sent, source->fd))
		return;
	serve_flow(c);
	end_turn(s);
}

static void first_is_lost(struct loop *loop, struct loop_timer *timer)
{
	fail_lost_flow(container_of(timer, struct connection, timer));
	end_turn(loop_context(loop));
}

static void take_stray(const struct datagram *stray, const void *payload, void *context);

/* Without a free descriptor, end a flow that its next datagram can restore, and use its
 * descriptor. */
static int open_socket(struct connection *c, const struct datagram *d, const void *payload,
		       struct failure *why)
{
	struct service *s = c->service;
	int fd = datagram_open_flow(s->sent, d, payload, take_stray, c, why);

	if (fd < 0 && service_is_shortage(why->err) && service_make_room(s))
		fd = datagram_open_flow(s->sent, d, payload, take_stray, c, why);
	return fd;
}

/* Waiting flows hold places that others could have; if lo is blocked they are refused at once. */
static bool may_wait(const struct service *s)
{
	return s->opening <= OPENING_MAX &&
	       (!s->config->max || s->opening <= (s->config->max + 1) / 2);
}

/* Give the flow a socket, and, when the first datagram is there, pass that to whoever answers. */
static void open_flow(struct connection *c, const struct datagram *d, const void *payload)
{
	struct service *s = c->service;
	struct failure why = { 0 };

	s->opening++;
	c->source.fd = open_socket(c, d, payload, &why);
	if (c->source.fd < 0) {
		fail_flow(c, &why);
		return;
	}
	service_read_socket(s, c->source.fd, &c->caller);
	if (datagram_has_arrived(s->sent, c->source.fd)) {
		serve_flow(c);
		return;
	}
	/* Edge-triggered: other datagrams that come before it are not read. */
	c->source.handler = first_has_come;
	c->timer.alarm = first_is_lost;
	if (!may_wait(s) || loop_watch(s->loop, &c->source, EPOLLIN | EPOLLET) < 0)
		fail_lost_flow(c);
	else
		loop_arm(s->loop, &c->timer, OPENING_TIME);
}

/* Count a datagram of a flow that is only recorded; they come to the listener. */
static void count_datagram(struct connection *c, const struct datagram *d)
{
	c->packets_up++;
	c->bytes_up += d->length;
	touch_flow(c);
}

static void record_flow(struct connection *c, const struct datagram *d)
{
	struct service *s = c->service;

	c->phase = PHASE_SERVED;
	c->timer.alarm = flow_is_idle;
	s->accepted++;
	service_put_event(s, "open", &c->caller, 0, NULL);
	count_datagram(c, d);
}

/* Only conntrack knows the original destination of a REDIRECTed datagram; if we may not ask it, the
 * destination is unknown. */
static void find_origdst(struct service *s, struct caller *caller)
{
	struct endpoint origdst;

	if (caller->origin != ORIGIN_NONE || !s->translation ||
	    !translation_origdst(s->translation, &caller->local, &caller->client, &origdst))
		return;
	caller->origin = ORIGIN_CONNTRACK;
	caller->origdst = origdst;
}

static void describe_flow(struct service *s, struct caller *caller, const struct listener *listener,
			  const struct datagram *d)
{
	*caller = (struct caller){
		.id = ++s->seen,
		.protocol = IPPROTO_UDP,
		.client = d->client,
		.origdst = d->origdst,
		.local = d->local,
		.origin = d->origin,
		.listener = listener,
		.interface = s->wants_iif ? d->interface : 0,
	};
	find_origdst(s, caller);
}

/* Why a flow cannot be served, or NULL. */
static const char *find_objection(struct service *s, const struct caller *caller)
{
	if (s->action == ACTION_RUN && caller->origin == ORIGIN_NONE && !s->config->allow_direct)
		return "direct";
	/* Its first datagram, sent again, would be another connection to NAT. */
	if (caller->origin == ORIGIN_CONNTRACK && flows_need_sockets(s))
		return "redirected";
	return service_is_crowded(s, caller) ? "per-client" : NULL;
}

static void begin_flow(struct service *s, const struct listener *listener, const struct datagram *d,
		       const void *payload)
{
	struct connection *c;
	struct caller caller;
	struct failure why;
	const char *objection;

	describe_flow(s, &caller, listener, d);
	objection = find_objection(s, &caller);
	if (objection) {
		refuse_flow(s, &caller, objection);
		return;
	}
	if (service_is_full(s))
		service_make_room(s);
	c = service_new_connection(s, &caller, -1, PHASE_OPENING);
	if (!c) {
		if (s->clients)
			client_count_leave(s->clients, &caller.client);
		service_put_event(s, "refused", &caller, 0, "resources");
		report_fail(&why, ENOMEM, "malloc", "flow");
		service_pause(s, &why);
		return;
	}
	flow_table_enter(&s->flows, c);
	s->open++;
	if (flows_need_sockets(s))
		open_flow(c, d, payload);
	else
		record_flow(c, d);
}

static void put_datagram(struct service *s, const struct listener *listener,
			 const struct datagram *d)
{
	struct caller caller;
	char name[IF_NAMESIZE];
	struct record r;

	describe_flow(s, &caller, listener, d);
	service_describe(&r, "datagram", &caller, name);
	record_number(&r, RECORD_BYTES_UP, d->length);
	record_stream_put(s->stream, &r);
	s->accepted++;
}

/* Handle one more datagram of a flow that came to the listener. */
static void continue_flow(struct connection *c, const struct datagram *d, const void *payload)
{
	if (flows_need_sockets(c->service)) /* it was in flight to the listener already */
		datagram_forward(c->service->sent, d, payload, NULL);
	else
		count_datagram(c, d);
}

static bool was_refused(const struct service *s, const struct datagram *d)
{
	return recent_knows(s->refused, flow_table_hash(&s->flows, &d->client, &d->local),
			    loop_now(s->loop));
}

static void on_datagram(struct service *s, const struct listener *listener,
			const struct datagram *d, const void *payload)
{
	struct connection *c;

	if (flows_need_sockets(s) && datagram_came_back(s->sent, d, payload))
		return;
	if (s->config->datagrams) {
		put_datagram(s, listener, d);
		return;
	}
	c = flow_table_find(&s->flows, &d->client, &d->local);
	if (c)
		continue_flow(c, d, payload);
	else if (!was_refused(s, d))
		begin_flow(s, listener, d, payload);
}

/* A flow that is being opened may be the last for --count. */
static bool is_spoken_for(const struct service *s)
{
	return s->config->count && s->accepted + s->opening >= s->config->count;
}

/* Handle a datagram of another flow, which the socket of a flow received before it was connected.
 * It may open a flow, whose socket may again receive some: beyond a certain depth they are lost, as
 * datagrams may be. */
static void take_stray(const struct datagram *stray, const void *payload, void *context)
{
	struct connection *c = context;
	struct service *s = c->service;

	if (is_spoken_for(s) || s->flow_depth >= FLOW_DEPTH_MAX ||
	    (service_is_full(s) && !service_can_make_room(s)))
		return;
	s->flow_depth++;
	on_datagram(s, c->caller.listener, stray, payload);
	s->flow_depth--;
}

/* May the next datagram be read? If not, the listeners are not polled until it may. */
static bool may_take(struct service *s)
{
	if (s->stage == STAGE_SERVING && is_spoken_for(s)) {
		for (size_t i = 0; i < s->udp.count; i++)
			if (s->udp_sources[i].fd >= 0)
				loop_watch(s->loop, &s->udp_sources[i], 0);
		return false;
	}
	return service_may_accept(s);
}

void flows_take(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);
	const struct listener *listener = &s->udp.at[source - s->udp_sources];
	char payload[DATAGRAM_MAX];
	struct datagram d;

	for (int i = 0; i < SERVICE_BATCH && may_take(s); i++) {
		if (datagram_receive(source->fd, &listener->at, payload, sizeof(payload), &d) < 0)
			break;
		on_datagram(s, listener, &d, payload);
		if (service_has_enough(s))
			service_note_stage(s, STAGE_FINISHING);
	}
	service_flush(s);
}
