/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <sys/socket.h>

/* The kernel fills the messages of a dump up to what the reader offers, at most 32 KB. */
#define RECEIVE_SIZE 32768

struct netlink {
	struct nl_sock *nl;
	char buffer[RECEIVE_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

struct netlink *netlink_open(int protocol, struct failure *why)
{
	struct netlink *channel = calloc(1, sizeof(*channel));
	int err;

	if (!channel || !(channel->nl = nl_socket_alloc())) {
		free(channel);
		report_fail(why, ENOMEM, "socket(AF_NETLINK)", "protocol %d", protocol);
		return NULL;
	}
	err = nl_connect(channel->nl, protocol);
	if (err) {
		report_refuse(why, "%s", nl_geterror(err));
		report_about(why, "socket(AF_NETLINK), protocol %d", protocol);
		netlink_close(channel);
		return NULL;
	}
	return channel;
}

void netlink_close(struct netlink *channel)
{
	if (!channel)
		return;
	nl_socket_free(channel->nl);
	free(channel);
}

/* One message of an answer. Returns 1 when it was the last one, 0 when more follow, else -errno. */
static int take(struct nlmsghdr *message, netlink_reader *read, void *context)
{
	int err;

	switch (message->nlmsg_type) {
	case NLMSG_ERROR: /* an acknowledgement is error 0 */
		if (nlmsg_datalen(message) < (int)sizeof(struct nlmsgerr))
			return -EPROTO;
		err = ((const struct nlmsgerr *)nlmsg_data(message))->error;
		return err ? err : 1;
	case NLMSG_DONE: /* carries the dump's own error, if any */
		err = nlmsg_datalen(message) >= (int)sizeof(int) ? *(int *)nlmsg_data(message) : 0;
		return err < 0 ? err : 1;
	default:
		read(message, context);
		return 0;
	}
}

static int receive(struct netlink *channel, uint32_t seq, netlink_reader *read, void *context)
{
	for (;;) {
		ssize_t got = recv(nl_socket_get_fd(channel->nl), channel->buffer, RECEIVE_SIZE, 0);
		struct nlmsghdr *message = (struct nlmsghdr *)channel->buffer;
		int left = (int)got;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		for (; nlmsg_ok(message, left); message = nlmsg_next(message, &left)) {
			int end = message->nlmsg_seq == seq ? take(message, read, context) : 0;

			if (end)
				return end < 0 ? end : 0;
		}
	}
}

int netlink_ask(struct netlink *channel, struct nl_msg *message, netlink_reader *read,
		void *context)
{
	uint32_t seq;
	int err;

	if (!message)
		return -ENOMEM;
	err = nl_send_auto(channel->nl, message);
	seq = nlmsg_hdr(message)->nlmsg_seq;
	nlmsg_free(message);
	return err < 0 ? -ENOBUFS : receive(channel, seq, read, context);
}
