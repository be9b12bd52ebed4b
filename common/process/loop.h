/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop - one thread's events: descriptors, deadlines, signals, and freeing after the batch.
 *
 * Knows sources and timers, never connections. Each thread that serves has its own loop; nothing in
 * it is shared or locked except loop_wake(). Time is CLOCK_MONOTONIC, read once per turn.
 */
#ifndef TPROXY_PROCESS_LOOP_H
#define TPROXY_PROCESS_LOOP_H

#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_source;
struct loop_timer;

/* Called with the events from epoll (EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP). */
typedef void loop_handler(struct loop *loop, struct loop_source *source, uint32_t events);
typedef void loop_alarm(struct loop *loop, struct loop_timer *timer);

/* One watched descriptor; embed it. With everything zeroed except handler, it is not watched. fd is
 * borrowed. */
struct loop_source {
	loop_handler *handler;
	int fd;
	uint16_t events; /* as told to epoll; 0 and watched: only errors and hang-ups */
	bool edge : 1;	 /* EPOLLET was one of them */
	bool watched : 1;
	bool dead : 1; /* dropped, perhaps in this turn: events already fetched are not delivered */
};

/* One deadline in a coarse wheel; embed it. Arming is cheap; alarms come at most 250 ms late. */
struct loop_timer {
	loop_alarm *alarm;
	struct loop_timer *next, **prev; /* prev NULL: not armed */
	uint32_t due;			 /* in ticks of the wheel since the loop was created */
};

/* A structure to be freed after the current batch of events; embed it. */
struct loop_garbage {
	void (*release)(struct loop *loop, struct loop_garbage *self);
	struct loop_garbage *next;
};

/* Create a loop; handlers get `context` back from loop_context(). NULL with *why: no memory, no
 * fds. */
struct loop *loop_new(void *context, struct failure *why);
void *loop_context(const struct loop *loop);
void loop_free(struct loop *loop);

/* Run until loop_stop(). Returns 0, or -1 with *why if epoll itself failed. */
int loop_run(struct loop *loop, struct failure *why);
void loop_stop(struct loop *loop);

/* Make a loop in another thread run one turn and call its waker; async-signal-safe. */
void loop_wake(struct loop *loop);
void loop_on_wake(struct loop *loop, void (*waker)(struct loop *loop, void *context),
		  void *context);

/* Watch source->fd for events, or change what is watched; makes no system call if nothing changes.
 * Returns 0, or -1 with errno (ENOSPC, ENOMEM: the user's watch limit or memory). */
int loop_watch(struct loop *loop, struct loop_source *source, uint32_t events);

/* Stop watching a descriptor that stays open; events already fetched for it are not delivered. */
void loop_forget(struct loop *loop, struct loop_source *source);

/* Stop watching, and close the descriptor; fd becomes -1. Epoll
 * drops a closed descriptor by itself (it must have no duplicate), which saves a system call. */
void loop_close(struct loop *loop, struct loop_source *source);

/* Free after the batch, when no fetched event can point to it any more. */
void loop_discard(struct loop *loop, struct loop_garbage *garbage,
		  void (*release)(struct loop *loop, struct loop_garbage *self));

/* The unit of deadlines, and how many units have passed since the loop was created. */
#define LOOP_TICK_MS 250
uint32_t loop_tick(const struct loop *loop);

/* Arm (or move) and disarm a deadline. */
void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t ms_from_now);
void loop_disarm(struct loop *loop, struct loop_timer *timer);

/* Monotonic time of this turn, in milliseconds and microseconds. */
uint64_t loop_now(const struct loop *loop);
uint64_t loop_now_us(const struct loop *loop);

/* Read the clock again: for a handler that has taken long, before it arms a delay that should not
 * include that time. */
void loop_update_clock(struct loop *loop);

/* The number of turns so far, modulo 2^32. */
uint32_t loop_turn(const struct loop *loop);

/*
 * The number of turns so far, modulo 2^32, that fetched the events of all descriptors that were
 * ready when they began. A turn fetches a limited number; what is ready beyond that waits for a
 * later one. This turn counts from its beginning, though its events are still being delivered.
 */
uint32_t loop_whole_turns(const struct loop *loop);

/* Called at the end of each turn, before the loop sleeps. */
void loop_on_turn(struct loop *loop, void (*hook)(struct loop *loop));

/* Deliver signals through a signalfd of this loop. They must be blocked in all threads: call
 * loop_block_signals() before the first thread starts. The handler gets the signal's number. The
 * list ends with 0. One set per loop. */
void loop_block_signals(const int *signals);
int loop_signals(struct loop *loop, const int *signals,
		 void (*handler)(struct loop *loop, int signo, void *context), void *context,
		 struct failure *why);

#endif
