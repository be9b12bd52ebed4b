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

/* A channel to the network namespace in which it was opened. Not for use by two threads at once. */
struct netlink;

/* protocol: NETLINK_SOCK_DIAG, NETLINK_NETFILTER, ... The kernel checks requests on a NETLINK_ROUTE
 * channel strictly, so it filters dumps itself. Returns NULL with *why. */
struct netlink *netlink_open(int protocol, struct failure *why);
void netlink_close(struct netlink *channel);

/* Called for each message of the answer except the last, empty one. */
typedef void netlink_reader(struct nlmsghdr *message, void *context);

/*
 * Send the message, which is freed in any case, and read its whole answer (an acknowledgement is
 * requested), so that the channel is clean for the next one. Returns 0, or the kernel's -errno. A
 * NULL message is -ENOMEM, so that builders need not be checked twice. -EAGAIN: the dumped objects
 * changed meanwhile (NLM_F_DUMP_INTR); forget them and ask again.
 */
int netlink_ask(struct netlink *channel, struct nl_msg *message, netlink_reader *read,
		void *context);

/* The kernel's own words about the last refusal (extended acknowledgement); "" if there were
 * none. */
const char *netlink_words(const struct netlink *channel);

#endif
