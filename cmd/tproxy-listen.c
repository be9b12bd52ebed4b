/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-listen - open transparent listeners; say where every connection was going; hand it, or the
 * listener, to another program.
 *
 * Theory of operation
 *
 * One process, one event loop. A connection is recorded as it is accepted, and then:
 *
 *   accepted -> HEADER -> any of these            (--accept-proxy: its PROXY header is awaited)
 *   accepted -> closed at once                    (no action, --reset, refused)
 *   accepted -> SERVED -> closed                  (--hold, --echo, --discard)
 *   accepted -> SERVED -> LINGERING -> closed     (--reply: all is sent, the client may still talk)
 *   accepted -> RUN -> closed                     (CMD; the descriptor is the child's alone)
 *
 * A UDP flow, that is a client and an original destination, is a connection too. It begins with its
 * first datagram and ends when none has come for a while (or CMD ends). Where it is to be answered it
 * gets a socket of its own, and then the listener sees no more of it.
 *
 * Only what is not closed at once takes memory. None of it buffers data: --echo leaves in the kernel
 * what it cannot send yet. At a limit nobody is refused: the listeners are not polled until there is
 * room, and clients wait in the backlog.
 *
 * Records must not stop the service, so they go through record_stream; the service must not outlive
 * its reader, so stdout is watched for the reader's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "children.h"
#include "crowd.h"
#include "datagram.h"
#include "handover.h"
#include "listeners.h"
#include "loop.h"
#include "options.h"
#include "proxyproto.h"
#include "quantity.h"
#include "record.h"
#include "report.h"
#include "slab.h"
#include "transparent.h"

/* A command per connection is a process: more of them at once must be asked for. */
#define MAX_CHILDREN 1000
/* One listener's turn: so many connections, then the others and the timers. */
#define ACCEPT_BATCH 64
/* UDP: a flow ends after so many milliseconds without a datagram; so many of them at a time; and so
 * deep may strays, met while a flow's socket is opened, open sockets for flows themselves. */
#define FLOW_IDLE      30000
#define FLOWS_MAX      65536
#define FLOW_SLOTS     4096 /* a power of two */
#define FLOW_DEPTH_MAX 2
/* For --echo and --discard: bytes a turn of one connection. */
#define MOVE_SIZE  16384
#define MOVE_TURNS 16
/* Milliseconds: until accepting is tried again after a shortage; a client's time to take the reply
 * and close; a child's between SIGTERM and SIGKILL; for the last records to be read. */
#define SHORTAGE_PAUSE 500
#define LINGER_TIME    2000
#define KILL_TIME      5000
#define LAST_RECORDS   1000

/* ---- the command line ---- */

struct config {
	struct options_common common;
	const char *columns, *reply, *device, *user;
	uint64_t max, max_per_client, count, timeout, hold, backlog, drain;
	uint32_t ready_fd;
	struct mark listener_mark;
	struct cidr_list accept_proxy;
	bool echo, discard, reset, redirect, takeover, allow_direct, pass, log, datagrams;
};

/* What is done with a connection. */
enum action {
	ACTION_CLOSE,
	ACTION_REPLY,
	ACTION_HOLD,
	ACTION_ECHO,
	ACTION_DISCARD,
	ACTION_RESET,
	ACTION_RUN,
};

#define OPT(name, letter, arg, help, set, member) \
	OPTION(name, letter, arg, help, set, struct config, member)

static const struct option_spec options[] = {
	OPTION_HEADING("Instead of closing each connection (without CMD):"),
	OPT("reply", 0, "TEXT", "send TEXT (with \\n, \\r, \\t, \\xHH), then close", option_text,
	    reply),
	OPT("hold", 0, "T", "keep it open for T, or until the client closes", option_duration,
	    hold),
	OPT("echo", 0, NULL, "send back what comes", option_flag, echo),
	OPT("discard", 0, NULL, "read what comes, and forget it", option_flag, discard),
	OPT("reset", 0, NULL, "end it with a reset", option_flag, reset),
	OPTION_HEADING("With CMD:"),
	OPT("pass", 0, NULL, "become CMD, which gets the listeners (LISTEN_FDS)", option_flag,
	    pass),
	OPT("log", 0, NULL, "records, too; also as connections end", option_flag, log),
	OPT("allow-direct", 0, NULL, "serve connections that nobody redirected (refused)",
	    option_flag, allow_direct),
	OPT("drain-timeout", 0, "T", "on SIGTERM, before children are ended (30s)", option_duration,
	    drain),
	OPTION_HEADING("Limits:"),
	OPT("max", 'c', "N", "connections at a time; more wait (1000 with CMD)", option_count, max),
	OPT("max-per-client", 'C', "N", "of each IPv4 address or IPv6 /64; more are reset",
	    option_count, max_per_client),
	OPT("count", 0, "N", "end after N connections", option_count, count),
	OPT("timeout", 0, "T", "end after T; status 1 if too few came", option_duration, timeout),
	OPTION_HEADING("Listener:"),
	OPT("redirect", 0, NULL,
	    "for REDIRECT, DNAT or direct connections: not\ntransparent, and "
	    "PORT means any address",
	    option_flag, redirect),
	OPT("takeover", 0, NULL, "share the endpoint with who listens there already", option_flag,
	    takeover),
	OPT("accept-proxy", 0, "CIDR,...", "clients there begin with a PROXY header (v1, v2)",
	    option_cidrs, accept_proxy),
	OPT("backlog", 0, "N", "connections that may wait (the system's maximum)", option_count,
	    backlog),
	OPT("listener-mark", 0, "MARK", "SO_MARK of listener and connections", option_mark,
	    listener_mark),
	OPT("bind-device", 0, "IF", "only what comes in through IF", option_text, device),
	OPT("user", 0, "NAME[:GROUP]", "become NAME once the listeners are open", option_text,
	    user),
	OPT("ready-fd", 0, "FD", "write a newline to FD when ready, and close it", option_number,
	    ready_fd),
	OPTION_HEADING("Output:"),
	OPT("columns", 'o', "COL,...", "these columns; +COL,... adds to the usual ones",
	    option_text, columns),
	OPT("datagrams", 0, NULL, "UDP: a record for each datagram, not for each flow", option_flag,
	    datagrams),
	OPTIONS_TCP_UDP(struct config, common),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "reply", "hold" },	     { "reply", "echo" },      { "reply", "discard" },
	{ "reply", "reset" },	     { "hold", "echo" },       { "hold", "discard" },
	{ "hold", "reset" },	     { "echo", "discard" },    { "echo", "reset" },
	{ "discard", "reset" },	     { "pass", "log" },	       { "pass", "allow-direct" },
	{ "pass", "drain-timeout" }, { "pass", "max" },	       { "pass", "max-per-client" },
	{ "pass", "accept-proxy" },  { "pass", "count" },      { "pass", "timeout" },
	{ "columns", "json" },	     { "datagrams", "reply" }, { "datagrams", "echo" },
	{ "datagrams", "pass" },     { "datagrams", "log" },   { 0 },
};

static const struct options_program program = {
	.name = "tproxy-listen",
	.summary = "Open transparent listeners; say where every connection was going; hand it, or "
		   "the\n"
		   "listener, to another program.",
	.usage = "tproxy-listen [OPTION...] ENDPOINT... [-- CMD [ARG...]]\n"
		 "tproxy-listen --pass [OPTION...] ENDPOINT... -- CMD [ARG...]",
	.default_command = -1,
	.options = options,
	.conflicts = conflicts,
	.epilogue = "ENDPOINT: 127.0.0.1:3129, [::1]:3129, *:3129, or 3129 (loopback of both "
		    "families).\n"
		    "Without CMD: one record per connection. With CMD: it runs once per "
		    "connection, with\n"
		    "the socket on fd 0 and 1, and the client and the original destination in "
		    "TCPREMOTEIP,\n"
		    "TCPREMOTEPORT, TCPLOCALIP, TCPLOCALPORT (UCSPI). See tproxy-listen(1).",
};

/* ---- the service ---- */

/* How far the end has come; each stage is entered once, in this order, and may be skipped. */
enum stage {
	STAGE_SERVING,
	STAGE_FINISHING, /* no more connections: what is there may take its time (--count) */
	STAGE_DRAINING,	 /* the same until --drain-timeout is over */
	STAGE_ENDING,	 /* children have got SIGTERM */
	STAGE_KILLING,	 /* and SIGKILL */
};

struct service {
	const struct config *config;
	enum action action;
	enum stage stage;
	struct loop *loop;
	struct listeners listeners;
	struct loop_source *sources; /* one for each of the listeners */
	struct listeners udp;
	struct loop_source *udp_sources;
	struct connection **flows; /* FLOW_SLOTS lists, when there are UDP listeners */
	uint64_t flow_seed;
	int flow_depth;
	struct record_stream *stream; /* NULL: no records are wanted */
	struct loop_source output;
	bool wants_iif, wants_socket; /* fields that cost a system call */
	char *reply;
	size_t reply_length;
	struct handover_command command;
	struct children children;
	struct crowd *crowd;
	struct slab connections;
	size_t open;	   /* connections that have not ended */
	uint64_t seen;	   /* in all */
	uint64_t accepted; /* of them, those that were not refused */
	uint64_t direct;   /* refused because nobody redirected them */
	struct loop_timer pause, timeout, patience;
};

enum phase { PHASE_HEADER, PHASE_SERVED, PHASE_LINGERING, PHASE_RUN, PHASE_REFUSED };

/* What a record says of a connection. */
struct caller {
	uint64_t id, cookie;
	struct endpoint client, origdst;
	struct endpoint local; /* UDP: the datagrams' destination as they arrive here */
	const struct listener *listener;
	enum transparent_origin origin;
	int protocol;
	uint32_t mark;
	unsigned interface;
};

struct connection {
	struct loop_source source;
	union { /* one after the other: it has a deadline or a child, and is garbage at last */
		struct loop_timer timer;
		struct child child;
		struct loop_garbage garbage;
	};
	struct service *service;
	struct connection *next; /* flow: in its list */
	struct caller caller;
	uint64_t opened_us, bytes_up, bytes_down, packets_up, packets_down;
	enum phase phase;
};

#define CONTAINER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static void accept_pending(struct loop *loop, struct loop_source *source, uint32_t events);
static void advance(struct service *s, enum stage stage);

/* ---- records ---- */

static const enum record_field columns[] = { RECORD_TIME,   RECORD_EVENT,   RECORD_PROTO,
					     RECORD_CLIENT, RECORD_ORIGDST, RECORD_ORIGDST_BY,
					     RECORD_REASON };

/* The record borrows the interface's name. */
static void describe(struct record *r, const char *event, const struct caller *c,
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

/* Everything that is put must be followed by flush(), once a batch. */
static void put_event(struct service *s, const char *event, const struct caller *c, pid_t pid,
		      const char *reason)
{
	char name[IF_NAMESIZE];
	struct record r;

	if (!s->stream)
		return;
	describe(&r, event, c, name);
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
	describe(&r, "close", &c->caller, name);
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
		advance(s, STAGE_DRAINING);
}

static void flush(struct service *s)
{
	bool more;

	if (!s->stream)
		return;
	more = record_stream_flush(s->stream);
	if (record_stream_broken(s->stream))
		lose_reader(s);
	else if (s->output.watched) /* a regular file is not: it takes everything at once */
		loop_watch(s->loop, &s->output, more ? EPOLLOUT : 0);
}

static void handle_output(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);

	if (events & (EPOLLERR | EPOLLHUP))
		lose_reader(s);
	else
		flush(s);
}

/* ---- accepting ---- */

static bool is_full(const struct service *s)
{
	return s->config->max && s->open >= s->config->max;
}

static bool is_count_reached(const struct service *s)
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
	loop_disarm(s->loop, &s->pause);
}

static void resume(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	if (s->stage == STAGE_SERVING && !is_full(s))
		poll_listeners(s, true);
}

/* No descriptor or memory left: the connection stays in the backlog, where level-triggered polling
 * would find it again and again. */
static void pause_for_shortage(struct service *s)
{
	report_verbose(1, "accept: %s: paused", strerror(errno));
	poll_listeners(s, false);
	loop_arm(s->loop, &s->pause, SHORTAGE_PAUSE);
}

/* The last one of this service is gone, and no more will come. */
static void end_if_idle(struct service *s)
{
	if (s->stage != STAGE_SERVING && !s->open)
		loop_stop(s->loop);
}

static void release(struct loop *loop, struct loop_garbage *garbage)
{
	struct connection *c = CONTAINER(garbage, struct connection, garbage);

	slab_put(&c->service->connections, c);
}

/* caller NULL: one that was never counted among its client's. */
static void leave(struct service *s, const struct caller *caller)
{
	if (s->crowd && caller)
		crowd_leave(s->crowd, &caller->client);
	if (s->open-- == s->config->max && s->stage == STAGE_SERVING)
		poll_listeners(s, true);
	end_if_idle(s);
}

static struct connection **flow_slot(struct service *s, const struct endpoint *client,
				     const struct endpoint *local)
{
	uint64_t hash = endpoint_hash(local, endpoint_hash(client, s->flow_seed));

	return &s->flows[hash & (FLOW_SLOTS - 1)];
}

static void forget_flow(struct connection *c)
{
	struct connection **at = flow_slot(c->service, &c->caller.client, &c->caller.local);

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
}

static void finish(struct connection *c, const char *reason)
{
	struct service *s = c->service;

	if (c->phase != PHASE_REFUSED)
		put_close(c, reason);
	if (c->phase != PHASE_RUN)
		loop_disarm(s->loop, &c->timer);
	if (c->caller.protocol == IPPROTO_UDP)
		forget_flow(c);
	loop_close(s->loop, &c->source);
	loop_discard(s->loop, &c->garbage, release);
	leave(s, c->phase == PHASE_REFUSED ? NULL : &c->caller);
}

/* ---- serving without CMD ---- */

/* The reason of the end that recv() or send() has met. */
static const char *reason_of(ssize_t result)
{
	return result == 0 ? "client" : "reset";
}

static bool is_try_later(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EINTR);
}

/* What is read is not even copied: MSG_TRUNC without a buffer (tcp(7)). */
static void discard(struct connection *c)
{
	for (int turn = 0; turn < MOVE_TURNS; turn++) {
		ssize_t n = recv(c->source.fd, NULL, MOVE_SIZE, MSG_TRUNC | MSG_DONTWAIT);

		if (is_try_later(n))
			return;
		if (n <= 0) {
			finish(c, reason_of(n));
			return;
		}
		c->bytes_up += (uint64_t)n;
	}
}

/* Look at what has come, send what can be sent, and take only that much. Returns false when there is
 * no more to do now. */
static bool echo_some(struct connection *c)
{
	char buffer[MOVE_SIZE];
	ssize_t come = recv(c->source.fd, buffer, sizeof(buffer), MSG_PEEK | MSG_DONTWAIT), sent;

	if (come <= 0) {
		if (!is_try_later(come))
			finish(c, reason_of(come));
		return false;
	}
	sent = send(c->source.fd, buffer, (size_t)come, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && !is_try_later(sent)) {
		finish(c, "reset");
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

static void linger(struct connection *c)
{
	c->phase = PHASE_LINGERING;
	shutdown(c->source.fd, SHUT_WR);
	loop_arm(c->service->loop, &c->timer, LINGER_TIME);
	loop_watch(c->service->loop, &c->source, EPOLLIN);
	discard(c);
}

static void reply(struct connection *c)
{
	struct service *s = c->service;
	ssize_t sent = send(c->source.fd, s->reply + c->bytes_down, s->reply_length - c->bytes_down,
			    MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent < 0 && !is_try_later(sent)) {
		finish(c, "reset");
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
		for (int turn = 0; turn < MOVE_TURNS && echo_some(c); turn++)
			;
		break;
	case ACTION_DISCARD:
		discard(c);
		break;
	default: /* ACTION_HOLD: nothing is read; only the client's end wakes us up */
		finish(c, "client");
		break;
	}
}

static void handle_connection(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct connection *c = CONTAINER(source, struct connection, source);

	if (events & EPOLLERR)
		finish(c, "reset");
	else
		serve(c);
	flush(loop_context(loop));
}

static void handle_deadline(struct loop *loop, struct loop_timer *timer)
{
	finish(CONTAINER(timer, struct connection, timer), "done");
	flush(loop_context(loop));
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

static bool start_serving(struct connection *c)
{
	struct service *s = c->service;

	c->source.handler = handle_connection;
	c->timer.alarm = handle_deadline;
	if (loop_watch(s->loop, &c->source, events_of(s->action)) < 0)
		return false;
	if (s->action == ACTION_HOLD && s->config->hold)
		loop_arm(s->loop, &c->timer, s->config->hold);
	return true;
}

/* ---- serving with CMD ---- */

static bool start_command(struct connection *c, struct failure *why)
{
	struct service *s = c->service;
	const struct caller *caller = &c->caller;
	union endpoint_sockaddr address = { 0 };
	socklen_t length = sizeof(address);
	struct handover_peer peer = {
		.protocol = caller->protocol,
		.client = caller->client,
		.local = caller->origdst,
		.origdst = caller->origdst,
		.origdst_by = transparent_origin_name(caller->origin),
		.mark = caller->mark,
		.cookie = caller->cookie,
	};
	pid_t pid;

	if (!endpoint_is_set(&peer.local) && getsockname(c->source.fd, &address.sa, &length) == 0)
		peer.local = endpoint_from_sockaddr(&address, length);
	pid = handover_spawn(&s->command, &peer, c->source.fd, why);
	if (pid < 0)
		return false;
	children_add(&s->children, &c->child, pid);
	return true;
}

static void child_ended(struct child *child, int status, void *context)
{
	struct connection *c = CONTAINER(child, struct connection, child);

	if (WIFSIGNALED(status))
		report_verbose(1, "%s (pid %d): signal %d", c->service->command.path,
			       (int)child->pid, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		report_verbose(1, "%s (pid %d): exit status %d", c->service->command.path,
			       (int)child->pid, WEXITSTATUS(status));
	finish(c, WIFSIGNALED(status) ? "killed" : WEXITSTATUS(status) ? "failed" : "done");
}

/* ---- a new connection ---- */

static void read_socket_fields(struct service *s, int fd, struct caller *c)
{
	socklen_t length = sizeof(c->cookie);

	if (!s->wants_socket)
		return;
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &c->cookie, &length);
	length = sizeof(c->mark);
	getsockopt(fd, SOL_SOCKET, SO_MARK, &c->mark, &length);
}

static void refuse(struct service *s, const struct caller *caller, int fd, const char *reason)
{
	put_event(s, "refused", caller, 0, reason);
	transparent_reset(fd);
}

/* Whoever sees no connection arrive should learn why; whoever is scanned should not be flooded. */
static void refuse_direct(struct service *s, const struct caller *caller, int fd)
{
	char client[ENDPOINT_TEXT_MAX], listener[ENDPOINT_TEXT_MAX];

	if (!s->direct++)
		report_notice("%s: connected to %s itself and was refused: nobody redirected it; "
			      "--allow-direct serves such, too",
			      endpoint_format(&caller->client, client),
			      endpoint_format(&caller->listener->at, listener));
	refuse(s, caller, fd, "direct");
}

/* Over the client's limit, or no memory to count. */
static bool is_crowded(struct service *s, const struct caller *caller)
{
	uint32_t now = s->crowd ? crowd_enter(s->crowd, &caller->client) : 0;

	if (now <= s->config->max_per_client || !s->crowd)
		return false;
	if (now != UINT32_MAX)
		crowd_leave(s->crowd, &caller->client);
	return true;
}

/* A connection that outlives its acceptance, or NULL. The descriptor stays the caller's until it is
 * counted as open. */
static struct connection *new_connection(struct service *s, const struct caller *caller, int fd,
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

/* Keep the connection and do with it what is to be done. False: there is no room for it; the
 * descriptor is still the caller's. */
static bool keep(struct service *s, const struct caller *caller, int fd)
{
	bool run = s->action == ACTION_RUN;
	struct connection *c = new_connection(s, caller, fd, run ? PHASE_RUN : PHASE_SERVED);
	struct failure why = { .detail = "out of memory" };
	char text[512];

	if (c && (run ? start_command(c, &why) : start_serving(c))) {
		s->open++;
		put_event(s, "open", caller, run ? c->child.pid : 0, NULL);
		if (run)
			loop_close(s->loop, &c->source);
		return true;
	}
	if (c)
		slab_put(&s->connections, c);
	report_warning("connection refused: %s", report_text(&why, text, sizeof(text)));
	return false;
}

static void act(struct service *s, const struct caller *caller, int fd)
{
	if (s->action != ACTION_CLOSE && s->action != ACTION_RESET) {
		if (keep(s, caller, fd))
			return;
		refuse(s, caller, fd, "resources");
	} else {
		put_event(s, "open", caller, 0, NULL);
		if (s->action == ACTION_RESET)
			transparent_reset(fd);
		else
			close(fd);
	}
	if (s->crowd)
		crowd_leave(s->crowd, &caller->client);
}

/* Who it is and where it was going is known now. */
static void admit(struct service *s, struct caller *caller, int fd)
{
	if (s->stage != STAGE_SERVING) {
		refuse(s, caller, fd, "stopped");
	} else if (s->action == ACTION_RUN && caller->origin == ORIGIN_NONE &&
		   !s->config->allow_direct) {
		refuse_direct(s, caller, fd);
	} else if (is_crowded(s, caller)) {
		refuse(s, caller, fd, "per-client");
	} else {
		s->accepted++;
		act(s, caller, fd);
		if (is_count_reached(s))
			advance(s, STAGE_FINISHING);
	}
}

/* ---- PROXY headers ---- */

/* The connection goes on without what waited for its header; the descriptor is the caller's again. */
static int stop_waiting(struct connection *c)
{
	struct service *s = c->service;
	int fd = c->source.fd;

	loop_disarm(s->loop, &c->timer);
	loop_forget(s->loop, &c->source);
	loop_discard(s->loop, &c->garbage, release);
	if (s->open-- == s->config->max && s->stage == STAGE_SERVING)
		poll_listeners(s, true);
	return fd;
}

static void refuse_header(struct connection *c, const char *why)
{
	char client[ENDPOINT_TEXT_MAX];
	struct service *s = c->service;
	int fd = stop_waiting(c);

	report_verbose(1, "%s: PROXY header: %s", endpoint_format(&c->caller.client, client), why);
	refuse(s, &c->caller, fd, "proxy-header");
	end_if_idle(s);
}

static void handle_header(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct connection *c = CONTAINER(source, struct connection, source);
	struct service *s = loop_context(loop);
	struct proxyproto_header header;
	struct failure why = { 0 };
	char text[512];
	int found = proxyproto_receive(source->fd, &header, &why);

	if (found == 0)
		return;
	if (found < 0) {
		refuse_header(c, report_text(&why, text, sizeof(text)));
	} else {
		if (header.has_addresses) {
			c->caller.client = header.source;
			c->caller.origdst = header.destination;
			c->caller.origin = ORIGIN_PROXY;
		}
		admit(s, &c->caller, stop_waiting(c));
		end_if_idle(s);
	}
	flush(s);
}

static void header_is_late(struct loop *loop, struct loop_timer *timer)
{
	refuse_header(CONTAINER(timer, struct connection, timer), "none within 3 s");
	flush(loop_context(loop));
}

static void await_header(struct service *s, const struct caller *caller, int fd)
{
	struct connection *c = new_connection(s, caller, fd, PHASE_HEADER);

	if (c) {
		c->source.handler = handle_header;
		c->timer.alarm = header_is_late;
		if (loop_watch(s->loop, &c->source, EPOLLIN) == 0) {
			loop_arm(s->loop, &c->timer, PROXYPROTO_TIME_MS);
			s->open++;
			return;
		}
		slab_put(&s->connections, c);
	}
	refuse(s, caller, fd, "resources");
}

static void welcome(struct service *s, const struct listener *listener,
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
	read_socket_fields(s, new->fd, &caller);
	if (endpoint_in_cidrs(&caller.client, &s->config->accept_proxy))
		await_header(s, &caller, new->fd);
	else
		admit(s, &caller, new->fd);
}

/* Whether the next one may be accepted; if not, what is to be done about it has been done. */
static bool may_accept(struct service *s)
{
	if (s->stage != STAGE_SERVING)
		return false;
	if (is_full(s)) {
		poll_listeners(s, false);
		return false;
	}
	return true;
}

static void accept_pending(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);
	const struct listener *listener = &s->listeners.at[source - s->sources];
	struct transparent_connection new;

	for (int i = 0; i < ACCEPT_BATCH && may_accept(s); i++) {
		if (transparent_accept(source->fd, &listener->at, &new) < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			    errno == ENOMEM)
				pause_for_shortage(s);
			else if (errno == ECONNABORTED || errno == EINTR)
				continue;
			break;
		}
		welcome(s, listener, &new);
	}
	flush(s);
}

/* ---- UDP ---- */

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
	finish(CONTAINER(timer, struct connection, timer), "idle");
	flush(loop_context(loop));
}

/* Answer on the flow's own socket; what the client's host refuses (ICMP) is its affair. */
static void answer_datagrams(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct connection *c = CONTAINER(source, struct connection, source);
	struct service *s = loop_context(loop);
	char payload[DATAGRAM_MAX];
	ssize_t come, sent;

	for (int turn = 0; turn < MOVE_TURNS; turn++) {
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
	read_socket_fields(s, c->source.fd, &c->caller);
	if (s->action == ACTION_RUN)
		return start_command(c, why);
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
	put_event(s, "refused", &c->caller, 0, reason);
	loop_arm(s->loop, &c->timer, FLOW_IDLE);
}

static bool needs_socket(const struct service *s)
{
	return s->action == ACTION_RUN || s->action == ACTION_REPLY || s->action == ACTION_ECHO;
}

/* Give it a socket if it needs one, and say that it is there. */
static void accept_flow(struct connection *c, const struct datagram *d, const void *payload)
{
	struct service *s = c->service;
	struct failure why = { 0 };
	char text[512];

	if (needs_socket(s) && !open_flow(c, d, payload, &why)) {
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
	put_event(s, "open", &c->caller, c->phase == PHASE_RUN ? c->child.pid : 0, NULL);
	if (c->phase == PHASE_RUN)
		loop_close(s->loop, &c->source);
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
}

static struct connection *begin_flow(struct service *s, const struct listener *listener,
				     const struct datagram *d, const void *payload)
{
	struct connection **slot = flow_slot(s, &d->client, &d->local), *c;
	struct caller caller;

	describe_flow(s, &caller, listener, d);
	c = new_connection(s, &caller, -1, s->action == ACTION_RUN ? PHASE_RUN : PHASE_SERVED);
	if (!c)
		return NULL;
	c->next = *slot;
	*slot = c;
	c->timer.alarm = flow_is_idle;
	s->open++;
	if (s->action == ACTION_RUN && d->origin == ORIGIN_NONE && !s->config->allow_direct)
		refuse_flow(c, "direct");
	else if (is_crowded(s, &caller))
		refuse_flow(c, "per-client");
	else
		accept_flow(c, d, payload);
	return c;
}

/* One more datagram of a flow that the listener has got. */
static void continue_flow(struct connection *c, const struct datagram *d, const void *payload)
{
	if (c->phase == PHASE_REFUSED) {
		loop_arm(c->service->loop, &c->timer, FLOW_IDLE);
	} else if (needs_socket(c->service)) {
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
	describe(&r, "datagram", &caller, name);
	record_number(&r, RECORD_BYTES_UP, d->length);
	record_stream_put(s->stream, &r);
	s->accepted++;
}

static void welcome_datagram(struct service *s, const struct listener *listener,
			     const struct datagram *d, const void *payload)
{
	struct connection *c;

	if (s->config->datagrams) {
		put_datagram(s, listener, d);
		return;
	}
	c = find_flow(s, d);
	if (c)
		continue_flow(c, d, payload);
	else if ((c = begin_flow(s, listener, d, payload)) && c->phase == PHASE_SERVED &&
		 !needs_socket(s))
		continue_flow(c, d, payload);
}

/* Somebody else's datagram, caught by the socket of a flow before that was connected. Each may open a
 * flow, whose socket may catch some: beyond a depth they are lost, as datagrams may be. */
static void take_stray(const struct datagram *stray, const void *payload, void *context)
{
	struct connection *c = context;
	struct service *s = c->service;

	if (is_count_reached(s) || s->flow_depth >= FLOW_DEPTH_MAX)
		return;
	s->flow_depth++;
	welcome_datagram(s, c->caller.listener, stray, payload);
	s->flow_depth--;
}

static void take_datagrams(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct service *s = loop_context(loop);
	const struct listener *listener = &s->udp.at[source - s->udp_sources];
	char payload[DATAGRAM_MAX];
	struct datagram d;

	for (int i = 0; i < ACCEPT_BATCH && may_accept(s); i++) {
		if (datagram_receive(source->fd, &listener->at, payload, sizeof(payload), &d) < 0)
			break;
		welcome_datagram(s, listener, &d, payload);
		if (is_count_reached(s))
			advance(s, STAGE_FINISHING);
	}
	flush(s);
}

/* ---- the end ---- */

static void finish_all(struct service *s, const char *reason)
{
	struct connection *c, *next;

	/* release() comes after the batch: the walk stays valid */
	for (c = slab_next(&s->connections, NULL); c; c = next) {
		next = slab_next(&s->connections, c);
		if (c->source.dead)
			continue;
		if (c->phase == PHASE_HEADER)
			refuse_header(c, reason);
		else
			finish(c, reason);
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
			finish(c, "stopped");
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
			loop_arm(s->loop, &s->patience, s->config->drain);
		else
			finish_all(s, "stopped");
		break;
	case STAGE_ENDING:
		if (s->children.count)
			report_notice("%zu connections are still served: ending them",
				      s->children.count);
		children_signal(&s->children, SIGTERM);
		loop_arm(s->loop, &s->patience, KILL_TIME);
		break;
	case STAGE_KILLING:
		children_signal(&s->children, SIGKILL);
		break;
	}
}

static void advance(struct service *s, enum stage stage)
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
	end_if_idle(s);
}

static void lose_patience(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	advance(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
}

static void time_out(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	advance(s, STAGE_DRAINING);
	flush(s);
}

static void handle_signal(struct loop *loop, int signo, void *context)
{
	struct service *s = context;

	if (signo == SIGCHLD)
		children_reap(&s->children, child_ended, s);
	else if (s->stage < STAGE_DRAINING)
		advance(s, STAGE_DRAINING);
	else
		advance(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
	flush(s);
}

/* ---- setting up ---- */

/* Which option, if any, says what to do with connections. */
static const struct {
	const char *option;
	enum action action;
} actions[] = {
	{ "reply", ACTION_REPLY },     { "hold", ACTION_HOLD },	  { "echo", ACTION_ECHO },
	{ "discard", ACTION_DISCARD }, { "reset", ACTION_RESET },
};

static int choose_action(struct service *s, const struct options_rest *rest)
{
	s->action = rest->wrapped ? ACTION_RUN : ACTION_CLOSE;
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
		if (!options_given(&program, rest, actions[i].option))
			continue;
		if (rest->wrapped)
			return options_misuse(&program, "--%s and a CMD contradict each other",
					      actions[i].option);
		s->action = actions[i].action;
	}
	return OPTIONS_GO_ON;
}

/* Options that speak of a CMD, when there is none. */
static int check_command(const struct options_rest *rest)
{
	static const char *const need[] = { "pass", "allow-direct", "drain-timeout" };

	if (rest->wrapped && !rest->wrapped[0])
		return options_misuse(&program, "--: which command?");
	for (size_t i = 0; !rest->wrapped && i < sizeof(need) / sizeof(*need); i++)
		if (options_given(&program, rest, need[i]))
			return options_misuse(&program, "--%s: needs a CMD after --", need[i]);
	return OPTIONS_GO_ON;
}

static int check_ready_fd(const struct config *config, const struct options_rest *rest)
{
	if (!options_given(&program, rest, "ready-fd"))
		return OPTIONS_GO_ON;
	if (config->ready_fd <= 2)
		return options_misuse(&program, "--ready-fd %u: is a standard descriptor",
				      config->ready_fd);
	if (fcntl((int)config->ready_fd, F_GETFL) < 0)
		return options_misuse(&program, "--ready-fd %u: is not open", config->ready_fd);
	return OPTIONS_GO_ON;
}

/* What makes no sense for UDP, or for UDP alone. */
static int check_protocols(const struct config *config, const struct options_rest *rest)
{
	static const char *const tcp_only[] = { "hold", "discard", "reset", "accept-proxy" };
	bool udp = options_wants_udp(&config->common);

	if (config->datagrams && !udp)
		return options_misuse(&program, "--datagrams: needs --udp");
	if (config->datagrams && rest->wrapped)
		return options_misuse(&program, "--datagrams and a CMD contradict each other");
	for (size_t i = 0; udp && i < sizeof(tcp_only) / sizeof(*tcp_only); i++)
		if (options_given(&program, rest, tcp_only[i]))
			return options_misuse(&program, "--%s and --udp contradict each other",
					      tcp_only[i]);
	return OPTIONS_GO_ON;
}

static int add_endpoints(struct listeners *l, int protocol, const struct config *config,
			 const struct options_rest *rest)
{
	enum endpoint_bare bare = config->redirect ? ENDPOINT_BARE_ANY : ENDPOINT_BARE_LOOPBACK;
	struct failure why = { 0 };

	l->protocol = protocol;
	for (int i = 0; i < rest->count; i++)
		if (listeners_add(l, rest->operands[i], bare, &config->common, &why) < 0)
			return report_failure(&why, STATUS_USAGE);
	if (listeners_check(l, &config->common, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	return OPTIONS_GO_ON;
}

static int take_endpoints(struct service *s, const struct options_rest *rest)
{
	const struct config *config = s->config;
	int status = OPTIONS_GO_ON;

	if (!rest->count)
		return options_misuse(&program, "where to listen? ENDPOINT is missing");
	if (options_wants_tcp(&config->common))
		status = add_endpoints(&s->listeners, IPPROTO_TCP, config, rest);
	if (status == OPTIONS_GO_ON && options_wants_udp(&config->common))
		status = add_endpoints(&s->udp, IPPROTO_UDP, config, rest);
	return status;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* One escape after its backslash; returns how many characters it takes, 0 when it is none. */
static size_t unescape(const char *p, char *out)
{
	static const char from[] = "nrt0\\", to[] = "\n\r\t\0\\";
	const char *at = *p ? strchr(from, *p) : NULL;

	if (at) {
		*out = to[at - from];
		return 1;
	}
	if (*p != 'x' || hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
		return 0;
	*out = (char)(hex_digit(p[1]) << 4 | hex_digit(p[2]));
	return 3;
}

static int prepare_reply(struct service *s)
{
	const char *text = s->config->reply;

	if (!text)
		return OPTIONS_GO_ON;
	s->reply = malloc(strlen(text));
	if (!s->reply) {
		report_error("out of memory");
		return STATUS_REFUSED;
	}
	for (const char *p = text; *p; p++) {
		size_t taken = 0;

		s->reply[s->reply_length] = *p;
		if (*p == '\\' && !(taken = unescape(p + 1, &s->reply[s->reply_length])))
			return options_misuse(&program,
					      "--reply: \\%c: no such escape; known are "
					      "\\n, \\r, \\t, \\0, \\\\ and \\xHH",
					      p[1] ? p[1] : ' ');
		s->reply_length++;
		p += taken;
	}
	return OPTIONS_GO_ON;
}

static int prepare_columns(struct record_columns *out, const char *typed, struct failure *why)
{
	memcpy(out->at, columns, sizeof(columns));
	out->count = sizeof(columns) / sizeof(*columns);
	if (!typed || record_parse_columns(typed, out, why) == 0)
		return 0;
	return report_about(why, "--columns %s", typed);
}

static bool has_column(const struct record_columns *chosen, enum record_field field)
{
	for (size_t i = 0; i < chosen->count; i++)
		if (chosen->at[i] == field)
			return true;
	return false;
}

/* Records go to stdout without CMD, or with --log. */
static int prepare_records(struct service *s)
{
	const struct config *config = s->config;
	struct record_columns chosen;
	struct failure why = { 0 };
	bool run = s->action == ACTION_RUN;

	if (prepare_columns(&chosen, config->columns, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	s->wants_socket = run;
	if (run && !config->log)
		return OPTIONS_GO_ON;
	s->wants_iif = config->common.json || has_column(&chosen, RECORD_IIF);
	s->wants_socket |= config->common.json || has_column(&chosen, RECORD_COOKIE) ||
			   has_column(&chosen, RECORD_MARK);
	s->stream = record_stream_new(STDOUT_FILENO, config->common.json, &chosen, &why);
	return s->stream ? OPTIONS_GO_ON : report_failure(&why, STATUS_REFUSED);
}

/* All that can be said before anything is opened. */
static int prepare(struct service *s, const struct options_rest *rest)
{
	struct failure why = { 0 };
	int status = check_command(rest);

	if (status == OPTIONS_GO_ON)
		status = choose_action(s, rest);
	if (status == OPTIONS_GO_ON)
		status = check_protocols(s->config, rest);
	if (status == OPTIONS_GO_ON)
		status = check_ready_fd(s->config, rest);
	if (status == OPTIONS_GO_ON)
		status = take_endpoints(s, rest);
	if (status == OPTIONS_GO_ON)
		status = prepare_reply(s);
	if (status == OPTIONS_GO_ON && handover_guard_descriptors(&why) < 0)
		status = report_failure(&why, STATUS_REFUSED);
	if (status == OPTIONS_GO_ON && rest->wrapped &&
	    handover_find(&s->command, rest->wrapped, &why) < 0)
		status = report_failure(&why, handover_exit_status(&why));
	if (status == OPTIONS_GO_ON && !s->config->pass)
		status = prepare_records(s);
	return status;
}

static int open_group(struct listeners *l, const struct transparent_listen_options *how,
		      const struct config *config, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];

	if (listeners_open(l, how, why) < 0) {
		if (why->err == EADDRINUSE && !config->takeover && strstr(why->detail, "tproxy-"))
			report_hint(why, "--takeover shares it");
		return -1;
	}
	for (size_t i = 0; i < l->count; i++) {
		if (l->at[i].fd < 0)
			report_notice("%s: left out: %s", endpoint_format(&l->at[i].at, text),
				      strerror(l->at[i].lack.err));
		else
			report_verbose(1, "listening at %s", endpoint_format(&l->at[i].at, text));
	}
	return 0;
}

static int open_listeners(struct service *s, const struct options_rest *rest, struct failure *why)
{
	const struct config *config = s->config;
	bool marked = options_given(&program, rest, "listener-mark");
	struct transparent_listen_options how = {
		.backlog = (int)config->backlog,
		.reuseport = true, /* so that a later one can take over */
		.alone = !config->takeover,
		.redirect = config->redirect,
		.mark = marked ? &config->listener_mark : NULL,
		.device = config->device,
		.ingress = s->wants_iif,
	};

	if (marked &&
	    (config->listener_mark.value & TRANSPARENT_MARK.mask) == TRANSPARENT_MARK.value)
		report_warning("--listener-mark: this is the mark of intercepted packets: answers "
			       "would be delivered to this host");
	if (open_group(&s->listeners, &how, config, why) < 0)
		return -1;
	how.reuseport = config->takeover; /* UDP has no way to be alone with it */
	return open_group(&s->udp, &how, config, why);
}

/* Only the sockets of UDP flows need a capability later: they are transparent, and often have a port
 * below 1024. */
static int drop_privileges(const struct service *s, struct failure *why)
{
	static const int keep[] = { CAP_NET_RAW, CAP_NET_BIND_SERVICE };
	bool flows = s->udp.count && needs_socket(s);

	if (!s->config->user)
		return 0;
	return handover_drop_privileges(s->config->user, keep, flows ? 2 : 0, why);
}

static void announce(const struct config *config)
{
	struct failure why = { 0 };

	if (handover_notify("READY=1", &why) < 0) {
		char text[512];

		report_warning("%s", report_text(&why, text, sizeof(text)));
	}
	if (!config->ready_fd)
		return;
	if (write((int)config->ready_fd, "\n", 1) != 1)
		report_warning("--ready-fd %u: %s", config->ready_fd, strerror(errno));
	close((int)config->ready_fd);
}

/* Descriptors and their names, as --pass hands them over. */
struct passed {
	const char *names[HANDOVER_MAX];
	int fds[HANDOVER_MAX];
	size_t count;
};

static void add_passed(struct passed *p, const struct listeners *l, const char *v4, const char *v6)
{
	for (size_t i = 0; i < l->count && p->count < HANDOVER_MAX; i++) {
		if (l->at[i].fd < 0)
			continue;
		p->names[p->count] = l->at[i].at.family == AF_INET ? v4 : v6;
		p->fds[p->count++] = l->at[i].fd;
	}
}

static int pass_listeners(struct service *s, struct failure *why)
{
	struct passed p = { .count = 0 };

	add_passed(&p, &s->listeners, "tcp4", "tcp6");
	add_passed(&p, &s->udp, "udp4", "udp6");
	return handover_become(&s->command, p.fds, p.names, p.count, why);
}

static const int signals[] = { SIGTERM, SIGINT, SIGCHLD, 0 };

/* Held connections are descriptors of this process; children's are their own. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static struct loop_source *watch_group(struct service *s, const struct listeners *l,
				       loop_handler *handler, struct failure *why)
{
	struct loop_source *sources = calloc(l->count + 1, sizeof(*sources));

	if (!sources) {
		report_fail(why, ENOMEM, "malloc", "listeners");
		return NULL;
	}
	for (size_t i = 0; i < l->count; i++) {
		sources[i].handler = handler;
		sources[i].fd = l->at[i].fd;
		if (sources[i].fd < 0 || loop_watch(s->loop, &sources[i], EPOLLIN) == 0)
			continue;
		report_fail(why, errno, "epoll_ctl", "listeners");
		free(sources);
		return NULL;
	}
	return sources;
}

static int watch_listeners(struct service *s, struct failure *why)
{
	if (!(s->sources = watch_group(s, &s->listeners, accept_pending, why)) ||
	    !(s->udp_sources = watch_group(s, &s->udp, take_datagrams, why)))
		return -1;
	if (!s->udp.count)
		return 0;
	s->flows = calloc(FLOW_SLOTS, sizeof(*s->flows));
	if (!s->flows)
		return report_fail(why, ENOMEM, "malloc", "flows");
	if (getrandom(&s->flow_seed, sizeof(s->flow_seed), GRND_NONBLOCK) < 0)
		s->flow_seed = (uintptr_t)s->flows; /* guessable, and still a hash */
	return 0;
}

static int set_up(struct service *s, struct failure *why)
{
	const struct config *config = s->config;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	loop_block_signals(signals);
	if (s->action != ACTION_RUN)
		raise_descriptor_limit();
	slab_init(&s->connections, sizeof(struct connection));
	s->pause.alarm = resume;
	s->timeout.alarm = time_out;
	s->patience.alarm = lose_patience;
	s->output = (struct loop_source){ .handler = handle_output, .fd = -1 };
	if (!(s->loop = loop_new(s, why)) ||
	    loop_signals(s->loop, signals, handle_signal, s, why) < 0)
		return -1;
	if (config->max_per_client && !(s->crowd = crowd_new(why)))
		return -1;
	if (s->stream) {
		s->output.fd = record_stream_fd(s->stream);
		loop_watch(s->loop, &s->output, 0); /* EPERM: a regular file, always ready */
	}
	if (config->timeout)
		loop_arm(s->loop, &s->timeout, config->timeout);
	return watch_listeners(s, why);
}

static void tear_down(struct service *s)
{
	uint64_t lost = s->stream ? record_stream_lost(s->stream) : 0;

	record_stream_free(s->stream, LAST_RECORDS);
	if (lost)
		report_warning("%llu records were lost: their reader was too slow",
			       (unsigned long long)lost);
	loop_free(s->loop);
	listeners_close(&s->listeners);
	listeners_close(&s->udp);
	slab_free(&s->connections);
	crowd_free(s->crowd);
	handover_free(&s->command);
	free(s->sources);
	free(s->udp_sources);
	free(s->flows);
	free(s->reply);
}

/* Did what --count or --timeout waited for come? */
static int verdict(const struct service *s)
{
	uint64_t wanted = s->config->count ? s->config->count : 1;

	return s->config->timeout && s->accepted < wanted ? STATUS_NO : STATUS_DONE;
}

static int run(struct service *s, const struct options_rest *rest)
{
	struct failure why = { 0 };

	if (open_listeners(s, rest, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (drop_privileges(s, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (s->config->pass) {
		pass_listeners(s, &why);
		return report_failure(&why, STATUS_CANNOT_RUN);
	}
	if (set_up(s, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	announce(s->config);
	if (loop_run(s->loop, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	return verdict(s);
}

int main(int argc, char **argv)
{
	struct config config = { .drain = 30000 };
	struct service s = { .config = &config };
	struct options_rest rest;
	int status;

	report_init(program.name);
	status = options_parse(&program, argc, argv, &config, &rest);
	if (status != OPTIONS_GO_ON)
		return status;
	if (!config.max)
		config.max = rest.wrapped ? MAX_CHILDREN : config.common.udp ? FLOWS_MAX : 0;
	status = prepare(&s, &rest);
	if (status == OPTIONS_GO_ON)
		status = run(&s, &rest);
	tear_down(&s);
	endpoint_cidr_free(&config.accept_proxy);
	return status;
}
