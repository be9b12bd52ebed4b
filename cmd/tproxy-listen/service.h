/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * service - tproxy-listen at work: what there is of it, how it stays within its limits, how it
 * ends.
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
 *   accepted -> WAITING -> SERVED or RUN          (it could not be begun for lack of a process, say)
 *
 * A UDP flow, that is a client and an original destination, is a connection too. It begins with its
 * first datagram and ends when none has come for a while (or CMD ends). Where it is to be answered
 * it gets a socket of its own, and then the listener sees no more of it:
 *
 *   OPENING -> SERVED or RUN -> closed            (its first datagram was sent to its socket, and is there)
 *   OPENING -> refused                            (it did not come, or there is no socket for it)
 *   SERVED -> closed                              (flows that are only recorded)
 *
 * Flows that no CMD serves hold nothing that cannot be had again with the next datagram, so at a
 * limit the one that was idle the longest makes room, also for a TCP connection. What is refused
 * takes no place.
 *
 * Only what is not closed at once takes memory. None of it buffers data: --echo leaves in the
 * kernel what it cannot send yet. At any other limit nobody is refused: the listeners are not
 * polled until there is room, and clients wait in the backlog. That is when something here has
 * ended, or, because others may hold what is short, after a while.
 *
 * Records must not stop the service, so they go through record_stream; the service must not outlive
 * its reader, so stdout is watched for the reader's end. What is left at the end waits for the
 * reader within --drain-timeout; after a second signal only while it takes some.
 *
 * service.c keeps the accounts; accept.c lets TCP connections in, flows.c UDP; serve.c does with
 * them what the command line says; stages.c ends it all.
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

/* One listener's turn: so many connections or datagrams, then the others and the timers. */
#define SERVICE_BATCH 64
/* For --echo and --discard, and the answers to datagrams: turns of one connection. */
#define SERVICE_TURNS 16
/* So many UDP flows at a time, unless --max says otherwise. */
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
	struct failure stays_root; /* why, if it says anything */
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

/* How far the end has come; each stage is entered once, in this order. */
enum stage {
	STAGE_SERVING,
	STAGE_FINISHING, /* no more connections: what is there may take its time (--count) */
	STAGE_DRAINING,	 /* the same until --drain-timeout is over */
	STAGE_ENDING,	 /* children have got SIGTERM */
	STAGE_KILLING,	 /* and SIGKILL */
};

/* When something was last said that may happen again and again. */
struct service_told {
	bool ever;
	uint64_t at;
};

struct service {
	const struct config *config;
	enum action action;
	enum stage stage;   /* that is due */
	enum stage entered; /* stages.c: the last one that was entered */
	struct loop *loop;
	struct listeners listeners;
	struct loop_source *sources; /* one for each of the listeners */
	struct listeners udp;
	struct loop_source *udp_sources;
	struct flow_table flows; /* when there are UDP listeners */
	struct translation
		*translation; /* knows what REDIRECT did to a flow; NULL if it may not be asked */
	struct recent *refused, *sent; /* flows; datagrams that went round by way of lo */
	size_t opening;		       /* flows that wait for their first datagram */
	uint64_t failed_flows;	       /* that could not be opened */
	int flow_depth;
	bool told_room;
	bool unheard;		      /* it ends because no listener is left */
	struct record_stream *stream; /* NULL: no records are wanted */
	struct record_output output;
	bool wants_iif, wants_socket; /* fields that cost a system call */
	char *reply;
	size_t reply_length;
	struct command command;
	struct spawner *spawner; /* with a CMD */
	struct loop_source ends; /* of its commands */
	struct children children;
	struct client_count *clients;
	struct slab connections;
	size_t open;	   /* connections that have not ended */
	uint64_t seen;	   /* in all */
	uint64_t accepted; /* of them, those that were not refused */
	uint64_t direct;   /* refused because nobody redirected them */
	bool timed_out;	   /* --timeout is over */
	bool failed;	   /* it could not go on */
	struct connection *waiting,
		**last_waiting; /* not begun yet, for a shortage; in their order */
	bool room;		/* they, and those in the backlog, may try again */
	struct service_told told_shortage, told_refusal;
	bool finishes_all; /* not only what nobody can end but we */
	struct loop_timer pause, timeout, drain;
};

/* What a record says of the connection; the record borrows the interface's name. */
void service_describe(struct record *r, const char *event, const struct caller *c,
		      char name[IF_NAMESIZE]);

/* Write a record, if records are wanted, or if those of ends are; pid 0 and reason NULL for none.
 * Whoever has caused some calls service_flush(), once a batch. */
void service_put_event(struct service *s, const char *event, const struct caller *c, pid_t pid,
		       const char *reason);
void service_put_close(const struct connection *c, const char *reason);
void service_flush(struct service *s);

/* --count is reached. May the next one be accepted? If not, what is to be done about it is done.
 * There are as many as --max allows. */
bool service_has_enough(const struct service *s);
bool service_may_accept(struct service *s);
bool service_is_full(const struct service *s);

/* Is there a flow that can be had again at any time? End the one of these that was idle the
 * longest; false: there is none. At the limit that is due before another connection is counted. */
bool service_can_make_room(const struct service *s);
bool service_make_room(struct service *s);

/* Poll the listeners, or let clients wait. */
void service_poll_listeners(struct service *s, bool on);

/* Let clients wait until something has ended, for a while at most, after a failed call said that
 * something is short. Is that what an errno says? */
void service_pause(struct service *s, const struct failure *why);
bool service_is_shortage(int err);

/* One connection less, or what it held. */
void service_leave(struct service *s);

/* An accepted connection could not be begun, for that shortage, or others wait already: it waits,
 * in front of those in the backlog. */
void service_wait(struct connection *c, const struct failure *why);

/* Is it time to say it again? Then that is noted. */
bool service_may_tell(struct service *s, struct service_told *told);

/* One that was shut down or destroyed, after errno said so: end when it was the last. */
void service_lose_listener(struct service *s, struct loop_source *source);

/* Mark and cookie, if anybody wants to know them. */
void service_read_socket(struct service *s, int fd, struct caller *c);

/* Count one more for its client. True: it has too many (or there is no memory to count), and
 * this one was not counted. */
bool service_is_crowded(struct service *s, const struct caller *caller);

/* Record that the connection is refused, and reset it. */
void service_refuse(struct service *s, const struct caller *caller, int fd, const char *reason);

/* A connection that outlives its acceptance, or NULL for lack of memory. Not yet counted as
 * open; the descriptor stays the caller's until then. */
struct connection *service_new_connection(struct service *s, const struct caller *caller, int fd,
					  enum phase phase);

/* It has ended, for that reason: record it, close it, and make room for another one. */
void service_finish(struct connection *c, const char *reason);
void service_release(struct loop *loop, struct loop_garbage *garbage);

/* Note that a stage is due; one that is past is nothing new. From now on nothing is accepted;
 * stages.c enters it at the end of the loop's turn. */
void service_note_stage(struct service *s, enum stage stage);

/* It cannot go on, for that reason. */
void service_fail(struct service *s, const char *why);

/* What waits may try again, at the end of the loop's turn: also the alarm of pause. */
loop_alarm service_resume;

#endif
