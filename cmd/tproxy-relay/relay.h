/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relay - the state that the threads of a relay share, and the state that each has of its own.
 *
 * The functions here may be called from any thread. worker.h has what one thread does, workers.h
 * starts them all.
 */
#ifndef TPROXY_RELAY_RELAY_H
#define TPROXY_RELAY_RELAY_H

#include "base/record_stream.h"
#include "process/loop.h"
#include "process/record_output.h"
#include "socket/listeners.h"
#include "socket/proxyproto_wait.h"
#include "tproxy-relay/conn_log.h"
#include "tproxy-relay/counters.h"
#include "tproxy-relay/flow.h"
#include "tproxy-relay/policy.h"
#include "tproxy-relay/udp_flow.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct worker;
struct udp_worker;

/*
 * How a relay ends: SERVING -> LAME_DUCK (it says that it is about to end, and serves on for the
 * time of lame_duck; skipped if that is 0) -> DRAINING (no new connections, old ones may finish
 * within drain_timeout) -> ENDING (the rest are reset). Connections are reset no faster than the
 * reader takes their records. At last the records that are left wait for the reader, for
 * drain_timeout again; once ENDING only as long as it keeps reading.
 */
enum relay_phase { RELAY_SERVING, RELAY_LAME_DUCK, RELAY_DRAINING, RELAY_ENDING };

/* Shared by the workers of one process. Set up before they start, except for the atomic fields. */
struct relay {
	struct flow_settings settings;
	struct udp_settings udp;
	struct udp_icmp_sockets icmp[2]; /* by enum flow_end; -1 where errors cannot be sent */
	struct policy policy;
	const struct transparent_host *front; /* of the listeners, if netns is set; else NULL */
	struct timewait *timewait;	      /* NULL: no client's port is kept */
	struct synack *synack;		      /* NULL: without --keep-dscp */
	enum conn_log_level log;
	struct record_stream *records;	     /* NULL: none */
	struct record_output_ops output_ops; /* `trouble' and `waiting' are the program's */
	uint64_t max;			     /* connections at once */
	unsigned pipes;		/* for bulk data, at once; shared out among the workers */
	uint64_t drain_timeout; /* milliseconds */
	uint64_t lame_duck;	/* milliseconds; 0: none */
	const struct cidr_list *accept_proxy; /* peers that begin with a PROXY header; borrowed */
	/* Serve only this connection and end with it, without listeners. NULL: serve listeners. */
	const struct transparent_connection *only;
	unsigned inherited_udp; /* inherited UDP listeners, each served by one worker */
	bool shared_listeners;	/* the workers have duplicates of the same (inherited) sockets */
	bool sandbox;		/* enter it before serving anything */
	/* Everything is set up, and serving begins. May be NULL. */
	void (*ready)(const struct relay *relay);
	uint32_t ready_fd; /* for that; 0: none */
	/* It is a lame duck from now on; draining begins, and the listeners are still open: has
	 * another relay taken over? In worker 0's thread. May be NULL. */
	void (*lame)(const struct relay *relay);
	bool (*stopping)(const struct relay *relay);
	/* Report trouble with a connection to the person at the terminal; in any thread. */
	void (*trouble)(enum reason reason, const struct failure *why);
	/* A listener cannot be served now, or no longer; in any thread. */
	void (*unheard)(const struct failure *why);

	struct worker *workers;
	unsigned count;
	struct record_output output; /* of the records; worker 0's */
	pthread_mutex_t gate;	     /* held until serving may begin */
	_Atomic uint64_t live;	     /* connections, and reservations for those being accepted */
	_Atomic uint64_t trying;     /* reservations of threads that try to accept */
	_Atomic uint64_t next_id;
	_Atomic unsigned paused; /* workers that are not accepting now */
	_Atomic unsigned busy;	 /* workers that still have something to do */
	_Atomic size_t served;	 /* listeners of all workers, except failed ones */
	_Atomic bool replaced;	 /* another relay has taken over */
	_Atomic bool written;	 /* no records wait for their reader any more */
	_Atomic int phase;	 /* enum relay_phase */
};

/* An accepted connection whose PROXY header has not come yet. */
struct pending {
	struct proxyproto_wait wait;
	struct loop_garbage garbage;
	struct transparent_connection connection;
	unsigned listener;
};

struct worker {
	struct flow_ops host; /* first: flows find it as the loop's context */
	struct relay *relay;
	unsigned index;
	pthread_t thread;
	struct listeners listeners, udp_listeners;
	struct loop_source *sources; /* one for each TCP listener */
	struct udp_worker *udp;	     /* NULL: no UDP listeners */
	struct udp_raw raw;	     /* for UDP */
	struct loop_timer retry;     /* after an accept that failed for an external reason */
	struct loop_timer lame;	     /* worker 0's: the end of the lame duck's time */
	struct loop_timer deadline;  /* of draining */
	struct slab pendings;	     /* whose PROXY header is awaited */
	struct counters counters;
	struct conn_log log;
	int spare;	      /* a reserve descriptor for the upstream leg when none is left */
	uint32_t accepted_at; /* loop_turn() of the last accept */
	unsigned burst;	      /* number of accepts in that turn */
	_Atomic bool paused;
	bool is_lame, draining, resetting, over, began, told_refusal;
	pthread_mutex_t lock; /* guards visits */
	struct relay_visit *visits;
	struct failure why; /* why its loop failed, if it did */
	int result;
};

/* Wake every worker, to look at what has changed. */
void relay_wake(struct relay *relay);

/* Enter a later phase; an earlier one is ignored. */
void relay_end(struct relay *relay, enum relay_phase phase);

/* The phase's name: `serving`, `lame-duck`, `draining`, `ending`. */
const char *relay_phase_name(enum relay_phase phase);

/* The sum of one counter over all workers. */
uint64_t relay_count(const struct relay *relay, unsigned which);

/*
 * Calls visit for each worker in that worker's own thread, one after the other, then done in worker
 * 0's. It belongs to the caller again when done is called. If the relay ends first, workers_run()
 * does the rest before it returns.
 */
struct relay_visit {
	/* False: done is called now, and relay_resume_visit() continues with this worker. */
	bool (*visit)(struct worker *worker, void *context);
	void (*done)(void *context);
	void *context;
	unsigned at; /* index of the worker to visit next */
	bool pauses; /* on the way to worker 0, to call done for now */
	struct relay_visit *next;
};
void relay_for_each_worker(struct relay *relay, struct relay_visit *visit);
void relay_resume_visit(struct relay *relay, struct relay_visit *visit);
bool relay_visit_is_over(const struct relay *relay, const struct relay_visit *visit);

/* Run the visits queued for this worker. In its own thread. */
void relay_take_visits(struct worker *w);

/* Finish pending visits, when no worker runs any more. */
void relay_end_visits(struct relay *relay);

/* Number of connections now; in any thread. */
uint64_t relay_connections(const struct relay *relay);

#endif
