/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/netgroup.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE_SIZE (2 * 1024 * 1024)

int netgroup_open(int protocol, uint32_t groups, const char *what, struct failure *why)
{
	const struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_groups = groups };
	const int size = QUEUE_SIZE;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

	if (fd < 0)
		return report_fail(why, errno, "socket(AF_NETLINK)", "%s", what);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		(void)!setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	report_fail(why, errno, "bind", "%s", what);
	close(fd);
	return -1;
}

/* Only accept messages from the kernel (netlink(7): nl_pid 0). */
static ssize_t receive(int fd, void *buffer, size_t size)
{
	struct sockaddr_nl from = { 0 };
	socklen_t length = sizeof(from);
	ssize_t got = recvfrom(fd, buffer, size, 0, (struct sockaddr *)&from, &length);

	return got > 0 && from.nl_pid ? 0 : got;
}

int netgroup_read(int fd, void *buffer, size_t size, unsigned datagrams, netgroup_taker *take,
		  void *context, const char *what, struct failure *why)
{
	int lost = 0;

	while (datagrams--) {
		ssize_t got = receive(fd, buffer, size);

		if (got >= 0)
			take(buffer, (size_t)got, context);
		else if (errno == ENOBUFS)
			lost = 1;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			return report_fail(why, errno, "recv", "%s", what);
	}
	return lost;
}
