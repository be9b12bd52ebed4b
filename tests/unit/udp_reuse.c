/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a new flow gets the socket of one that is over: not before everything that the latter had
 * left in it has been reported.
 *
 * Each turn of the loop is made by the test, which also says how many events a turn fetches.
 */
#include "tproxy-relay/udp_reuse.h"
#include "check.h"
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct failure why;
static struct udp_settings udp;
static struct flow_settings settings = { .connect = { .source = SOURCE_CLIENT } };
static unsigned released;

static void count_released(struct udp_host *h)
{
	released++;
}

static const struct udp_ops ops = { .released = count_released };
static struct udp_host host = { .ops = &ops, .udp = &udp, .settings = &settings };
static struct flow_ops context = { .udp = &host };
static struct endpoint client, server;
static bool crowded; /* a turn fetches as many events as it can, all of one descriptor */

int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	int ready = (int)syscall(SYS_epoll_pwait, epfd, events, maxevents, timeout, NULL, 8);

	while (crowded && ready > 0 && ready < maxevents)
		events[ready++] = events[0];
	return ready;
}

static struct endpoint at(const char *text)
{
	struct endpoint e = { 0 };

	CHECK(endpoint_parse(text, &e, &why) == 0);
	return e;
}

static void start(void)
{
	client = at("192.0.2.1:40001");
	server = at("198.51.100.2:53");
	host.loop = loop_new(&context, &why);
	CHECK(host.loop && udp_reuse_init(&host.reuse) == 0);
	slab_init(&host.flows, sizeof(struct udp_flow));
	loop_on_turn(host.loop, loop_stop);
}

static void end(void)
{
	slab_free(&host.flows);
	udp_reuse_free(&host.reuse);
	loop_free(host.loop);
	host.reuse = (struct udp_reuse){ 0 };
}

static void turn(void)
{
	loop_wake(host.loop);
	CHECK(loop_run(host.loop, &why) == 0);
}

/* An answered flow ends, and leaves its slot as a spare. */
static struct udp_flow *leave(void)
{
	struct udp_flow *f = slab_get(&host.flows);

	f->entry.client = client;
	f->entry.class = UDP_ANSWERED;
	f->reusable = true;
	f->side[FLOW_UPSTREAM].fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(udp_reuse_let_go(&host, f));
	f->closed = true;
	udp_reuse_put(&host, f);
	return f;
}

/* Does a new flow get a socket with its slot? */
static bool gets_socket(void)
{
	struct udp_flow *f = udp_reuse_slot(&host, &client, &server);
	bool got = f->side[FLOW_UPSTREAM].fd >= 0;

	CHECK(f->second_hand == got);
	loop_close(host.loop, &f->side[FLOW_UPSTREAM]);
	slab_put(&host.flows, f);
	return got;
}

static void test_two_turns_later(void)
{
	start();
	leave();
	CHECK(!gets_socket());
	turn();
	CHECK(!gets_socket());
	turn();
	CHECK(gets_socket());
	CHECK(udp_reuse_spares(&host) == 0 && host.flows.used == 0);
	end();
}

static void test_each_by_its_own_age(void)
{
	struct udp_flow *old;

	start();
	old = leave();
	turn();
	leave();
	turn();
	/* As when an error came to it. */
	loop_close(host.loop, &old->side[FLOW_UPSTREAM]);
	CHECK(!gets_socket());
	CHECK(udp_reuse_spares(&host) == 1);
	turn();
	CHECK(gets_socket());
	end();
}

/* What comes to the socket may be left over each time. */
static void test_crowded_turns_do_not_count(void)
{
	start();
	leave();
	crowded = true;
	for (int i = 0; i < 5; i++)
		turn();
	CHECK(!gets_socket());
	crowded = false;
	turn();
	CHECK(!gets_socket());
	turn();
	CHECK(gets_socket());
	end();
}

/* An event for it may be among those that this turn has fetched. */
static void test_dropped_slot_outlives_the_turn(void)
{
	start();
	leave();
	CHECK(udp_reuse_drop_one(&host) && !udp_reuse_drop_one(&host));
	CHECK(udp_reuse_spares(&host) == 0 && host.flows.used == 1 && !released);
	turn();
	CHECK(host.flows.used == 0 && released == 1);
	end();
}

int main(void)
{
	test_two_turns_later();
	test_each_by_its_own_age();
	test_crowded_turns_do_not_count();
	test_dropped_slot_outlives_the_turn();
	return check_done();
}
