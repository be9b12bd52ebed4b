/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events, deadlines and what is released after the batch.
 *
 * The clock is the test's: epoll_wait() does not sleep but moves it on, so that nothing here
 * depends on how fast the machine is.
 */
#include "process/loop.h"
#include "base/container.h"
#include "check.h"
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns = 5000000000;
static struct loop *loop;
static struct failure why;
static char done[256]; /* what has happened, a letter each */

int clock_gettime(clockid_t clock_id, struct timespec *tp)
{
	*tp = (struct timespec){ (time_t)(now_ns / 1000000000), (long)(now_ns % 1000000000) };
	return 0;
}

/* Ready at once, or never while it sleeps: then what it waited for is the time. */
int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	int ready = (int)syscall(SYS_epoll_pwait, epfd, events, maxevents, 0, NULL, 8);

	if (ready == 0 && timeout < 0) {
		fprintf(stderr, "it would sleep for ever\n");
		loop_stop(loop);
	}
	if (ready == 0 && timeout > 0)
		now_ns += (uint64_t)timeout * 1000000;
	return ready;
}

static void note(char what)
{
	size_t length = strlen(done);

	if (length + 1 < sizeof(done))
		done[length] = what;
}

static void start(void)
{
	memset(done, 0, sizeof(done));
	loop = loop_new(NULL, &why);
	CHECK(loop != NULL);
}

static void end(void)
{
	loop_free(loop);
}

/* ---- deadlines ---- */

struct alarm {
	struct loop_timer timer;
	char name;
	uint64_t ms, at;	      /* it is armed for; it came at */
	struct alarm *disarms, *arms; /* when it comes */
	bool last;		      /* it ends the loop */
};

static void on_alarm(struct loop *l, struct loop_timer *timer)
{
	struct alarm *a = container_of(timer, struct alarm, timer);

	a->at = loop_now(l);
	note(a->name);
	if (a->disarms)
		loop_disarm(l, &a->disarms->timer);
	if (a->arms)
		loop_arm(l, &a->arms->timer, a->arms->ms);
	if (a->last)
		loop_stop(l);
}

static void arm(struct alarm *a)
{
	a->timer.alarm = on_alarm;
	loop_arm(loop, &a->timer, a->ms);
}

static void test_order(void)
{
	struct alarm a[] = { { .name = 'c', .ms = 3000 },
			     { .name = 'a', .ms = 0 },
			     { .name = 'd', .ms = 400000, .last = true },
			     { .name = 'b', .ms = 1000 } };
	uint64_t began;

	start();
	began = loop_now(loop);
	for (int i = 0; i < 4; i++)
		arm(&a[i]);
	CHECK(loop_run(loop, &why) == 0);
	CHECK_TEXT(done, "abcd");
	/* Never early, and a tick late at most. */
	for (int i = 0; i < 4; i++)
		CHECK(a[i].at - began >= a[i].ms && a[i].at - began <= a[i].ms + LOOP_TICK_MS);
	end();
}

/* Of two that are due at once one may disarm the other, or arm itself anew. */
static void test_disarm(void)
{
	struct alarm a = { .name = 'a', .ms = 500 }, b = { .name = 'b', .ms = 500 };
	struct alarm c = { .name = 'c', .ms = 500 }, z = { .name = 'z', .ms = 3000, .last = true };

	start();
	a.disarms = &b;
	b.disarms = &a;
	c.arms = &c;
	arm(&a);
	arm(&b);
	arm(&c);
	arm(&z);
	CHECK(loop_run(loop, &why) == 0);
	CHECK(!!strchr(done, 'a') + !!strchr(done, 'b') == 1);
	CHECK(strchr(done, 'c') && strchr(done, 'c') != strrchr(done, 'c'));
	CHECK(done[strlen(done) - 1] == 'z');
	loop_disarm(loop, &c.timer);
	loop_disarm(loop, &c.timer); /* twice is once */
	end();
}

/* Moved on again and again, it does not come; and a machine that was suspended has all that was
 * due. */
static void test_rearm(void)
{
	struct alarm a = { .name = 'a', .ms = 1000 }, b = { .name = 'b', .ms = 700, .arms = &a };
	struct alarm z = { .name = 'z', .ms = 2000, .last = true };

	start();
	a.ms = 60000;
	b.arms = &a;
	arm(&a);
	arm(&b);
	arm(&z);
	CHECK(loop_run(loop, &why) == 0);
	CHECK_TEXT(done, "bz");
	now_ns += UINT64_C(100000) * 1000000000;
	z.ms = 0;
	loop_update_clock(loop);
	arm(&z);
	CHECK(loop_run(loop, &why) == 0);
	CHECK(strchr(done, 'a') != NULL);
	end();
}

/* ---- descriptors ---- */

struct pair {
	struct loop_source source;
	int other;
	char name;
	struct pair *forgets;
};

static void on_input(struct loop *l, struct loop_source *source, uint32_t events)
{
	struct pair *p = container_of(source, struct pair, source);

	note(p->name);
	if (p->forgets)
		loop_forget(l, &p->forgets->source);
	loop_stop(l);
}

static void open_pair(struct pair *p, char name)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	*p = (struct pair){ .source = { .handler = on_input, .fd = fds[0] },
			    .other = fds[1],
			    .name = name };
	CHECK(write(fds[1], "x", 1) == 1);
	CHECK(loop_watch(loop, &p->source, EPOLLIN) == 0);
}

static void close_pair(struct pair *p)
{
	loop_close(loop, &p->source);
	CHECK(p->source.fd == -1);
	close(p->other);
}

/* Both are ready in one batch, and the first handler forgets the other's. */
static void test_forget(void)
{
	struct pair a, b;

	start();
	open_pair(&a, 'a');
	open_pair(&b, 'b');
	a.forgets = &b;
	b.forgets = &a;
	CHECK(loop_run(loop, &why) == 0);
	CHECK(strlen(done) == 1);
	/* Watched again, it is delivered again. */
	a.forgets = b.forgets = NULL;
	memset(done, 0, sizeof(done));
	CHECK(loop_watch(loop, &a.source, EPOLLIN) == 0 &&
	      loop_watch(loop, &b.source, EPOLLIN) == 0);
	CHECK(loop_run(loop, &why) == 0);
	CHECK(strlen(done) == 2);
	close_pair(&a);
	close_pair(&b);
	end();
}

/* Nothing is asked for but errors: what can be read is no event. */
static void test_watch_nothing(void)
{
	struct alarm z = { .name = 'z', .ms = 1000, .last = true };
	struct pair a;

	start();
	open_pair(&a, 'a');
	CHECK(loop_watch(loop, &a.source, 0) == 0);
	arm(&z);
	CHECK(loop_run(loop, &why) == 0);
	CHECK_TEXT(done, "z");
	a.source.fd = -1; /* as a descriptor that is none */
	a.source.watched = false;
	CHECK(loop_watch(loop, &a.source, EPOLLIN) < 0 && errno == EBADF);
	close(a.other);
	end();
}

/* ---- the turn ---- */

static struct loop_garbage garbage;

static void release(struct loop *l, struct loop_garbage *self)
{
	note('g');
}

static void hook(struct loop *l)
{
	note('h');
}

static void waker(struct loop *l, void *context)
{
	note(*(char *)context);
	loop_discard(l, &garbage, release);
	note('w');
	loop_stop(l);
}

/* Handlers, the hook, and only then what is garbage. */
static void test_turn(void)
{
	char name = 'x';
	uint32_t turn;

	start();
	loop_on_wake(loop, waker, &name);
	loop_on_turn(loop, hook);
	turn = loop_turn(loop);
	loop_wake(loop);
	loop_wake(loop); /* one wake-up */
	CHECK(loop_run(loop, &why) == 0);
	CHECK_TEXT(done, "xwhg");
	CHECK(loop_turn(loop) == turn + 1);
	end();
}

static void on_signal(struct loop *l, int signo, void *context)
{
	note(signo == SIGUSR1 ? '1' : '2');
	loop_stop(l);
}

static void test_signals(void)
{
	static const int signals[] = { SIGUSR1, SIGUSR2, 0 };

	start();
	loop_block_signals(signals);
	CHECK(loop_signals(loop, signals, on_signal, NULL, &why) == 0);
	raise(SIGUSR1);
	raise(SIGUSR2);
	CHECK(loop_run(loop, &why) == 0);
	CHECK_TEXT(done, "12");
	end();
}

int main(void)
{
	test_order();
	test_disarm();
	test_rearm();
	test_forget();
	test_watch_nothing();
	test_turn();
	test_signals();
	loop_free(NULL);
	return check_done();
}
