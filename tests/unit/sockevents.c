/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams of NETLINK_SOCK_DIAG: whole, cut short, and of somebody else's making. */
#include "net/sockevents.h"
#include "check.h"
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>

struct message {
	struct nlmsghdr header;
	struct inet_diag_msg socket;
	struct nlattr attribute;
	uint32_t mark;
};

static struct message message_with(uint16_t attribute_length)
{
	struct message m = {
		.header = { .nlmsg_len = sizeof(m), .nlmsg_type = SOCK_DIAG_BY_FAMILY },
		.socket = { .idiag_family = AF_INET, .idiag_state = 7 },
		.attribute = { .nla_len = attribute_length, .nla_type = INET_DIAG_MARK },
		.mark = 5,
	};

	m.socket.id.idiag_sport = htons(80);
	m.socket.id.idiag_src[0] = htonl(0xc0000201);
	return m;
}

static unsigned seen;
static struct sockdiag_socket last;

static void note(const struct sockdiag_socket *s, void *context)
{
	(void)context;
	seen++;
	last = *s;
}

/* How many sockets the first `size` bytes of these have; what is read beyond them is found. */
static unsigned count(const void *bytes, size_t size)
{
	void *copy = malloc(size ? size : 1);

	seen = 0;
	if (!copy)
		return 0;
	memcpy(copy, bytes, size);
	sockevents_parse(copy, size, note, NULL);
	free(copy);
	return seen;
}

static void test_whole(void)
{
	const struct message one = message_with(sizeof(struct nlattr) + 4), two[] = { one, one };

	CHECK(count(&one, sizeof(one)) == 1);
	CHECK(last.local.port == 80 && last.family == AF_INET && last.protocol == IPPROTO_TCP);
	CHECK(last.has_mark && last.mark == 5);
	CHECK(count(two, sizeof(two)) == 2);
	CHECK(count(two, sizeof(two) - 1) == 1);
}

static void test_malformed(void)
{
	struct message m = message_with(sizeof(struct nlattr) + 4);

	for (size_t size = 0; size < sizeof(m); size++)
		CHECK(count(&m, size) == 0);
	m.header.nlmsg_len = sizeof(m.header);
	CHECK(count(&m, sizeof(m)) == 0);
	m.header.nlmsg_len = 0;
	CHECK(count(&m, sizeof(m)) == 0);
	m = message_with(sizeof(struct nlattr) + 4);
	m.header.nlmsg_type = NLMSG_ERROR;
	CHECK(count(&m, sizeof(m)) == 0);
	m = message_with(sizeof(struct nlattr) + 4);
	m.socket.idiag_family = AF_UNIX;
	CHECK(count(&m, sizeof(m)) == 0);
	/* An attribute without its value is not there. */
	m = message_with(sizeof(struct nlattr));
	m.header.nlmsg_len = offsetof(struct message, mark);
	CHECK(count(&m, m.header.nlmsg_len) == 1 && !last.has_mark);
	m = message_with(60000);
	CHECK(count(&m, sizeof(m)) <= 1);
}

int main(void)
{
	test_whole();
	test_malformed();
	return check_done();
}
