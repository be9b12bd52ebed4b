/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netgroup - what the kernel tells of itself, to the multicast groups of a netlink protocol.
 */
#ifndef TPROXY_NET_NETGROUP_H
#define TPROXY_NET_NETGROUP_H

#include "base/report.h"
#include <stddef.h>
#include <stdint.h>

/* A group by its number (RTNLGRP_IPV4_RULE, ...), as netgroup_open() takes it. */
#define NETGROUP(number) (1U << ((number)-1))

/*
 * Join groups (NETGROUP() each) of that protocol (NETLINK_NETFILTER, ...), with room for some
 * thousand messages, if CAP_NET_ADMIN allows more than net.core.rmem_max. Returns a
 * non-blocking descriptor, which the caller closes; or -1 with *why, in which `what` is the
 * subject.
 */
int netgroup_open(int protocol, uint32_t groups, const char *what, struct failure *why);

/*
 * Read what has come, at most so many datagrams, and call take() for each; what others than the
 * kernel send is left out. The buffer is aligned for struct nlmsghdr. Returns 0; 1 if messages were
 * lost, as the queue was full; or -1 with *why.
 */
typedef void netgroup_taker(void *datagram, size_t size, void *context);
int netgroup_read(int fd, void *buffer, size_t size, unsigned datagrams, netgroup_taker *take,
		  void *context, const char *what, struct failure *why);

#endif
