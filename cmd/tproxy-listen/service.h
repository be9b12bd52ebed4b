/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * service - the state of a running tproxy-listen, its limits and its end.
 *
 * Theory of operation
 *
 * One process, one event loop. A connection is recorded as it is accepted, and then:
 *
 *   accepted -> HEADER -> any of these            (--accept-proxy: its PROXY header is awaited)
 *   accepted -> closed at once                    (no action, --reset, refused)
 *   accepted -> SERVED -> closed                  (--hold, --echo, --discard)
 *   accepted -> SERVED -> LINGERING -> closed     (--reply: all is sent, the client may send)
 *   accepted -> RUN -> closed                     (CMD; the descriptor is the child's alone)
 *   accepted -> WAITING -> SERVED or RUN          (it could not be started: no process, say)
 *
 * A UDP flow, that is a client and an original destination, is a connection too. It begins with its
 * first datagram and ends when none has come for a while (or CMD ends). A flow that gets answers
 * has a socket of its own, and the listener sees no more of it:
 *
 *   OPENING -> SERVED or RUN -> closed            (its first datagram has reached its socket)
 *   OPENING -> refused                            (that did not arrive, or there is no socket)
 *   SERVED -> closed                              (flows that are only recorded)
 *
 * A flow without a CMD has no state that the next datagram could not restore, so at a limit the one
 * that was idle the longest makes room, even for a TCP connection. What is refused takes no place.
 *
 * Only connections that are not closed at once take memory. None of them buffers data: --echo
 * leaves in the kernel what it cannot send yet. At any other limit nobody is refused: the listeners
 * are not polled until there is room, and clients wait in the backlog. There is room when something
 * here has ended, or, because other processes may hold what is short, after a while.
 *
 * Records must not block the service, so they go through record_stream; the service must not
 * outlive its reader, so stdout is watched for the reader's end. Records that are left at the end
 * wait for the reader within --drain-timeout; after a second signal only as long as it keeps
 * reading.
 *
 * service.c does the accounting; accept.c admits TCP connections, flows.c UDP flows; serve.c treats
 * them as the command line says; stages.c ends the service.
 */
#ifndef TPROXY_LISTEN_SERVICE_H
#define TPROXY_LISTEN_SERVICE_H

#include "base/container.h"
#include "base/endpoint.h"
#include "base/options.h"
#include "base/quantity.h"
#include "base/recent.h"
#include "base/record.h"
#include "base/record_stream.h"
#include "base/report.h"
#include "base/slab.h"
#include "process/command.h"
#include "process/loop.h"
#include "process/privilege.h"
#include "process/record_output.h"
#include "socket/listeners.h"
#include "socket/transparent.h"
#include "tproxy-listen/children.h"
#include "tproxy-listen/client_count.h"
#include "tproxy-listen/connection.h"
#include "tproxy-listen/flow_table.h"
#include "tproxy-listen/spawner.h"
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Connections or datagrams in one turn of a listener; then come the other listeners and the
 * timers. */
#define SERVICE_BATCH 64
/* For --echo and --discard, and the answers to datagrams: turns of one connection. */
#define SERVICE_TURNS 16
/* UDP flows at a time, unless --max says otherwise. */
#define SERVICE_FLOWS_MAX 65536

/* The command line. */
struct config {
	struct options_common common;
	const char *columns, *reply, *device;
	struct privilege_user user;
	uint64_t max, max_per_client, count, timeout, hold, backlog, drain;
	uint32_t ready_fd;
	struct mark listener_mark;
	struct cidr_list accept_proxy;
	bool echo, discard, reset, redirect, takeover, allow_direct, pass, log, datagrams;
	bool no_sandbox;
	bool user_given;	   /* commands run as that user, too */
	struct failure stays_root; /* why; empty: no reason to report */
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

/* The stages of the end; each is entered once, in this order. */
enum stage {
	STAGE_SERVING,
	STAGE_FINISHING, /* no new connections; the existing ones may take their time (--count) */
	STAGE_DRAINING,	 /* the same until --drain-timeout is over */
	STAGE_ENDING,	 /* children have got SIGTERM */
	STAGE_KILLING,	 /* and SIGKILL */
};

/* When a message that may recur was last printed. */
struct service_told {
	bool ever;
	uint64_t at;
};

struct service {
	const struct config *config;
	enum action action;
	enum stage stage;   /* the stage that is due */
	enum stage entered; /* stages.c: the last one that was entered */
	struct loop *loop;
	struct listeners listeners;
	struct loop_source *sources; /* one for each of the listeners */
	struct listeners udp;
	struct loop_source *udp_sources;
	struct flow_table flows; /* when there are UDP listeners */
	struct translation
		*translation; /* knows what REDIRECT did to a flow; NULL if we may not ask */
	struct recent *refused, *sent; /* flows; datagrams that were looped through lo */
	size_t opening;		       /* flows that wait for their first datagram */
	uint64_t failed_flows;	       /* flows that could not be opened */
	int flow_depth;
	bool told_room;
	bool unheard;		      /* ending because no listener is left */
	struct record_stream *stream; /* NULL: no records are wanted */
	struct record_output output;
	bool wants_iif, wants_socket; /* for fields that cost a system call */
	char *reply;
	size_t reply_length;
	struct command command;
	struct spawner *spawner; /* with a CMD */
	struct loop_source ends; /* the ends of its commands */
	struct children children;
	struct client_count *clients;
	struct slab connections;
	size_t open;	   /* connections that have not ended */
	uint64_t seen;	   /* in all */
	uint64_t accepted; /* of them, those that were not refused */
	uint64_t direct;   /* refused because they were not redirected */
	bool timed_out;	   /* --timeout is over */
	bool failed;	   /* it could not continue */
	struct connection *waiting,
		**last_waiting; /* not started yet, because of a shortage; in order */
	bool room;		/* these, and those in the backlog, may try again */
	struct service_told told_shortage, told_refusal;
	bool finishes_all; /* also connections that others can end */
	struct loop_timer pause, timeout, drain, watchdog;
};

/* Describe the connection in a record, which borrows the interface's name. */
void service_describe(struct record *r, const char *event, const struct caller *c,
		      char name[IF_NAMESIZE]);

/* Write a record if records are enabled (service_put_close(): if records of ends are); pid 0 and
 * reason NULL for none. The caller then calls service_flush(), once per batch. */
void service_put_event(struct service *s, const char *event, const struct caller *c, pid_t pid,
		       const char *reason);
void service_put_close(const struct connection *c, const char *reason);
void service_flush(struct service *s);

/* Is --count reached? May the next connection be accepted (if not, this does what is necessary)?
 * Are there as many as --max allows? */
bool service_has_enough(const struct service *s);
bool service_may_accept(struct service *s);
bool service_is_full(const struct service *s);

/* Is there a flow that may be ended to make room? End the longest idle one; false: there is none.
 * Call service_make_room() at the limit, before counting another connection. */
bool service_can_make_room(const struct service *s);
bool service_make_room(struct service *s);

/* Poll the listeners, or let clients wait. */
void service_poll_listeners(struct service *s, bool on);

/* Let clients wait until something has ended, for a while at most, after a call failed for a
 * shortage. Does that errno mean a shortage? */
void service_pause(struct service *s, const struct failure *why);
bool service_is_shortage(int err);

/* A connection has ended, or something that it held is free. */
void service_leave(struct service *s);

/* An accepted connection could not be started, because of that shortage or because others wait
 * already: queue it, ahead of those in the backlog. */
void service_wait(struct connection *c, const struct failure *why);

/* May the message be printed (again)? If so, the time is noted. */
bool service_may_tell(struct service *s, struct service_told *told);

/* A listener was shut down or destroyed, as errno said: end the service if it was the last. */
void service_lose_listener(struct service *s, struct loop_source *source);

/* Read mark and cookie, if they are wanted. */
void service_read_socket(struct service *s, int fd, struct caller *c);

/* Count one more connection for its client. True: the client has too many (or there is no memory to
 * count), and this one was not counted. */
bool service_is_crowded(struct service *s, const struct caller *caller);

/* Record that the connection was refused, and reset it. */
void service_refuse(struct service *s, const struct caller *caller, int fd, const char *reason);

/* Make the state of a connection that is not closed at once; NULL: no memory. It is not counted as
 * open yet; the caller owns the descriptor until then. */
struct connection *service_new_connection(struct service *s, const struct caller *caller, int fd,
					  enum phase phase);

/* The connection has ended, for that reason: record it, close it, and make room for another one. */
void service_finish(struct connection *c, const char *reason);
void service_release(struct loop *loop, struct loop_garbage *garbage);

/* Note that a stage is due; an earlier one is ignored. From now on nothing is accepted; stages.c
 * enters the stage at the end of the loop's turn. */
void service_note_stage(struct service *s, enum stage stage);

/* The service cannot continue, for that reason. */
void service_fail(struct service *s, const char *why);

/* Let waiting connections try again, at the end of the loop's turn; also the alarm of `pause`. */
loop_alarm service_resume;

#endif
