/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netlink - one request and its whole answer over a netlink socket, in terms of errno.
 *
 * libnl-3 builds, sends and parses the messages; its own error numbers (which lose the kernel's) do
 * not leave this module.
 */
#ifndef TPROXY_NET_NETLINK_H
#define TPROXY_NET_NETLINK_H

#include "base/report.h"
#include <netlink/msg.h>

/* A channel to the network namespace it was opened in. Not for use by two threads at once. */
struct netlink;

/* protocol: NETLINK_SOCK_DIAG, NETLINK_NETFILTER, ... A NETLINK_ROUTE channel has its requests
 * checked strictly, so that dumps are filtered by the kernel. Returns NULL with *why. */
struct netlink *netlink_open(int protocol, struct failure *why);
void netlink_close(struct netlink *channel);

/* Called for each message of the answer but the last, empty one. */
typedef void netlink_reader(struct nlmsghdr *message, void *context);

/*
 * Send the message, which is freed whatever happens, and read its answer to the very end (the
 * acknowledgement is asked for), so that the channel is clean for the next one. Returns 0, or
 * -errno as the kernel gave it. A NULL message is -ENOMEM, so that builders need not be checked
 * twice. -EAGAIN: what was dumped changed meanwhile (NLM_F_DUMP_INTR); forget it and ask again.
 */
int netlink_ask(struct netlink *channel, struct nl_msg *message, netlink_reader *read,
		void *context);

/* The kernel's own words about the last refusal (extended acknowledgement); "" if it had none. */
const char *netlink_words(const struct netlink *channel);

#endif
