/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's multicast groups: a queue that overflows is told, once, and reading goes on behind
 * it; what a process sends is left out.
 *
 * NETLINK_USERSOCK is for processes (with CAP_NET_ADMIN), so a process can fill the queue.
 */
#include "net/netgroup.h"
#include "check.h"
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLOOD 2000

static char buffer[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
static unsigned taken;
static size_t bytes;

static void take(void *datagram, size_t size, void *context)
{
	CHECK(datagram == buffer && context == &taken);
	taken++;
	bytes += size;
}

static int read_some(int fd, unsigned datagrams)
{
	struct failure why = { 0 };

	taken = 0;
	bytes = 0;
	return netgroup_read(fd, buffer, sizeof(buffer), datagrams, take, &taken, "test", &why);
}

/* To the group. (It fails nevertheless: it goes to the kernel, too, which does not listen there.) */
static void send_one(int fd)
{
	const struct sockaddr_nl group = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	const struct nlmsghdr message = { .nlmsg_len = sizeof(message), .nlmsg_type = 16 };

	(void)!sendto(fd, &message, sizeof(message), 0, (const struct sockaddr *)&group,
		      sizeof(group));
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void test_overflow(int fd, int sender)
{
	const int size = 2048;

	CHECK(read_some(fd, 10) == 0 && !taken);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
	for (unsigned i = 0; i < FLOOD; i++)
		send_one(sender);
	CHECK(is_readable(fd));
	CHECK(read_some(fd, FLOOD) == 1); /* lost, and said so */
	CHECK(taken && taken < FLOOD && !bytes);
	CHECK(read_some(fd, FLOOD) == 0 && !taken);
	send_one(sender);
	CHECK(read_some(fd, FLOOD) == 0 && taken == 1);
}

static void test_bound(int fd, int sender)
{
	for (unsigned i = 0; i < 3; i++)
		send_one(sender);
	CHECK(read_some(fd, 2) == 0 && taken == 2);
	CHECK(read_some(fd, 2) == 0 && taken == 1);
}

static void test_failures(void)
{
	struct failure why = { 0 };

	CHECK(netgroup_open(MAX_LINKS + 1, 1, "test", &why) == -1 && why.err);
	why.err = 0;
	CHECK(netgroup_read(-1, buffer, sizeof(buffer), 1, take, &taken, "test", &why) == -1);
	CHECK(why.err == 9); /* EBADF */
}

int main(void)
{
	struct failure why = { 0 };
	int fd, sender;

	/* An ordinary user may join these groups in a network namespace of his own. */
	if (geteuid())
		CHECK(unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0);
	fd = netgroup_open(NETLINK_USERSOCK, 1, "test", &why);
	sender = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);

	CHECK(fd >= 0 && sender >= 0);
	test_bound(fd, sender);
	test_overflow(fd, sender);
	test_failures();
	close(fd);
	close(sender);
	return check_done();
}
