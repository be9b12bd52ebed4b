/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_table.h"
#include "check.h"

#include <stdlib.h>

#define MAX 64

static struct endpoint at(const char *text)
{
	struct endpoint e = { 0 };
	struct failure why;

	CHECK(endpoint_parse(text, &e, &why) == 0);
	return e;
}

static struct udp_entry entry(const char *client, unsigned port, const char *origdst)
{
	struct udp_entry e = { .client = at(client), .origdst = at(origdst) };

	e.client.port = (uint16_t)port;
	return e;
}

static void test_found_by_both_ends(void)
{
	struct udp_entry a = entry("192.0.2.1:1", 1, "198.51.100.2:53"), b, c;
	struct udp_table t;

	b = a;
	b.via = 7;
	c = a;
	c.origdst.port = 54;
	CHECK(udp_table_init(&t, MAX) == 0);
	CHECK(udp_table_add(&t, &a, 0) == 0);
	CHECK(udp_table_find(&t, &a.client, &a.origdst, 0) == &a);
	CHECK(udp_table_find(&t, &a.client, &c.origdst, 0) == NULL);
	CHECK(udp_table_find(&t, &a.origdst, &a.client, 0) == NULL);
	CHECK(udp_table_find(&t, &a.client, &a.origdst, 7) == NULL);
	CHECK(udp_table_add(&t, &b, 0) == 0 && udp_table_add(&t, &c, 0) == 0);
	CHECK(udp_table_find(&t, &a.client, &a.origdst, 7) == &b);
	CHECK(udp_table_find(&t, &a.client, &c.origdst, 0) == &c);
	udp_table_remove(&t, &a);
	CHECK(udp_table_find(&t, &a.client, &a.origdst, 0) == NULL);
	CHECK(udp_table_find(&t, &a.client, &a.origdst, 7) == &b);
	CHECK(t.count == 2 && t.sources.used == 1);
	udp_table_remove(&t, &b);
	udp_table_remove(&t, &c);
	CHECK(t.count == 0 && t.sources.used == 0);
	udp_table_free(&t);
}

/* Past several doublings of both tables. */
static void test_many(void)
{
	static struct udp_entry e[3000];
	struct udp_table t;
	unsigned found = 0;

	CHECK(udp_table_init(&t, 3000) == 0);
	for (unsigned i = 0; i < 3000; i++) {
		e[i] = entry("10.0.0.0:1", 1 + i % 7, "198.51.100.2:53");
		e[i].client.addr.v4.s_addr |= htonl(i / 7);
		udp_table_add(&t, &e[i], 0);
	}
	for (unsigned i = 0; i < 3000; i++)
		found += udp_table_find(&t, &e[i].client, &e[i].origdst, 0) == &e[i];
	CHECK(found == 3000);
	for (unsigned i = 0; i < 3000; i++)
		udp_table_remove(&t, &e[i]);
	CHECK(t.count == 0 && t.sources.used == 0);
	udp_table_free(&t);
}

static void test_age(void)
{
	struct udp_entry a = entry("192.0.2.1:1", 1, "198.51.100.2:53");
	struct udp_entry b = entry("192.0.2.1:1", 2, "198.51.100.2:53");
	struct udp_table t;

	CHECK(udp_table_init(&t, MAX) == 0);
	udp_table_add(&t, &a, 10);
	udp_table_add(&t, &b, 11);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 14, 5) == NULL);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 15, 5) == &a);
	udp_table_touch(&t, &a, 15, UDP_UNANSWERED);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 15, 5) == NULL);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 16, 5) == &b);
	udp_table_touch(&t, &b, 15, UDP_ANSWERED);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 20, 5) == &a);
	CHECK(udp_table_expired(&t, UDP_ANSWERED, 20, 5) == &b);
	CHECK(t.count_of[UDP_UNANSWERED] == 1 && t.count_of[UDP_ANSWERED] == 1);
	/* Ticks wrap around. */
	udp_table_touch(&t, &a, 0xfffffffe, UDP_UNANSWERED);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 2, 5) == NULL);
	CHECK(udp_table_expired(&t, UDP_UNANSWERED, 3, 5) == &a);
	udp_table_free(&t);
}

static void test_victims(void)
{
	static struct udp_entry flood[MAX], old[4];
	struct endpoint stranger = at("203.0.113.1:1");
	struct udp_table t;

	CHECK(udp_table_init(&t, MAX) == 0);
	for (unsigned i = 0; i < 4; i++) {
		old[i] = entry("192.0.2.1:1", 1 + i, "198.51.100.2:53");
		udp_table_add(&t, &old[i], 0);
		udp_table_touch(&t, &old[i], i, UDP_ESTABLISHED);
	}
	CHECK(udp_table_victim(&t, &stranger, 5, 10) == NULL);
	CHECK(udp_table_victim(&t, &stranger, 10, 10) == &old[0]);
	for (unsigned i = 0; i < 9; i++) {
		flood[i] = entry("192.0.2.9:1", 1 + i, "198.51.100.2:53");
		udp_table_add(&t, &flood[i], 20);
	}
	udp_table_touch(&t, &flood[1], 20, UDP_ESTABLISHED);
	udp_table_touch(&t, &flood[5], 21, UDP_ANSWERED);
	/* An answered one before an unanswered one, before an established one. */
	CHECK(udp_table_victim(&t, &stranger, 100, 10) == &flood[5]);
	/* One with more than an eighth gives up its own. */
	CHECK(udp_table_victim(&t, &flood[0].client, 100, 10) == &flood[0]);
	udp_table_remove(&t, &flood[5]);
	CHECK(udp_table_victim(&t, &stranger, 100, 10) == &flood[0]);
	/* With an eighth it does not. */
	CHECK(udp_table_victim(&t, &flood[0].client, 100, 10) == &flood[0]);
	udp_table_touch(&t, &old[3], 100, UDP_ANSWERED);
	CHECK(udp_table_victim(&t, &flood[0].client, 100, 10) == &old[3]);
	udp_table_free(&t);
}

/* Of IPv6 a client is a /64. */
static void test_prefix(void)
{
	static struct udp_entry e[10];
	char text[64];
	struct udp_table t;

	CHECK(udp_table_init(&t, MAX) == 0);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(text, sizeof(text), "[2001:db8::%x:%x]:1", i * 257, i);
		e[i] = entry(text, 1, "[2001:db8:1::1]:53");
		udp_table_add(&t, &e[i], i);
	}
	CHECK(t.sources.used == 1);
	udp_table_touch(&t, &e[0], 11, UDP_ANSWERED);
	/* Its own, used last the longest ago, rather than the answered one. */
	CHECK(udp_table_victim(&t, &e[3].client, 20, 10) == &e[1]);
	udp_table_free(&t);
}

int main(void)
{
	test_found_by_both_ends();
	test_many();
	test_age();
	test_victims();
	test_prefix();
	return check_done();
}
