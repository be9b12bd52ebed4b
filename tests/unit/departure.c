/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where what was seen departs from the walk, in what a lab cannot make on each kernel: interfaces of
 * a VRF, reports that were lost; and whether the client's packets say anything about the server.
 */
#include "tproxy-inspect/explain/departure.h"
#include "check.h"
#include <netinet/in.h>

#define MEMBER 1001
#define MASTER 1002

static bool master_is_vrf;

/* An interface and its master, which this machine does not have. */
int link_find(unsigned index, struct link *out, struct failure *why)
{
	(void)why;
	*out = (struct link){ .index = index, .up = true };
	if (index == MEMBER)
		out->master = MASTER;
	if (index == MASTER) {
		out->is_vrf = master_is_vrf;
		out->is_bridge = !master_is_vrf;
	}
	return 1;
}

int link_each(link_visitor *visit, void *context, struct failure *why)
{
	(void)visit;
	(void)context;
	(void)why;
	return 0;
}

bool link_valid_name(const char *name)
{
	return *name;
}

bool link_calls_iptables(const struct link *bridge, sa_family_t family)
{
	(void)bridge;
	(void)family;
	return false;
}

static struct view view;
static struct observation seen;

/* (No socket is looked up for UDP; the packets are TCP.) */
static void reset(const char *reason)
{
	steps_free(&view.steps);
	view = (struct view){ .protocol = IPPROTO_UDP };
	steps_conclude(&view.steps, reason, "", "the walk's");
	seen = (struct observation){ .came = true, .exact = true };
	seen.fates.tuple.protocol = IPPROTO_TCP;
}

static struct packet_fate *add(enum packet_leg leg, enum packet_end end, unsigned iif,
			       uint64_t packets)
{
	struct packet_fate *f = &seen.fates.at[seen.fates.count++];

	*f = (struct packet_fate){ .leg = leg, .end = end, .iif = iif, .packets = packets };
	f->hook = end == END_SOCKET ? TRACE_INPUT : end == END_LEFT ? TRACE_POSTROUTING : 0;
	f->passed = true;
	seen.fates.packets[leg] += packets;
	return f;
}

static bool has_step(const char *name, const char *words)
{
	for (size_t i = 0; i < view.steps.count; i++)
		if (!strcmp(view.steps.at[i].name, name) &&
		    strstr(view.steps.at[i].evidence, words))
			return true;
	return false;
}

static const char *judge(void)
{
	departure_judge(&view, true, &seen);
	return view.steps.reason;
}

/* As its member's a packet is seen as far as prerouting, and once more as the VRF's. */
static void test_vrf(void)
{
	reset("delivered");
	master_is_vrf = true;
	add(LEG_REQUEST, END_LOST, MEMBER, 3);
	add(LEG_REQUEST, END_SOCKET, MASTER, 3);
	add(LEG_REPLY, END_LEFT, 0, 3);
	CHECK_TEXT(judge(), "delivered");
	CHECK(has_step("seen-request", "come there again as packets of the VRF"));
	/* What the VRF's own rules drop is dropped. */
	reset("delivered");
	add(LEG_REQUEST, END_LOST, MEMBER, 3);
	add(LEG_REQUEST, END_DROPPED, MASTER, 3);
	CHECK_TEXT(judge(), "dropped");
	/* Of a bridge's port nothing comes again. */
	reset("delivered");
	master_is_vrf = false;
	add(LEG_REQUEST, END_LOST, MEMBER, 3);
	CHECK_TEXT(judge(), "lost");
	CHECK(has_step("seen-request", "come to no other hook"));
}

/* What was not heard of a packet may be among the reports that were lost (ENOBUFS). */
static void test_missed(void)
{
	reset("delivered");
	seen.missed = true;
	add(LEG_REQUEST, END_LOST, 1, 5);
	add(LEG_REQUEST, END_SOCKET, 1, 2);
	add(LEG_REPLY, END_LEFT, 0, 1);
	CHECK_TEXT(judge(), "delivered");
	CHECK(has_step("seen-request", "may be among the reports that were lost"));
	CHECK(has_step("watch", "some of the kernel's reports were lost"));
	/* A rule that dropped them was heard of. */
	reset("delivered");
	seen.missed = true;
	add(LEG_REQUEST, END_DROPPED, 1, 5);
	CHECK_TEXT(judge(), "dropped");
}

static void test_redirected(void)
{
	struct packet_fate *f;

	reset("delivered");
	f = add(LEG_REQUEST, END_SOCKET, 1, 3);
	f->translated = f->redirected = true;
	endpoint_parse("192.0.2.1:9", &f->to, NULL);
	CHECK_TEXT(judge(), "taken-elsewhere");
	CHECK(strstr(view.steps.words, "packets of the client are redirected to 192.0.2.1:9 by ") ==
	      view.steps.words);
	/* Another source is still the same destination. */
	reset("delivered");
	f = add(LEG_REQUEST, END_SOCKET, 1, 3);
	f->translated = true;
	add(LEG_REPLY, END_LEFT, 0, 3);
	CHECK_TEXT(judge(), "delivered");
	/* The walk's own reason stays. */
	reset("excluded");
	f = add(LEG_REQUEST, END_LEFT, 1, 3);
	f->translated = f->redirected = true;
	endpoint_parse("192.0.2.1:9", &f->to, NULL);
	CHECK_TEXT(judge(), "excluded");
}

static void fail_at(const char *step)
{
	reset("dropped");
	steps_add(&view.steps, step, STEP_FAIL, "", "the walk's");
}

/* The proxy answers before it connects. */
static void test_beyond(void)
{
	static const char *const beyond[] = { "process", "policy", "upstream", "answer" };

	for (size_t i = 0; i < sizeof(beyond) / sizeof(*beyond); i++) {
		fail_at(beyond[i]);
		snprintf(add(LEG_REQUEST, END_SOCKET, 1, 3)->instance, 8, "default");
		add(LEG_REPLY, END_LEFT, 0, 3);
		CHECK_TEXT(judge(), "dropped");
		add(LEG_ANSWER, END_SOCKET, 2, 3);
		CHECK_TEXT(judge(), "delivered");
	}
	fail_at("input");
	snprintf(add(LEG_REQUEST, END_SOCKET, 1, 3)->instance, 8, "default");
	add(LEG_REPLY, END_LEFT, 0, 3);
	CHECK_TEXT(judge(), "delivered");
	/* The client sends its SYN again, until it has the answer. */
	fail_at("reply");
	snprintf(add(LEG_REQUEST, END_SOCKET, 1, 3)->instance, 8, "default");
	seen.fates.at[0].opening = 3;
	add(LEG_REPLY, END_LEFT, 0, 3);
	CHECK_TEXT(judge(), "dropped");
	add(LEG_REQUEST, END_SOCKET, 1, 1);
	CHECK_TEXT(judge(), "delivered");
}

/* Answers leave, and the client goes on with its SYN. */
static void test_unheard(void)
{
	struct packet_fate *f;

	reset("delivered");
	f = add(LEG_REQUEST, END_SOCKET, 1, 1);
	f->opening = 1;
	add(LEG_REPLY, END_LEFT, 0, 1);
	CHECK_TEXT(judge(), "delivered"); /* its acknowledgement is on the way */
	reset("delivered");
	f = add(LEG_REQUEST, END_SOCKET, 1, 2);
	f->opening = 2;
	add(LEG_REPLY, END_LEFT, 0, 3);
	CHECK_TEXT(judge(), "unheard");
	reset("delivered");
	f = add(LEG_REQUEST, END_SOCKET, 1, 3);
	f->opening = 2;
	add(LEG_REPLY, END_LEFT, 0, 3);
	CHECK_TEXT(judge(), "delivered");
}

int main(void)
{
	test_vrf();
	test_missed();
	test_redirected();
	test_beyond();
	test_unheard();
	steps_free(&view.steps);
	return check_done();
}
