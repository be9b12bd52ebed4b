/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IP_RECVORIGDSTADDR
#define IP_RECVORIGDSTADDR 20
#endif
#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif
#ifndef SO_RCVMARK /* Linux 5.19 */
#define SO_RCVMARK 75
#endif

/* What goes round by way of lo is sent with so many hops to go, and known by that when it comes back: by
 * its interface it is not, as the kernel takes a packet to one of its own addresses for one that came in
 * where that address is. */
#define FORWARD_HOPS 1

/* How long a datagram may take by way of lo; it normally is there before send() returns. */
#define FORWARD_WAIT_MS 20
/* Datagrams of one flow that may come while its socket is made. */
#define BACKLOG_MAX 16

static int fail_at(struct failure *why, int fd, const char *call, const struct endpoint *at)
{
	char text[ENDPOINT_TEXT_MAX];
	int err = errno;

	if (fd >= 0)
		close(fd);
	return report_fail(why, err, call, "%s", endpoint_format(at, text));
}

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

static int set_transparent(int fd, int family)
{
	return family == AF_INET6 ? set(fd, SOL_IPV6, IPV6_TRANSPARENT, 1)
				  : set(fd, SOL_IP, IP_TRANSPARENT, 1);
}

/* Have the kernel tell destination, interface and mark of each datagram. */
static int want_details(int fd, int family)
{
	bool v6 = family == AF_INET6;

	if (set(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVORIGDSTADDR : IP_RECVORIGDSTADDR, 1) < 0)
		return -1;
	if (set(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVPKTINFO : IP_PKTINFO, 1) < 0)
		return -1;
	if (set(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVHOPLIMIT : IP_RECVTTL, 1) < 0)
		return -1;
	return set(fd, SOL_SOCKET, SO_RCVMARK, 1);
}

static int prepare(int fd, int family, const struct transparent_listen_options *options,
		   const char **call)
{
	*call = "setsockopt(SO_REUSEPORT)";
	if (options->reuseport && set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return -1;
	*call = "setsockopt(IPV6_V6ONLY)";
	if (family == AF_INET6 && set(fd, SOL_IPV6, IPV6_V6ONLY, 1) < 0)
		return -1;
	*call = "setsockopt(IP_TRANSPARENT)";
	if (!options->redirect && set_transparent(fd, family) < 0)
		return -1;
	*call = "setsockopt(SO_MARK)";
	if (options->mark && set(fd, SOL_SOCKET, SO_MARK, (int)options->mark->value) < 0)
		return -1;
	*call = "setsockopt(SO_BINDTODEVICE)";
	if (options->device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options->device,
					  (socklen_t)strlen(options->device) + 1) < 0)
		return -1;
	*call = "setsockopt(IP_RECVORIGDSTADDR)";
	return want_details(fd, family);
}

int datagram_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		    struct failure *why)
{
	int fd = socket(at->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(at, &address);
	const char *call = "socket";

	if (fd < 0 || prepare(fd, at->family, options, &call) < 0)
		return fail_at(why, fd, call, at);
	if (bind(fd, &address.sa, length) < 0)
		return fail_at(why, fd, "bind", at);
	/* The sockets of direct flows are bound to the same port. Said only now, it lets them in but
	 * has not let this one join somebody else's. */
	if (set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return fail_at(why, fd, "setsockopt(SO_REUSEPORT)", at);
	return fd;
}

static void read_detail(const struct cmsghdr *c, struct datagram *out)
{
	size_t size = c->cmsg_len - CMSG_LEN(0);

	if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVORIGDSTADDR) ||
	    (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVORIGDSTADDR))
		out->local = endpoint_from_sockaddr(CMSG_DATA(c), (socklen_t)size);
	else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO)
		out->interface = (unsigned)((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex;
	else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO)
		out->interface = ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex;
	else if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_TTL) ||
		 (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))
		memcpy(&out->hops, CMSG_DATA(c), sizeof(out->hops));
	else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_MARK)
		memcpy(&out->mark, CMSG_DATA(c), sizeof(out->mark));
}

/* What was not addressed to the listener, or has an address that this host lacks, came by TPROXY. */
static void judge(struct datagram *d, const struct endpoint *listener)
{
	bool at_listener = d->local.port == listener->port &&
			   (endpoint_is_any(listener) ||
			    endpoint_same_address(&d->local, listener));

	if (at_listener && transparent_is_local(&d->local))
		return;
	d->origin = ORIGIN_TPROXY;
	d->origdst = d->local;
}

static int receive(int fd, void *buf, size_t room, struct datagram *out)
{
	union endpoint_sockaddr address;
	union {
		char bytes[256];
		struct cmsghdr align;
	} control;
	struct iovec data = { buf, room };
	struct msghdr message = {
		.msg_name = &address,
		.msg_namelen = sizeof(address),
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);

	if (length < 0)
		return -1;
	*out = (struct datagram){ .length = (size_t)length };
	out->client = endpoint_from_sockaddr(&address, message.msg_namelen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		read_detail(c, out);
	return 1;
}

bool datagram_came_back(const struct datagram *d)
{
	return d->hops == FORWARD_HOPS && !transparent_is_local(&d->client);
}

int datagram_receive(int fd, const struct endpoint *listener, void *buf, size_t room,
		     struct datagram *out)
{
	if (receive(fd, buf, room, out) < 0)
		return -1;
	judge(out, listener);
	return 1;
}

/* A transparent socket from one end to the other. Many share an end: SO_REUSEPORT keeps bind() cheap
 * (it walks the sharers otherwise). */
static int open_pair(const struct endpoint *from, const char **call)
{
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(from, &address);
	int fd = socket(from->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), saved;

	*call = "socket";
	if (fd < 0)
		return -1;
	*call = "setsockopt(IP_TRANSPARENT)";
	if (set_transparent(fd, from->family) < 0)
		goto fail;
	*call = "setsockopt(SO_REUSEPORT)";
	if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0 || set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0 ||
	    want_details(fd, from->family) < 0)
		goto fail;
	*call = "bind";
	if (bind(fd, &address.sa, length) == 0)
		return fd;
fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int connect_to(int fd, const struct endpoint *to)
{
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(to, &address);

	return connect(fd, &address.sa, length);
}

/* Keep it from leaving this host, whatever became of the rules that route it here. An address of this
 * host's own leads to lo by itself, and in IPv6 not through a socket that is bound to lo. */
static int keep_on_lo(int fd, const struct datagram *d)
{
	bool v6 = d->client.family == AF_INET6;

	if (set(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL, FORWARD_HOPS) < 0)
		return -1;
	if (d->origin != ORIGIN_TPROXY)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", sizeof("lo"));
}

int datagram_forward(const struct datagram *d, const void *payload, struct failure *why)
{
	const char *call;
	int fd = open_pair(&d->client, &call);

	if (fd < 0)
		return fail_at(why, fd, call, &d->client);
	if (set(fd, SOL_SOCKET, SO_MARK, (int)d->mark) < 0)
		return fail_at(why, fd, "setsockopt(SO_MARK)", &d->client);
	if (keep_on_lo(fd, d) < 0)
		return fail_at(why, fd, "setsockopt(SO_BINDTODEVICE)", &d->client);
	if (connect_to(fd, &d->local) < 0)
		return fail_at(why, fd, "connect", &d->local);
	if (send(fd, payload, d->length, MSG_NOSIGNAL) < 0)
		return fail_at(why, fd, "send", &d->local);
	close(fd);
	return 0;
}

/* Datagrams of the flow itself that were caught with the strays: they follow the first one. */
struct backlog {
	struct {
		struct datagram d;
		void *payload;
	} at[BACKLOG_MAX];
	size_t count;
};

static void keep(struct backlog *backlog, const struct datagram *d, const void *payload)
{
	void *copy = backlog->count < BACKLOG_MAX ? malloc(d->length + 1) : NULL;

	if (!copy)
		return; /* lost, as datagrams may be */
	memcpy(copy, payload, d->length);
	backlog->at[backlog->count].d = *d;
	backlog->at[backlog->count++].payload = copy;
}

static void forward_all(struct backlog *backlog)
{
	for (size_t i = 0; i < backlog->count; i++) {
		datagram_forward(&backlog->at[i].d, backlog->at[i].payload, NULL);
		free(backlog->at[i].payload);
	}
}

/* Empty the socket of what it has caught before it was connected. */
static void drain(int fd, const struct datagram *first, struct backlog *backlog,
		  datagram_stray *stray, void *context)
{
	char payload[DATAGRAM_MAX];
	struct datagram d;

	while (receive(fd, payload, sizeof(payload), &d) > 0) {
		d.local = first->local;
		d.origdst = first->origdst;
		d.origin = first->origin;
		if (endpoint_equal(&d.client, &first->client))
			keep(backlog, &d, payload);
		else
			stray(&d, payload, context);
	}
}

static bool has_arrived(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, FORWARD_WAIT_MS) == 1 && (p.revents & POLLIN);
}

int datagram_open_flow(const struct datagram *d, const void *payload, datagram_stray *stray,
		       void *context, struct failure *why)
{
	struct backlog backlog = { .count = 0 };
	const char *call;
	int fd = open_pair(&d->local, &call);
	bool sent;

	if (fd < 0)
		return fail_at(why, fd, call, &d->local);
	if (connect_to(fd, &d->client) < 0)
		return fail_at(why, fd, "connect", &d->client);
	drain(fd, d, &backlog, stray, context);
	sent = datagram_forward(d, payload, why) == 0;
	forward_all(&backlog);
	if (sent && has_arrived(fd))
		return fd;
	close(fd);
	if (sent) {
		report_refuse(why, "the first datagram did not come back by way of lo");
		report_hint(why,
			    "a firewall or rp_filter may have dropped it there, or NAT changed it");
	}
	return -1;
}
