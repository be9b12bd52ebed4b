/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/loop.h"
#include "base/clock.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/*
 * Deadlines live in a hashed wheel: SLOTS lists, one per tick; a deadline that is further away than
 * one turn of the wheel stays in its list for as many turns as needed. Arming and disarming are a
 * few stores; with an idle timeout of 2 h 5 m each connection is looked at about thirty times in
 * its life.
 */
#define SLOTS 1024 /* a power of two; one turn of the wheel is 256 s */
#define BATCH 256

struct loop {
	int epoll;
	uint64_t now_us, born_us;
	uint32_t turns, whole_turns;
	uint32_t ticks; /* every slot up to this tick has been served */
	size_t armed;
	struct loop_timer *slots[SLOTS];
	struct loop_garbage *garbage;
	void *context;
	bool stop;
	struct loop_source wake, signals;
	void (*on_turn)(struct loop *loop);
	void (*on_wake)(struct loop *loop, void *context);
	void *wake_context;
	void (*on_signal)(struct loop *loop, int signo, void *context);
	void *signal_context;
};

void loop_update_clock(struct loop *loop)
{
	loop->now_us = clock_us();
}

uint64_t loop_now_us(const struct loop *loop)
{
	return loop->now_us;
}

uint64_t loop_now(const struct loop *loop)
{
	return loop->now_us / 1000;
}

void *loop_context(const struct loop *loop)
{
	return loop->context;
}

uint32_t loop_turn(const struct loop *loop)
{
	return loop->turns;
}

uint32_t loop_whole_turns(const struct loop *loop)
{
	return loop->whole_turns;
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

/* ---- descriptors ---- */

/* #syscalls base: epoll_ctl */
int loop_watch(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	bool edge = events & EPOLLET;

	if (source->watched && source->events == (uint16_t)events && source->edge == edge)
		return 0;
	if (epoll_ctl(loop->epoll, source->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, source->fd,
		      &event) < 0)
		return -1;
	source->watched = true;
	source->dead = false;
	source->events = (uint16_t)events;
	source->edge = edge;
	return 0;
}

void loop_forget(struct loop *loop, struct loop_source *source)
{
	if (source->watched)
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	source->watched = false;
	source->dead = true;
}

/* #syscalls base: close */
void loop_close(struct loop *loop, struct loop_source *source)
{
	int saved = errno;

	(void)loop; /* the kernel removes a closed descriptor from the set */
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
	source->watched = false;
	source->dead = true;
	errno = saved;
}

void loop_discard(struct loop *loop, struct loop_garbage *garbage,
		  void (*release)(struct loop *loop, struct loop_garbage *self))
{
	garbage->release = release;
	garbage->next = loop->garbage;
	loop->garbage = garbage;
}

static void release_garbage(struct loop *loop)
{
	while (loop->garbage) {
		struct loop_garbage *g = loop->garbage;

		loop->garbage = g->next;
		g->release(loop, g);
	}
}

/* ---- deadlines ---- */

static uint32_t tick_of(const struct loop *loop, uint64_t us)
{
	return (uint32_t)((us - loop->born_us) / (LOOP_TICK_MS * 1000));
}

uint32_t loop_tick(const struct loop *loop)
{
	return tick_of(loop, loop->now_us);
}

static void link_timer(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer **slot = &loop->slots[timer->due % SLOTS];

	timer->next = *slot;
	timer->prev = slot;
	if (*slot)
		(*slot)->prev = &timer->next;
	*slot = timer;
	loop->armed++;
}

void loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	if (!timer->prev)
		return;
	*timer->prev = timer->next;
	if (timer->next)
		timer->next->prev = timer->prev;
	timer->prev = NULL;
	loop->armed--;
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t ms_from_now)
{
	loop_disarm(loop, timer);
	/* The tick after the one in which it is due: late by at most a tick, never early. */
	timer->due = tick_of(loop, loop->now_us + ms_from_now * 1000) + 1;
	link_timer(loop, timer);
}

/* Serve one slot. Alarms may arm and disarm anything, so timers that are due are moved aside
 * first. */
static void serve_slot(struct loop *loop, uint32_t tick)
{
	struct loop_timer *due = NULL, *t, *next;

	for (t = loop->slots[tick % SLOTS]; t; t = next) {
		next = t->next;
		if ((int32_t)(t->due - tick) > 0)
			continue;
		loop_disarm(loop, t);
		t->next = due;
		t->prev = &due;
		if (due)
			due->prev = &t->next;
		due = t;
		loop->armed++;
	}
	while (due) {
		t = due;
		loop_disarm(loop, t);
		t->alarm(loop, t);
	}
}

static void serve_timers(struct loop *loop)
{
	uint32_t now = tick_of(loop, loop->now_us);

	/* After a long sleep (a suspended machine) one turn of the wheel covers every slot. */
	if (now - loop->ticks > SLOTS)
		loop->ticks = now - SLOTS;
	while (loop->ticks != now)
		serve_slot(loop, ++loop->ticks);
}

/* How long epoll may sleep: until the next slot that contains a timer; for ever if there is
 * none. */
static int sleep_ms(const struct loop *loop)
{
	uint64_t until;
	uint32_t tick;

	if (!loop->armed)
		return -1;
	for (tick = loop->ticks + 1; !loop->slots[tick % SLOTS] && tick - loop->ticks < SLOTS;)
		tick++;
	until = loop->born_us + (uint64_t)tick * LOOP_TICK_MS * 1000;
	return until <= loop->now_us ? 0 : (int)((until - loop->now_us + 999) / 1000);
}

/* ---- waking and signals ---- */

/* #syscalls base: write */
void loop_wake(struct loop *loop)
{
	uint64_t one = 1;
	int saved = errno;

	if (write(loop->wake.fd, &one, sizeof(one)) < 0)
		errno = saved; /* EAGAIN: it is awake already */
}

void loop_on_wake(struct loop *loop, void (*waker)(struct loop *loop, void *context), void *context)
{
	loop->on_wake = waker;
	loop->wake_context = context;
}

void loop_on_turn(struct loop *loop, void (*hook)(struct loop *loop))
{
	loop->on_turn = hook;
}

/* #syscalls base: read */
static void handle_wake(struct loop *loop, struct loop_source *source, uint32_t events)
{
	uint64_t count;

	if (read(source->fd, &count, sizeof(count)) == sizeof(count) && loop->on_wake)
		loop->on_wake(loop, loop->wake_context);
}

static void make_set(sigset_t *set, const int *signals)
{
	sigemptyset(set);
	for (; *signals; signals++)
		sigaddset(set, *signals);
}

void loop_block_signals(const int *signals)
{
	sigset_t set;

	make_set(&set, signals);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* #syscalls base: read */
static void handle_signal(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct signalfd_siginfo info;

	while (read(source->fd, &info, sizeof(info)) == sizeof(info))
		loop->on_signal(loop, (int)info.ssi_signo, loop->signal_context);
}

int loop_signals(struct loop *loop, const int *signals,
		 void (*handler)(struct loop *loop, int signo, void *context), void *context,
		 struct failure *why)
{
	sigset_t set;

	make_set(&set, signals);
	loop->on_signal = handler;
	loop->signal_context = context;
	loop->signals.handler = handle_signal;
	loop->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (loop->signals.fd < 0)
		return report_fail(why, errno, "signalfd", "event loop");
	if (loop_watch(loop, &loop->signals, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "event loop");
	return 0;
}

/* ---- life ---- */

struct loop *loop_new(void *context, struct failure *why)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop) {
		report_fail(why, errno, "malloc", "event loop");
		return NULL;
	}
	loop->context = context;
	loop->wake = (struct loop_source){ .handler = handle_wake, .fd = -1 };
	loop->signals.fd = -1;
	loop_update_clock(loop);
	loop->born_us = loop->now_us;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		report_fail(why, errno, "epoll_create1", "event loop");
		goto fail;
	}
	loop->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake.fd < 0 || loop_watch(loop, &loop->wake, EPOLLIN) < 0) {
		report_fail(why, errno, "eventfd", "event loop");
		goto fail;
	}
	return loop;
fail:
	loop_free(loop);
	return NULL;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	release_garbage(loop);
	loop_close(loop, &loop->signals);
	loop_close(loop, &loop->wake);
	if (loop->epoll >= 0)
		close(loop->epoll);
	free(loop);
}

static void deliver(struct loop *loop, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		struct loop_source *source = events[i].data.ptr;

		if (!source->dead)
			source->handler(loop, source, events[i].events);
	}
}

/* #syscalls base: epoll_wait */
int loop_run(struct loop *loop, struct failure *why)
{
	struct epoll_event events[BATCH];
	int count;

	loop->stop = false;
	while (!loop->stop) {
		count = epoll_wait(loop->epoll, events, BATCH, sleep_ms(loop));
		if (count < 0 && errno != EINTR)
			return report_fail(why, errno, "epoll_wait", "event loop");
		loop->turns++;
		loop->whole_turns += count >= 0 && count < BATCH;
		loop_update_clock(loop);
		deliver(loop, events, count);
		serve_timers(loop);
		if (loop->on_turn)
			loop->on_turn(loop);
		release_garbage(loop);
	}
	return 0;
}
