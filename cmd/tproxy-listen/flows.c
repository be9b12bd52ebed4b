/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include "datagram.h"

/* A flow ends after so many milliseconds without a datagram. So deep may strays, met while a flow's socket
 * is opened, open sockets for flows themselves. */
#define FLOW_IDLE      30000
#define FLOW_DEPTH_MAX 2
#define FLOW_SLOTS     4096 /* a power of two */

int flows_init(struct service *s, struct failure *why)
{
	s->flows = calloc(FLOW_SLOTS, sizeof(*s->flows));
	if (!s->flows)
		return report_fail(why, ENOMEM, "malloc", "flows");
	s->conntrack = conntrack_open(NULL);
	if (getrandom(&s->flow_seed, sizeof(s->flow_seed), GRND_NONBLOCK) < 0)
		s->flow_seed = (uintptr_t)s->flows; /* guessable, and still a hash */
	return 0;
}

void flows_free(struct service *s)
{
	conntrack_close(s->conntrack);
	free(s->flows);
}

static struct connection **flow_slot(struct service *s, const struct endpoint *client,
				     const struct endpoint *local)
{
	uint64_t hash = endpoint_hash(local, endpoint_hash(client, s->flow_seed));

	return &s->flows[hash & (FLOW_SLOTS - 1)];
}

void flows_forget(struct connection *c)
{
	struct connection **at = flow_slot(c->service, &c->caller.client, &c->caller.local);

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
}

static struct connection *find_flow(struct service *s, const struct datagram *d)
{
	struct connection *c = *flow_slot(s, &d->client, &d->local);

	while (c && !(endpoint_equal(&c->caller.client, &d->client) &&
		      endpoint_equal(&c->caller.local, &d->local)))
		c = c->next;
	return c;
}

static void flow_is_idle(struct loop *loop, struct loop_timer *timer)
{
	service_finish(container_of(timer, struct connection, timer), "idle");
	service_flush(loop_context(loop));
}

/* Answer on the flow's own socket; what the client's host refuses (ICMP) is its affair. */
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
	loop_arm(loop, &c->timer, FLOW_IDLE);
}

static void take_stray(const struct datagram *stray, const void *payload, void *context);

/* Give the flow a socket, and that to whoever answers. */
static bool open_flow(struct connection *c, const struct datagram *d, const void *payload,
		      struct failure *why)
{
	struct service *s = c->service;

	c->source.fd = datagram_open_flow(d, payload, take_stray, c, why);
	if (c->source.fd < 0)
		return false;
	service_read_socket(s, c->source.fd, &c->caller);
	if (s->action == ACTION_RUN)
		return serve_command(c, why);
	c->source.handler = answer_datagrams;
	return loop_watch(s->loop, &c->source, EPOLLIN) == 0 ||
	       report_fail(why, errno, "epoll_ctl", "flow") == 0;
}

/* A refused flow is remembered while it goes on, or each of its datagrams would be a record. */
static void refuse_flow(struct connection *c, const char *reason)
{
	struct service *s = c->service;

	c->phase = PHASE_REFUSED;
	c->source.fd = -1;
	service_put_event(s, "refused", &c->caller, 0, reason);
	loop_arm(s->loop, &c->timer, FLOW_IDLE);
}

bool flows_need_sockets(const struct service *s)
{
	return s->action == ACTION_RUN || s->action == ACTION_REPLY || s->action == ACTION_ECHO;
}

/* Give it a socket if it needs one, and say that it is there. */
static void accept_flow(struct connection *c, const struct datagram *d, const void *payload)
{
	struct service *s = c->service;
	struct failure why = { 0 };
	char text[512];

	if (flows_need_sockets(s) && !open_flow(c, d, payload, &why)) {
		report_warning("flow refused: %s", report_text(&why, text, sizeof(text)));
		loop_close(s->loop, &c->source);
		if (s->crowd)
			crowd_leave(s->crowd, &c->caller.client);
		c->timer = (struct loop_timer){ .alarm = flow_is_idle };
		c->source.dead = false;
		refuse_flow(c, "resources");
		return;
	}
	s->accepted++;
	service_put_event(s, "open", &c->caller, c->phase == PHASE_RUN ? c->child.pid : 0, NULL);
	if (c->phase == PHASE_RUN)
		loop_close(s->loop, &c->source);
}

/* Only conntrack knows where a REDIRECTed datagram was going; when it may not be asked, nobody does. */
static void find_origdst(struct service *s, struct caller *caller)
{
	struct endpoint origdst;

	if (caller->origin != ORIGIN_NONE || !s->conntrack ||
	    conntrack_origdst(s->conntrack, IPPROTO_UDP, &caller->local, &caller->client, &origdst,
			      NULL) <= 0 ||
	    endpoint_equal(&origdst, &caller->local))
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
	/* Its first datagram, sent once more, would be another connection to NAT. */
	if (caller->origin == ORIGIN_CONNTRACK && flows_need_sockets(s))
		return "redirected";
	return service_is_crowded(s, caller) ? "per-client" : NULL;
}

static struct connection *begin_flow(struct service *s, const struct listener *listener,
				     const struct datagram *d, const void *payload)
{
	struct connection **slot = flow_slot(s, &d->client, &d->local), *c;
	struct caller caller;
	const char *objection;

	describe_flow(s, &caller, listener, d);
	c = service_new_connection(s, &caller, -1,
				   s->action == ACTION_RUN ? PHASE_RUN : PHASE_SERVED);
	if (!c)
		return NULL;
	c->next = *slot;
	*slot = c;
	c->timer.alarm = flow_is_idle;
	s->open++;
	objection = find_objection(s, &caller);
	if (objection)
		refuse_flow(c, objection);
	else
		accept_flow(c, d, payload);
	return c;
}

/* One more datagram of a flow that the listener has got. */
static void continue_flow(struct connection *c, const struct datagram *d, const void *payload)
{
	if (c->phase == PHASE_REFUSED) {
		loop_arm(c->service->loop, &c->timer, FLOW_IDLE);
	} else if (flows_need_sockets(c->service)) {
		datagram_forward(d, payload, NULL); /* it was on its way here already */
	} else {
		c->packets_up++;
		c->bytes_up += d->length;
		loop_arm(c->service->loop, &c->timer, FLOW_IDLE);
	}
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

static void welcome_datagram(struct service *s, const struct listener *listener,
			     const struct datagram *d, const void *payload)
{
	struct connection *c;

	if (flows_need_sockets(s) && datagram_came_back(d))
		return;
	if (s->config->datagrams) {
		put_datagram(s, listener, d);
		return;
	}
	c = find_flow(s, d);
	if (c)
		continue_flow(c, d, payload);
	else if ((c = begin_flow(s, listener, d, payload)) && c->phase == PHASE_SERVED &&
		 !flows_need_sockets(s))
		continue_flow(c, d, payload);
}

/* Somebody else's datagram, caught by the socket of a flow before that was connected. Each may open a
 * flow, whose socket may catch some: beyond a depth they are lost, as datagrams may be. */
static void take_stray(const struct datagram *stray, const void *payload, void *context)
{
	struct connection *c = context;
	struct service *s = c->service;

	if (service_has_enough(s) || s->flow_depth >= FLOW_DEPTH_MAX)
		return;
	s->flow_depth++;
	welcome_datagram(s, c->caller.listener, stray, payload);
	s->flow_depth--;
}

void flows_take(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);
	const struct listener *listener = &s->udp.at[source - s->udp_sources];
	char payload[DATAGRAM_MAX];
	struct datagram d;

	for (int i = 0; i < SERVICE_BATCH && service_may_accept(s); i++) {
		if (datagram_receive(source->fd, &listener->at, payload, sizeof(payload), &d) < 0)
			break;
		welcome_datagram(s, listener, &d, payload);
		if (service_has_enough(s))
			service_advance(s, STAGE_FINISHING);
	}
	service_flush(s);
}
