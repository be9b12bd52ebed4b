/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* The kernel fills the messages of a dump up to the size of the reader's buffer, at most 32 KB. */
#define RECEIVE_SIZE 32768

struct netlink {
	struct nl_sock *nl;
	bool interrupted;
	char words[128];
	char buffer[RECEIVE_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

/* Kernels that lack one of these (before 4.20) report less and filter less; nothing depends on
 * them.
 * #syscalls collect: setsockopt(SOL_NETLINK, NETLINK_EXT_ACK), setsockopt(SOL_NETLINK, NETLINK_CAP_ACK)
 * #syscalls collect: setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK) */
static void set_options(struct netlink *channel, int protocol)
{
	static const int on = 1;
	int fd = nl_socket_get_fd(channel->nl);

	(void)!setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)!setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	if (protocol == NETLINK_ROUTE)
		(void)!setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
}

/* libnl sets buffers' sizes, and asks which address it has got.
 * #syscalls collect: socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), bind, getsockname
 * #syscalls collect: socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)
 * #syscalls collect: socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)
 * #syscalls collect: setsockopt(SOL_SOCKET, SO_SNDBUF), setsockopt(SOL_SOCKET, SO_RCVBUF) */
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
	set_options(channel, protocol);
	return channel;
}

void netlink_close(struct netlink *channel)
{
	if (!channel)
		return;
	nl_socket_free(channel->nl);
	free(channel);
}

/* The acknowledgement's attributes follow its fixed part, whose size depends on the message
 * (NLM_F_CAPPED: the refused request is not repeated in it). */
static void take_words(struct netlink *channel, struct nlmsghdr *message, size_t fixed)
{
	struct nlattr *words;

	if (!(message->nlmsg_flags & NLM_F_ACK_TLVS) || nlmsg_datalen(message) < (int)fixed)
		return;
	words = nlmsg_find_attr(message, (int)fixed, NLMSGERR_ATTR_MSG);
	if (words)
		snprintf(channel->words, sizeof(channel->words), "%.*s", nla_len(words),
			 (const char *)nla_data(words));
}

static size_t size_of_refusal(const struct nlmsghdr *message)
{
	const struct nlmsgerr *refusal = nlmsg_data(message);

	return message->nlmsg_flags & NLM_F_CAPPED
		       ? sizeof(*refusal)
		       : sizeof(*refusal) + refusal->msg.nlmsg_len - NLMSG_HDRLEN;
}

/* One message of an answer. Returns 1 when it was the last one, 0 when more follow, else -errno. */
static int take(struct netlink *channel, struct nlmsghdr *message, netlink_reader *read,
		void *context)
{
	int err;

	channel->interrupted |= message->nlmsg_flags & NLM_F_DUMP_INTR;
	switch (message->nlmsg_type) {
	case NLMSG_ERROR: /* an acknowledgement is error 0 */
		if (nlmsg_datalen(message) < (int)sizeof(struct nlmsgerr))
			return -EPROTO;
		err = ((const struct nlmsgerr *)nlmsg_data(message))->error;
		if (err)
			take_words(channel, message, size_of_refusal(message));
		return err ? err : 1;
	case NLMSG_DONE: /* carries the dump's own error, if any */
		err = nlmsg_datalen(message) >= (int)sizeof(int) ? *(int *)nlmsg_data(message) : 0;
		if (err)
			take_words(channel, message, sizeof(int));
		return err < 0 ? err : 1;
	default:
		if (read)
			read(message, context);
		return 0;
	}
}

/* The rest of an answer that was not read completely; a dump would block the next one (EBUSY). */
static void drop_rest(struct netlink *channel)
{
	int fd = nl_socket_get_fd(channel->nl);

	while (recv(fd, channel->buffer, RECEIVE_SIZE, MSG_DONTWAIT) > 0 || errno == EINTR ||
	       errno == ENOBUFS)
		;
}

/* #syscalls netlink collect: recv */
static int receive(struct netlink *channel, uint32_t seq, netlink_reader *read, void *context)
{
	for (;;) {
		ssize_t got = recv(nl_socket_get_fd(channel->nl), channel->buffer, RECEIVE_SIZE, 0);
		struct nlmsghdr *message = (struct nlmsghdr *)channel->buffer;
		int left = (int)got;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int err = errno;

			drop_rest(channel);
			return -err;
		}
		for (; nlmsg_ok(message, left); message = nlmsg_next(message, &left)) {
			int end = message->nlmsg_seq == seq ? take(channel, message, read, context)
							    : 0;

			if (end)
				return end < 0 ? end : 0;
		}
	}
}

/* libnl sends by sendmsg(2).
 * #syscalls netlink collect: sendmsg */
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
	if (err < 0)
		return -ENOBUFS;
	channel->interrupted = false;
	channel->words[0] = '\0';
	err = receive(channel, seq, read, context);
	return err || !channel->interrupted ? err : -EAGAIN;
}

const char *netlink_words(const struct netlink *channel)
{
	return channel->words;
}
