/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/accept.h"

#include "base/container.h"
#include "tproxy-listen/serve.h"
#include <errno.h>
#include <netinet/in.h>

/* More than a backlog holds: clients that connect faster than we accept must not keep the service
 * from ending. */
#define LAST_MAX 65536

/* A user who misses connections should learn why; a scan must not flood the log. */
static void refuse_direct(struct service *s, const struct caller *caller, int fd)
{
	char client[ENDPOINT_TEXT_MAX], listener[ENDPOINT_TEXT_MAX];

	if (!s->direct++)
		report_notice("%s: connected to %s directly and was refused; --allow-direct serves "
			      "such connections",
			      endpoint_format(&caller->client, client),
			      endpoint_format(&caller->listener->at, listener));
	service_refuse(s, caller, fd, "direct");
}

/* The client and the original destination are known now. */
static void admit(struct service *s, struct caller *caller, int fd)
{
	if (s->stage != STAGE_SERVING) {
		service_refuse(s, caller, fd, "stopped");
	} else if (s->action == ACTION_RUN && caller->origin == ORIGIN_NONE &&
		   !s->config->allow_direct) {
		refuse_direct(s, caller, fd);
	} else if (service_is_crowded(s, caller)) {
		service_refuse(s, caller, fd, "per-client");
	} else {
		s->accepted++;
		serve_act(s, caller, fd);
		if (service_has_enough(s))
			service_note_stage(s, STAGE_FINISHING);
	}
}

/* Stop waiting for the header, and free that state; the caller owns the descriptor again. */
static int stop_waiting(struct connection *c)
{
	struct service *s = c->service;
	int fd = c->source.fd;

	proxyproto_wait_end(s->loop, &c->wait);
	loop_discard(s->loop, &c->garbage, service_release);
	service_leave(s);
	return fd;
}

void accept_refuse_header(struct connection *c, const char *why)
{
	char client[ENDPOINT_TEXT_MAX];
	struct service *s = c->service;
	int fd = stop_waiting(c);

	report_verbose(1, "%s: PROXY header: %s", endpoint_format(&c->caller.client, client), why);
	service_refuse(s, &c->caller, fd, "proxy-header");
}

/* A header that leads to a listener of ours counts as a direct connection: whoever connected on to
 * that destination would connect to itself. */
static void apply_proxy_header(struct caller *caller, const struct service *s,
			       const struct proxyproto_header *header)
{
	caller->client = header->source;
	caller->origdst = header->destination;
	caller->origin = ORIGIN_PROXY;
	for (size_t i = 0; i < s->listeners.count; i++) {
		if (!transparent_is_at(&s->listeners.at[i].at, &header->destination))
			continue;
		caller->origdst = (struct endpoint){ 0 };
		caller->origin = ORIGIN_NONE;
	}
}

static void handle_header(struct loop *loop, struct proxyproto_wait *wait,
			  const struct proxyproto_header *header, const char *trouble)
{
	struct connection *c = container_of(wait, struct connection, wait);
	struct service *s = loop_context(loop);

	if (!header) {
		accept_refuse_header(c, trouble);
	} else {
		if (header->has_addresses)
			apply_proxy_header(&c->caller, s, header);
		admit(s, &c->caller, stop_waiting(c));
	}
	service_flush(s);
}

static void await_header(struct service *s, const struct caller *caller, int fd)
{
	struct connection *c = service_new_connection(s, caller, fd, PHASE_HEADER);

	if (c) {
		s->open++;
		if (proxyproto_wait_await(s->loop, &c->wait, fd, handle_header) == 0)
			return;
		stop_waiting(c);
	}
	service_refuse(s, caller, fd, "resources");
}

static void on_accept(struct service *s, const struct listener *listener,
		      const struct transparent_connection *new)
{
	struct caller caller = {
		.id = ++s->seen,
		.protocol = IPPROTO_TCP,
		.client = new->client,
		.origdst = new->origdst,
		.origin = new->origin,
		.listener = listener,
	};

	if (s->wants_iif)
		caller.interface = transparent_ingress(new->fd);
	service_read_socket(s, new->fd, &caller);
	if (endpoint_in_cidrs(&caller.client, &s->config->accept_proxy))
		await_header(s, &caller, new->fd);
	else
		admit(s, &caller, new->fd);
}

static void pause_accepting(struct service *s, const struct loop_source *source, int error)
{
	const struct listener *listener = &s->listeners.at[source - s->sources];
	char text[ENDPOINT_TEXT_MAX];
	struct failure why;

	report_fail(&why, error, "accept4", "%s", endpoint_format(&listener->at, text));
	service_pause(s, &why);
}

/* No connection was accepted: is it worth trying the next? */
static bool is_worth_another(struct service *s, struct loop_source *source, int error)
{
	switch (transparent_accept_verdict(error)) {
	case ACCEPT_NOBODY:
		return false;
	case ACCEPT_NEXT:
		return true;
	case ACCEPT_LACK:
		if (report_shortage(error) == SHORTAGE_DESCRIPTORS && service_make_room(s))
			return true;
		pause_accepting(s, source, error);
		return false;
	case ACCEPT_LATER:
		pause_accepting(s, source, error);
		return false;
	case ACCEPT_NEVER:
		service_lose_listener(s, source);
	}
	return false;
}

/* Accept one connection. False: there is none, or none can be accepted now. */
static bool accept_one(struct service *s, struct loop_source *source)
{
	const struct listener *listener = &s->listeners.at[source - s->sources];
	struct transparent_connection new;

	if (source->fd < 0 || !service_may_accept(s))
		return false;
	if (transparent_accept(source->fd, &listener->at, NULL, &new) < 0)
		return is_worth_another(s, source, errno);
	if (service_is_full(s))
		service_make_room(s);
	on_accept(s, listener, &new);
	return true;
}

void accept_pending(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);

	for (int i = 0; i < SERVICE_BATCH && accept_one(s, source); i++)
		;
	service_flush(s);
}

void accept_last(struct service *s)
{
	for (size_t i = 0; i < s->listeners.count; i++)
		for (int n = 0; n < LAST_MAX && accept_one(s, &s->sources[i]); n++)
			;
}
