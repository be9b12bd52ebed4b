/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/dscp.h"

#include "base/endpoint.h"
#include <stdbool.h>
#include <string.h>

/* The family of its packets: a dual-stack socket has IPv4's options too. */
static bool is_v6(int fd)
{
	return endpoint_local_of(fd).family == AF_INET6;
}

/*
 * #syscalls upstream: setsockopt(SOL_IP, IP_TOS), setsockopt(SOL_IPV6, IPV6_TCLASS)
 * #syscalls upstream: setsockopt(SOL_IP, IP_RECVTOS), setsockopt(SOL_IPV6, IPV6_RECVTCLASS)
 */
static void set_option(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

void dscp_expect(int fd)
{
	set_option(fd, SOL_IPV6, IPV6_RECVTCLASS, 1);
}

/*
 * For TCP, do_ip_getsockopt() and do_ipv6_getsockopt() return control messages, like recvmsg():
 * those switched on by then.
 * #syscalls upstream: getsockopt
 */
static int read_class(int fd, int level, int options, int type)
{
	union {
		char bytes[256];
		struct cmsghdr align;
	} buffer;
	socklen_t length = sizeof(buffer);
	struct msghdr message = { .msg_control = &buffer };
	int class = 0;

	if (getsockopt(fd, level, options, &buffer, &length) < 0)
		return 0;
	message.msg_controllen = length;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == level && c->cmsg_type == type &&
		    c->cmsg_len >= CMSG_LEN(sizeof(class)))
			memcpy(&class, CMSG_DATA(c), sizeof(class));
	return class;
}

uint8_t dscp_received(int fd)
{
	int class;

	if (is_v6(fd)) {
		set_option(fd, SOL_IPV6, IPV6_RECVTCLASS, 1);
		class = read_class(fd, SOL_IPV6, IPV6_2292PKTOPTIONS, IPV6_TCLASS);
		set_option(fd, SOL_IPV6, IPV6_RECVTCLASS, 0);
	} else {
		set_option(fd, SOL_IP, IP_RECVTOS, 1);
		class = read_class(fd, SOL_IP, IP_PKTOPTIONS, IP_TOS);
	}
	return class & DSCP_MASK;
}

/* For TCP the kernel keeps the ECN bits whatever value is given (__ip_sock_set_tos() in
 * net/ipv4/ip_sockglue.c). */
void dscp_set(int fd, uint8_t dscp)
{
	if (is_v6(fd))
		set_option(fd, SOL_IPV6, IPV6_TCLASS, dscp & DSCP_MASK);
	else
		set_option(fd, SOL_IP, IP_TOS, dscp & DSCP_MASK);
}
