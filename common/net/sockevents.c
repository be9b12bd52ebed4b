/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sockevents.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netlink/msg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The receive queue: room for some thousand events. Without CAP_NET_ADMIN the limit is
 * net.core.rmem_max. */
#define QUEUE_SIZE   (2 * 1024 * 1024)
#define RECEIVE_SIZE 8192

struct sockevents {
	int fd;
	char buffer[RECEIVE_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static int join_groups(int fd)
{
	const struct sockaddr_nl at = {
		.nl_family = AF_NETLINK,
		.nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) |
			     1u << (SKNLGRP_INET6_TCP_DESTROY - 1),
	};
	const int size = QUEUE_SIZE;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		(void)!setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return bind(fd, (const struct sockaddr *)&at, sizeof(at));
}

struct sockevents *sockevents_open(struct failure *why)
{
	struct sockevents *e = malloc(sizeof(*e));

	if (!e) {
		report_fail(why, ENOMEM, "malloc", "socket events");
		return NULL;
	}
	e->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	if (e->fd >= 0 && join_groups(e->fd) == 0)
		return e;
	report_fail(why, errno, "bind", "events of NETLINK_SOCK_DIAG");
	sockevents_close(e);
	return NULL;
}

void sockevents_close(struct sockevents *e)
{
	if (e && e->fd >= 0)
		close(e->fd);
	free(e);
}

int sockevents_fd(const struct sockevents *e)
{
	return e->fd;
}

void sockevents_parse(const void *datagram, size_t size, sockevents_visitor *visit, void *context)
{
	struct nlmsghdr *message = (struct nlmsghdr *)datagram;
	struct sockdiag_socket s;
	int length = (int)size;

	for (; nlmsg_ok(message, length); message = nlmsg_next(message, &length))
		if (message->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
		    sockdiag_parse(message, IPPROTO_TCP, &s))
			visit(&s, context);
}

/* Only accept messages from the kernel (netlink(7): nl_pid 0). */
static ssize_t receive(struct sockevents *e)
{
	struct sockaddr_nl from = { 0 };
	socklen_t length = sizeof(from);
	ssize_t got = recvfrom(e->fd, e->buffer, sizeof(e->buffer), 0, (struct sockaddr *)&from,
			       &length);

	return got > 0 && from.nl_pid ? 0 : got;
}

int sockevents_read(struct sockevents *e, sockevents_visitor *visit, void *context,
		    struct failure *why)
{
	int lost = 0;

	for (;;) {
		ssize_t got = receive(e);

		if (got >= 0)
			sockevents_parse(e->buffer, (size_t)got, visit, context);
		else if (errno == ENOBUFS)
			lost = 1;
		else if (errno == EAGAIN)
			return lost;
		else if (errno != EINTR)
			return report_fail(why, errno, "recv", "events of NETLINK_SOCK_DIAG");
	}
}
