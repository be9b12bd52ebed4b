/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sockevents.h"

#include "net/netgroup.h"
#include <errno.h>
#include <limits.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netlink/msg.h>
#include <stdlib.h>
#include <unistd.h>

#define RECEIVE_SIZE 8192
#define WHAT	     "events of NETLINK_SOCK_DIAG"

struct sockevents {
	int fd;
	char buffer[RECEIVE_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

struct sockevents *sockevents_open(struct failure *why)
{
	struct sockevents *e = malloc(sizeof(*e));

	if (!e) {
		report_fail(why, ENOMEM, "malloc", "socket events");
		return NULL;
	}
	e->fd = netgroup_open(NETLINK_SOCK_DIAG,
			      NETGROUP(SKNLGRP_INET_TCP_DESTROY) |
				      NETGROUP(SKNLGRP_INET6_TCP_DESTROY),
			      WHAT, why);
	if (e->fd >= 0)
		return e;
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

struct reading {
	sockevents_visitor *visit;
	void *context;
};

static void take(void *datagram, size_t size, void *context)
{
	const struct reading *r = context;

	sockevents_parse(datagram, size, r->visit, r->context);
}

int sockevents_read(struct sockevents *e, sockevents_visitor *visit, void *context,
		    struct failure *why)
{
	struct reading r = { visit, context };

	return netgroup_read(e->fd, e->buffer, sizeof(e->buffer), UINT_MAX, take, &r, WHAT, why);
}
