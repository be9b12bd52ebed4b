/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Both directions use the same code: direction W reads from side W and writes to side !W. Data is
 * sent on in the turn in which it was read; while a direction holds data that its receiver did not
 * take, it reads nothing. So an idle connection costs one struct flow, and a stalled one a buffer
 * or a pipe more.
 *
 * A socket is added to epoll once, edge-triggered: an exchange of small data needs no further
 * epoll_ctl(), and no socket is read twice. This is correct because a short read has emptied the
 * socket at that moment, and whatever comes later is a new edge. What came before is known from the
 * event: it includes EPOLLRDHUP and EPOLLPRI, and with either of them a direction is read until it
 * is empty. Where an edge could be lost - data comes in bulk, a receiver takes no more - the side
 * is level-triggered; wanted_events() derives all of this from the state.
 *
 * FIN is passed on only when everything before it has been delivered. If epoll has announced it
 * (EPOLLRDHUP), it leaves with the last data: the data is sent with MSG_MORE, and the shutdown that
 * follows pushes both out as one segment. A reset is passed on as a reset, after what was received
 * before it has been sent, as far as the other side takes it.
 */
#include "tproxy-relay/flow.h"
#include "base/container.h"
#include "net/tcpinfo.h"
#include "net/translation.h"
#include "socket/dscp.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_PER_EVENT 4    /* then other flows get a turn */
#define SETTLE_MS	250  /* after this a connection is not a short one */
#define TAKEN_MS	1000 /* for another thread to end what its client has reset */
#define REST_TICKS	(1000 / LOOP_TICK_MS) /* without a byte: the direction is no longer bulk */

static_assert(sizeof(struct flow) <= 176, "an idle connection is small");
static_assert(REASON_COUNT <= 32, "struct flow has five bits for a reason");

static void handle_client(struct loop *loop, struct loop_source *source, uint32_t events);
static void handle_upstream(struct loop *loop, struct loop_source *source, uint32_t events);
static void handle_alarm(struct loop *loop, struct loop_timer *timer);

const struct endpoint *flow_upstream_local(const struct flow *f)
{
	return f->extra && f->extra->leg.noted ? &f->extra->leg.local : &f->client;
}

const struct endpoint *flow_upstream(const struct flow *f)
{
	return f->extra && f->extra->leg.noted ? &f->extra->leg.peer : &f->origdst;
}

const struct endpoint *flow_upstream_source(const struct flow *f)
{
	return f->extra && endpoint_is_set(&f->extra->seen) ? &f->extra->seen : NULL;
}

/* #syscalls upstream: getsockopt */
uint64_t flow_cookie(const struct flow *f, enum flow_end end)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);

	if (f->side[end].fd < 0 ||
	    getsockopt(f->side[end].fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0)
		return 0;
	return cookie;
}

/* Does the flow wait for its port? There is no upstream socket yet. */
static bool is_waiting(const struct flow *f)
{
	return f->state == FLOW_CONNECTING && f->side[FLOW_UPSTREAM].fd < 0;
}

static bool is_heavy(const struct flow *f)
{
	return pump_is_heavy(&f->pump[FLOW_UP]) || pump_is_heavy(&f->pump[FLOW_DOWN]);
}

static bool is_half_closed(const struct flow *f)
{
	return f->pump[FLOW_UP].ended || f->pump[FLOW_DOWN].ended;
}

const char *flow_state_name(const struct flow *f)
{
	if (f->state == FLOW_CONNECTING)
		return "connecting";
	if (f->state == FLOW_OPEN)
		return is_half_closed(f) ? "half-closed" : "open";
	return "closed";
}

/* ---- deadlines ---- */

/* Time since the last byte, or since the start. */
static uint64_t quiet_ms(const struct flow_ops *host, const struct flow *f)
{
	return (uint64_t)(loop_tick(host->loop) - f->active) * LOOP_TICK_MS;
}

/* How long this state may last since f->active, and the reason when it ends. */
static uint64_t timeout_of(const struct flow *f, const struct flow_settings *settings,
			   enum reason *reason)
{
	if (f->state == FLOW_CONNECTING) {
		*reason = REASON_UPSTREAM_TIMEOUT;
		return settings->connect_timeout;
	}
	*reason = is_half_closed(f) ? REASON_HALF_CLOSED : REASON_IDLE;
	return is_half_closed(f) ? settings->half_closed_timeout : settings->idle_timeout;
}

/*
 * Set the alarm to the time that the state has left. After a change of state that may be earlier
 * than the previous setting.
 */
static void arm(struct flow_ops *host, struct flow *f)
{
	enum reason reason;
	uint64_t most = timeout_of(f, host->settings, &reason), waited = quiet_ms(host, f);
	uint64_t left = waited < most ? most - waited : 0;

	loop_arm(host->loop, &f->timer, !f->settled && left > SETTLE_MS ? SETTLE_MS : left);
}

/*
 * Make the system calls that matter only to connections that last, or carry much: short ones do not
 * pay for them. Client sockets inherit keepalive from their listener.
 */
static void settle(struct flow_ops *host, struct flow *f)
{
	const char *call;

	f->settled = true;
	transparent_guard(f->side[FLOW_CLIENT].fd, true);
	transparent_guard(f->side[FLOW_UPSTREAM].fd, true);
	if (host->settings->keepalive)
		transparent_set_keepalive(f->side[FLOW_UPSTREAM].fd, host->settings->keepalive,
					  &call);
}

/* ---- what to wait for ---- */

#define READING (EPOLLIN | EPOLLRDHUP | EPOLLPRI)

/* The one place that derives the epoll mask of a side from the state. */
static uint32_t wanted_events(const struct flow *f, enum flow_end side)
{
	const struct pump *in = &f->pump[side], *out = &f->pump[!side];
	bool reads = !in->ended && !pump_is_full(in);
	bool writes = pump_is_full(out);

	/* EPOLLOUT reports the connect, and costs nothing afterwards. */
	if (f->state == FLOW_CONNECTING || (!pump_is_heavy(in) && !writes))
		return READING | EPOLLET | (side == FLOW_UPSTREAM ? EPOLLOUT : 0);
	return (reads ? READING : 0) | (writes ? EPOLLOUT : 0);
}

static int watch(struct flow_ops *host, struct flow *f)
{
	for (int side = 0; side < (is_waiting(f) ? 1 : 2); side++)
		if (loop_watch(host->loop, &f->side[side], wanted_events(f, side)) < 0)
			return -1;
	return 0;
}

/* ---- the end ---- */

static void release(struct loop *loop, struct loop_garbage *garbage)
{
	struct flow *f = container_of(garbage, struct flow, garbage);
	struct flow_ops *host = loop_context(loop);

	slab_put(&host->flows, f);
	if (host->released)
		host->released(host);
}

/* See transparent_guard(). After a reset, or on a socket that was never connected, there is nothing
 * to guard. */
static void close_side(struct flow_ops *host, struct flow *f, enum flow_end side, bool orderly)
{
	struct loop_source *s = &f->side[side];

	if (s->fd >= 0 && orderly == f->settled)
		transparent_guard(s->fd, !orderly);
	loop_close(host->loop, s);
}

void flow_finish(struct flow_ops *host, struct flow *f, enum reason reason)
{
	if (f->state == FLOW_CLOSED)
		return;
	f->state = FLOW_CLOSED;
	f->reason = (uint8_t)reason & 31;
	loop_disarm(host->loop, &f->timer);
	host->finished(host, f);
	if (f->extra)
		policy_remove_leg(host->policy, &f->extra->leg);
	for (int side = 0; side < 2; side++) {
		close_side(host, f, side, reason == REASON_DONE);
		pump_drop(&f->pump[side], &host->tools);
	}
	free(f->extra);
	f->extra = NULL;
	loop_discard(host->loop, &f->garbage, release);
}

/*
 * Did an established connection get a reset? The two errors are without and with a FIN before it; a
 * reset that answers a SYN is ECONNREFUSED (tcp_reset() in net/ipv4/tcp_input.c).
 */
static bool is_reset(int error)
{
	return error == ECONNRESET || error == EPIPE;
}

/* What an error of an established socket means: reset, destroyed by tcp_abort() (net/ipv4/tcp.c),
 * or timed out. */
static enum reason loss_of(enum flow_end side, int error)
{
	bool reset = is_reset(error);

	if (error == ECONNABORTED)
		return REASON_DESTROYED;
	if (side == FLOW_CLIENT)
		return reset ? REASON_CLIENT_RESET : REASON_CLIENT_LOST;
	return reset ? REASON_UPSTREAM_RESET : REASON_UPSTREAM_LOST;
}

/* ---- carrying ---- */

/* Does the flow continue, or has it ended? */
enum step { STEP_ON, STEP_OVER };

static enum step finish(struct flow_ops *host, struct flow *f, enum reason reason)
{
	flow_finish(host, f, reason);
	return STEP_OVER;
}

/*
 * The receiver of this direction has failed. What it sent before may still wait in its receive
 * queue: pass that on first, as the network would have done.
 */
static enum step lose_receiver(struct flow_ops *host, struct flow *f, int dir, int error)
{
	struct pump *back = &f->pump[!dir];
	enum pump_result result = PUMP_ON;

	while (!back->ended && !pump_is_full(back) && result <= PUMP_SHORT)
		result = pump_pull(back, f->side[!dir].fd, f->side[dir].fd, &host->tools, false);
	return finish(host, f, loss_of(!dir, error));
}

static enum step handle_result(struct flow_ops *host, struct flow *f, int dir,
			       enum pump_result result)
{
	switch (result) {
	case PUMP_ENDED:
		f->pump[dir].ended = true;
		pump_rest(&f->pump[dir]);
		if (f->state == FLOW_OPEN)
			arm(host, f);
		break;
	case PUMP_FROM_FAILED:
		return finish(host, f, loss_of(dir, errno));
	case PUMP_TO_FAILED:
		return lose_receiver(host, f, dir, errno);
	case PUMP_NO_MEMORY:
		return finish(host, f, REASON_MEMORY);
	case PUMP_ON:
	case PUMP_SHORT:
	case PUMP_EMPTY:
	case PUMP_FULL:
		break;
	}
	return STEP_ON;
}

/* #syscalls upstream: getsockopt */
static int error_of(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	return error;
}

/* Nothing can be sent on: the socket is no longer connected, for whatever reason. */
static enum step lose_connection(struct flow_ops *host, struct flow *f, int dir, int error)
{
	int of_socket = error == ENOTCONN ? error_of(f->side[!dir].fd) : 0;

	if (error == ENOTCONN)
		error = of_socket ? of_socket : ECONNRESET;
	return lose_receiver(host, f, dir, error);
}

/* This direction has delivered everything: pass its FIN on. If it is the last direction, closing
 * does that, too.
 * #syscalls upstream: shutdown */
static enum step shut_direction(struct flow_ops *host, struct flow *f, int dir)
{
	f->pump[dir].shut = true;
	if (f->pump[!dir].shut)
		return finish(host, f, REASON_DONE);
	if (shutdown(f->side[!dir].fd, SHUT_WR) < 0)
		return lose_connection(host, f, dir, errno);
	return STEP_ON;
}

/* What to do for a direction, beyond sending what is held. */
enum {
	CARRY_READ = 1, /* there is something to read */
	CARRY_ALL = 2,	/* even after a short read: FIN or urgent data is there already */
	CARRY_FIN = 4,	/* FIN is there: the last data may wait for it */
};

static bool goes_on(const struct pump *w, enum pump_result result, unsigned how)
{
	return result == PUMP_ON || (result == PUMP_SHORT && how & CARRY_ALL && !pump_is_heavy(w));
}

static enum step carry(struct flow_ops *host, struct flow *f, int dir, unsigned how)
{
	struct pump *w = &f->pump[dir];
	int from = f->side[dir].fd, to = f->side[!dir].fd;
	uint32_t now = loop_tick(host->loop);
	enum pump_result result = pump_push(w, to, &host->tools, how & CARRY_FIN);

	if (now - f->active > REST_TICKS)
		pump_rest(w);
	f->active = now;
	for (int n = 0; how & CARRY_READ && !w->ended && goes_on(w, result, how); n++) {
		if (n >= READS_PER_EVENT && pump_is_heavy(w))
			break; /* level-triggered: there will be an event */
		result = pump_pull(w, from, to, &host->tools, how & CARRY_FIN);
	}
	if (handle_result(host, f, dir, result) == STEP_OVER)
		return STEP_OVER;
	if (w->ended && !pump_is_full(w) && !w->shut)
		return shut_direction(host, f, dir);
	return STEP_ON;
}

/*
 * FIN was in the queue when epoll looked, and so was everything before it: a read that does not
 * fill its buffer takes the last data. Only urgent data splits a read. (EPOLLHUP alone means that
 * both directions have ended; a reset raises EPOLLERR as well.)
 */
static bool has_fin(uint32_t events)
{
	return (events & (EPOLLRDHUP | EPOLLPRI | EPOLLERR)) == EPOLLRDHUP;
}

/* What to read after an event. A reset raises EPOLLRDHUP, too; then nothing may be held back. */
static unsigned reading(uint32_t events)
{
	bool failed = events & (EPOLLERR | EPOLLHUP);

	if (!(events & READING) && !failed)
		return 0;
	if (has_fin(events))
		return CARRY_READ | CARRY_ALL | CARRY_FIN;
	return events & EPOLLPRI || failed ? CARRY_READ | CARRY_ALL : CARRY_READ;
}

/*
 * The first data of a connection leaves at once anyway, and the last with its FIN. Data in between
 * could be delayed by Nagle's algorithm; many connections have none.
 * #syscalls upstream: setsockopt(SOL_TCP, TCP_NODELAY)
 */
static void set_nodelay(struct flow *f)
{
	int on = 1;

	f->nodelay = true;
	setsockopt(f->side[FLOW_UPSTREAM].fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
}

/*
 * Handle an error on a side that is not being read, now or any more: nothing else would notice it,
 * and epoll would report it for ever.
 */
static enum step check_error(struct flow_ops *host, struct flow *f, enum flow_end side)
{
	int error = error_of(f->side[side].fd);

	return error ? finish(host, f, loss_of(side, error)) : STEP_ON;
}

static void serve(struct flow_ops *host, struct flow *f, enum flow_end side, uint32_t events)
{
	bool failed = events & (EPOLLERR | EPOLLHUP);
	enum step step = STEP_ON;

	if (side == FLOW_CLIENT && !f->nodelay && f->pump[FLOW_UP].bytes && !(events & EPOLLRDHUP))
		set_nodelay(f);
	if (reading(events) && !pump_is_full(&f->pump[side]))
		step = carry(host, f, side, reading(events));
	/* While its receiver was full, edges of the other side were ignored: read everything. */
	if (step != STEP_OVER && (events & EPOLLOUT || failed) && pump_is_full(&f->pump[!side]))
		step = carry(host, f, !side, CARRY_READ | CARRY_ALL);
	if (step != STEP_OVER && failed && (f->pump[side].ended || pump_is_full(&f->pump[side])))
		step = check_error(host, f, side);
	if (step != STEP_OVER && !f->settled && is_heavy(f))
		settle(host, f);
	if (step != STEP_OVER && watch(host, f) < 0)
		flow_finish(host, f, REASON_MEMORY);
}

/* ---- connecting ---- */

/* The reason for an error from the upstream, or from a router on the path to it. */
static enum reason reason_of_answer(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return REASON_UPSTREAM_REFUSED;
	case ETIMEDOUT:
		return REASON_UPSTREAM_TIMEOUT;
	case ECONNABORTED:
		return REASON_DESTROYED;
	default: /* ENETUNREACH, EHOSTUNREACH, EACCES and other ICMP errors */
		return REASON_UPSTREAM_UNREACHABLE;
	}
}

static void lose_early_client(struct flow_ops *host, struct flow *f, int error)
{
	flow_finish(host, f, error == ECONNABORTED ? REASON_DESTROYED : REASON_CLIENT_GONE);
}

/* Data that comes before the upstream answers goes out with the handshake's last segment. */
static void take_early(struct flow_ops *host, struct flow *f)
{
	enum pump_result result = pump_take(&f->pump[FLOW_UP], f->side[FLOW_CLIENT].fd,
					    &host->tools);

	if (result == PUMP_FROM_FAILED)
		lose_early_client(host, f, errno);
	else
		handle_result(host, f, FLOW_UP, result);
}

static void serve_early(struct flow_ops *host, struct flow *f, uint32_t events)
{
	struct pump *up = &f->pump[FLOW_UP];

	if (events & (EPOLLERR | EPOLLHUP)) {
		lose_early_client(host, f, error_of(f->side[FLOW_CLIENT].fd));
		return;
	}
	if (pump_is_full(up) || up->ended)
		f->unread = true;
	else
		take_early(host, f);
	if (events & (EPOLLRDHUP | EPOLLPRI) || pump_is_heavy(up))
		f->unread = true;
	up->last = has_fin(events);
}

/* ---- the PROXY header for the upstream ---- */

size_t flow_unique_id(const struct flow_ops *host, const struct flow *f,
		      uint8_t id[PROXYPROTO_ID_MAX])
{
	if (f->extra && f->extra->id_length) {
		memcpy(id, f->extra->id, f->extra->id_length);
		return f->extra->id_length;
	}
	if (host->settings->send_proxy < 2)
		return 0;
	return (size_t)snprintf((char *)id, PROXYPROTO_ID_MAX, "%016" PRIx64 "-%" PRIu64,
				host->settings->unique_ids, f->id);
}

/* Returns its length. The destination of a connection that was not redirected is its own local
 * end. */
static size_t make_proxy_header(const struct flow_ops *host, const struct flow *f,
				uint8_t text[PROXYPROTO_WRITTEN_MAX])
{
	struct proxyproto_header header = {
		.version = host->settings->send_proxy,
		.protocol = IPPROTO_TCP,
		.source = f->client,
		.destination = f->origdst,
	};

	if (!endpoint_is_set(&header.destination))
		header.destination = endpoint_local_of(f->side[FLOW_CLIENT].fd);
	header.has_addresses = header.destination.family == header.source.family;
	header.id_length = flow_unique_id(host, f, header.id);
	return proxyproto_write(&header, text);
}

/*
 * The header must be the first thing that the upstream gets. Data that the client has sent already
 * follows in the same write.
 */
static enum pump_result send_proxy_header(struct flow_ops *host, struct flow *f)
{
	uint8_t text[PROXYPROTO_WRITTEN_MAX];

	/* Nagle's algorithm would keep the client's first data until the header is acknowledged. */
	if (!pump_is_full(&f->pump[FLOW_UP]))
		set_nodelay(f);
	return pump_preface(&f->pump[FLOW_UP], text, make_proxy_header(host, f, text));
}

/* What the upstream has acknowledged besides the client's payload: our SYN and the PROXY header. */
static uint64_t own_upstream(const struct flow_ops *host, const struct flow *f)
{
	uint8_t text[PROXYPROTO_WRITTEN_MAX];

	return 1 + (host->settings->send_proxy ? make_proxy_header(host, f, text) : 0);
}

uint64_t flow_delivered(const struct flow_ops *host, const struct flow *f, int dir)
{
	uint64_t acked, own = 0, bytes = f->pump[dir].bytes;
	enum flow_end to = dir == FLOW_UP ? FLOW_UPSTREAM : FLOW_CLIENT;

	if (f->reason == REASON_DONE || !bytes || tcpinfo_acked(f->side[to].fd, &acked) < 0)
		return bytes;
	if (to == FLOW_UPSTREAM)
		own = own_upstream(host, f);
	acked = acked > own ? acked - own : 0;
	return acked < bytes ? acked : bytes; /* the FIN may be included */
}

/* --keep-dscp: the client gets the server's. */
static void pass_dscp_down(struct flow_ops *host, struct flow *f)
{
	const struct endpoint *server = flow_upstream(f);
	uint8_t dscp = 0;

	if (server->family == AF_INET6)
		dscp = dscp_received(f->side[FLOW_UPSTREAM].fd);
	else if (host->synack)
		dscp = synack_dscp(host->synack, flow_upstream_local(f), server);
	dscp_set(f->side[FLOW_CLIENT].fd, dscp);
}

static void note_source(struct flow *f, const struct endpoint *seen)
{
	if (!f->extra)
		f->extra = calloc(1, sizeof(*f->extra));
	if (f->extra)
		f->extra->seen = *seen;
	f->kept = (uint8_t)transparent_kept_by(&f->client, seen) & 3;
}

/* The handshake is over: conntrack knows how NAT changed the upstream leg's source. */
static void learn_source(struct flow_ops *host, struct flow *f)
{
	struct endpoint seen;

	switch (translation_source(host->settings->translation, IPPROTO_TCP, flow_upstream_local(f),
				   flow_upstream(f), loop_now(host->loop), &seen)) {
	case TRANSLATION_NONE:
		break;
	case TRANSLATION_DONE:
		note_source(f, &seen);
		break;
	case TRANSLATION_UNKNOWN:
		f->kept = f->kept == KEPT_NO ? KEPT_NO : KEPT_UNKNOWN;
	}
}

static void set_open(struct flow_ops *host, struct flow *f)
{
	if (host->settings->translation)
		learn_source(host, f);
	if (host->settings->connect.keep_dscp)
		pass_dscp_down(host, f);
	f->state = FLOW_OPEN;
	f->was_open = true;
	f->active = loop_tick(host->loop);
	arm(host, f);
	host->opened(host, f);
}

static void serve_connect(struct flow_ops *host, struct flow *f, uint32_t events)
{
	unsigned how = f->unread ? CARRY_READ | CARRY_ALL : 0;
	int error = 0;

	if (f->pump[FLOW_UP].last)
		how |= CARRY_FIN;
	if (events & (EPOLLERR | EPOLLHUP))
		error = error_of(f->side[FLOW_UPSTREAM].fd);
	/* It was established, and reset before we saw that. */
	if (is_reset(error)) {
		set_open(host, f);
		lose_receiver(host, f, FLOW_UP, error);
		return;
	}
	if (error) {
		flow_finish(host, f, reason_of_answer(error));
		return;
	}
	if (!(events & (EPOLLOUT | READING)))
		return;
	set_open(host, f);
	if (host->settings->send_proxy && send_proxy_header(host, f) == PUMP_NO_MEMORY) {
		flow_finish(host, f, REASON_MEMORY);
		return;
	}
	if (carry(host, f, FLOW_UP, how) == STEP_OVER)
		return;
	serve(host, f, FLOW_UPSTREAM, events);
}

static void handle_client(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct flow *f = container_of(source, struct flow, side[FLOW_CLIENT]);

	if (f->state == FLOW_CONNECTING)
		serve_early(loop_context(loop), f, events);
	else
		serve(loop_context(loop), f, FLOW_CLIENT, events);
}

static void handle_upstream(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct flow *f = container_of(source, struct flow, side[FLOW_UPSTREAM]);

	if (f->state == FLOW_CONNECTING)
		serve_connect(loop_context(loop), f, events);
	else
		serve(loop_context(loop), f, FLOW_UPSTREAM, events);
}

/* ---- the beginning ---- */

/* Keep the UNIQUE_ID of the PROXY header. -1: no memory. */
static int keep_id(struct flow *f, const struct proxyproto_header *header)
{
	f->extra = calloc(1, sizeof(*f->extra) + header->id_length);
	if (!f->extra)
		return -1;
	f->extra->id_length = header->id_length;
	memcpy(f->extra->id, header->id, header->id_length);
	return 0;
}

static struct flow *make(struct flow_ops *host, const struct transparent_connection *c,
			 const struct proxyproto_header *header)
{
	struct flow *f = slab_get(&host->flows);

	if (!f)
		return NULL;
	if (header && header->id_length && keep_id(f, header) < 0) {
		slab_put(&host->flows, f);
		return NULL;
	}
	f->side[FLOW_CLIENT] = (struct loop_source){ .handler = handle_client, .fd = c->fd };
	f->side[FLOW_UPSTREAM] = (struct loop_source){ .handler = handle_upstream, .fd = -1 };
	f->timer.alarm = handle_alarm;
	f->client = c->client;
	f->origdst = c->origdst;
	f->origin = (uint8_t)c->origin & 7;
	f->opened_us = loop_now_us(host->loop);
	f->active = loop_tick(host->loop);
	f->state = FLOW_CONNECTING;
	return f;
}

/* Record the upstream leg if its ends are not those of the accepted socket. */
static int note_leg(struct flow_ops *host, struct flow *f, const struct endpoint *to)
{
	struct policy_leg *leg;

	if (is_waiting(f) || (f->origin == ORIGIN_TPROXY && f->kept == KEPT_ADDR_PORT &&
			      endpoint_equal(to, &f->origdst)))
		return 0;
	if (!f->extra && !(f->extra = calloc(1, sizeof(*f->extra))))
		return -1;
	leg = &f->extra->leg;
	leg->peer = *to;
	leg->local = f->client;
	leg->fd = f->side[FLOW_UPSTREAM].fd;
	if (f->kept != KEPT_ADDR_PORT)
		leg->local = endpoint_local_of(leg->fd);
	return endpoint_is_set(&leg->local) ? policy_add_leg(host->policy, leg) : -1;
}

/* One attempt to connect. Returns 0, or -1 with *why. */
static int ask_upstream(struct flow_ops *host, struct flow *f, const struct endpoint *to,
			const struct transparent_connect_options *how, struct failure *why)
{
	bool data_waits = pump_is_full(&f->pump[FLOW_UP]) || host->settings->send_proxy;
	enum transparent_kept kept;
	struct transparent_connect_options leg = *how;
	int fd;

	if (how->keep_dscp)
		leg.dscp = dscp_received(f->side[FLOW_CLIENT].fd);
	if (host->synack)
		synack_make_room(host->synack);
	fd = transparent_connect(&f->client, to, &leg, data_waits, &kept, why);
	f->side[FLOW_UPSTREAM].fd = fd;
	f->kept = fd < 0 ? KEPT_NO : (uint8_t)kept & 3;
	return fd < 0 ? -1 : 0;
}

/* May the flow wait until the client's port is free: does that make sense, and is there time? */
static bool may_wait(const struct flow_ops *host, const struct flow *f,
		     enum timewait_verdict verdict)
{
	uint64_t waited = quiet_ms(host, f);

	if (verdict == TIMEWAIT_BARRED || waited >= host->settings->connect_timeout)
		return false;
	return verdict == TIMEWAIT_ENDING || waited < TAKEN_MS;
}

/* The client's port cannot be used: use another port, wait, or give up. */
static int settle_clash(struct flow_ops *host, struct flow *f, const struct endpoint *to,
			struct transparent_connect_options how, struct failure *why)
{
	enum timewait_verdict verdict = TIMEWAIT_BARRED;

	if (how.source != SOURCE_CLIENT)
		return -1;
	if (policy_occupies(host->policy, &f->client))
		report_hint(why, "a listener of this relay on any address has that port: listen on "
				 "loopback");
	if (host->timewait && why->err == EADDRNOTAVAIL)
		verdict = timewait_clear(host->timewait, &f->client, to, why);
	if (verdict == TIMEWAIT_CLEARED && ask_upstream(host, f, to, &how, why) == 0)
		return 0;
	if (reason_of_failure(why) != REASON_CLASH)
		return -1;
	if (!host->settings->new_port)
		return may_wait(host, f, verdict) ? 0 : -1;
	how.source = SOURCE_CLIENT_ADDR;
	return ask_upstream(host, f, to, &how, why);
}

/*
 * Connect, or wait for the port. Uses one hop less than the client had, if hops are counted (0:
 * they are not). Returns 0, or -1 with *why and the flow finished.
 */
static int begin_connect(struct flow_ops *host, struct flow *f, const struct endpoint *to, int hops,
			 struct failure *why)
{
	struct transparent_connect_options how = host->settings->connect;
	int result;

	how.hops = hops ? hops - 1 : 0;
	result = ask_upstream(host, f, to, &how, why);
	if (result < 0 && reason_of_failure(why) == REASON_DESCRIPTORS && host->spare(host))
		result = ask_upstream(host, f, to, &how, why);
	if (result < 0 && reason_of_failure(why) == REASON_CLASH)
		result = settle_clash(host, f, to, how, why);
	if (result < 0) {
		flow_finish(host, f, reason_of_failure(why));
		return -1;
	}
	if (note_leg(host, f, to) < 0 || watch(host, f) < 0) {
		report_fail(why, errno, "epoll_ctl", "connection");
		flow_finish(host, f, REASON_MEMORY);
		return -1;
	}
	if (is_waiting(f))
		loop_arm(host->loop, &f->timer, LOOP_TICK_MS);
	else
		arm(host, f);
	return 0;
}

struct flow *flow_start(struct flow_ops *host, const struct transparent_connection *c,
			const struct proxyproto_header *header, const struct endpoint *to,
			uint64_t id, unsigned listener, struct failure *why)
{
	struct flow *f = make(host, c, header);

	if (!f) {
		transparent_reset(c->fd);
		report_fail(why, errno, "malloc", "connection");
		return NULL;
	}
	f->id = id;
	f->listener = (uint16_t)listener;
	take_early(host, f);
	if (f->state == FLOW_CONNECTING)
		begin_connect(host, f, to, c->hops, why);
	return f;
}

/* ---- alarms ---- */

/* The client's port was not free yet: try it once a tick, up to the connect timeout. */
static void try_again(struct flow_ops *host, struct flow *f)
{
	const struct endpoint *to = policy_upstream(host->policy, &f->client, &f->origdst);
	struct failure why = { 0 };
	int hops = 0;

	if (host->policy->counts_hops)
		hops = transparent_hops(f->side[FLOW_CLIENT].fd, f->client.family);
	if (begin_connect(host, f, to, hops, &why) < 0 && host->failed)
		host->failed(host, f, &why);
}

/* Traffic does not move the alarm: when it fires, it checks the time of the last byte and is set
 * again. */
static void handle_alarm(struct loop *loop, struct loop_timer *timer)
{
	struct flow_ops *host = loop_context(loop);
	struct flow *f = container_of(timer, struct flow, timer);
	enum reason reason;
	uint64_t most = timeout_of(f, host->settings, &reason);
	uint64_t waited = quiet_ms(host, f);

	if (is_waiting(f)) {
		try_again(host, f);
	} else if (waited >= most) {
		flow_finish(host, f, reason);
	} else {
		if (!f->settled)
			settle(host, f);
		arm(host, f);
	}
}
