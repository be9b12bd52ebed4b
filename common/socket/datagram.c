/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

/* So long it is remembered what was sent round. What comes back is read before as much is sent again as
 * the listener's queue and the memory can hold. */
#define ROUND_MS 2000
/* Datagrams of one flow that may come while its socket is made; and datagrams of any. */
#define BACKLOG_MAX 16
#define CAUGHT_MAX  1024

/* The failure of errno; the descriptor, if there is one, is closed. */
static int fail_at(struct failure *why, int fd, const char *call, const struct endpoint *at)
{
	transparent_fail(why, call, at);
	if (fd >= 0)
		close(fd);
	return -1;
}

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
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

int datagram_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		    struct failure *why)
{
	int fd = socket(at->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(at, &address);
	const char *call = "socket";

	if (fd < 0 || transparent_prepare(fd, at->family, options, &call) < 0)
		return fail_at(why, fd, call, at);
	if (want_details(fd, at->family) < 0)
		return fail_at(why, fd, "setsockopt(IP_RECVORIGDSTADDR)", at);
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

static int receive(int fd, void *buf, size_t room, int flags, struct datagram *out)
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
	ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT | flags);

	if (length < 0)
		return -1;
	*out = (struct datagram){ .length = (size_t)length };
	out->client = endpoint_from_sockaddr(&address, message.msg_namelen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		read_detail(c, out);
	return 1;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Where it is going and what it says: the client's end is what NAT may have changed. */
static uint64_t fingerprint(const struct recent *sent, const struct datagram *d,
			    const unsigned char *payload)
{
	uint64_t h = endpoint_hash(&d->local, recent_seed(sent)) ^ d->length, word;

	for (size_t i = 0; i < d->length; i += sizeof(word)) {
		size_t left = d->length - i;

		word = 0;
		memcpy(&word, payload + i, left < sizeof(word) ? left : sizeof(word));
		h = (h ^ word) * 0xff51afd7ed558ccdULL;
		h ^= h >> 32;
	}
	return h;
}

bool datagram_came_back(struct recent *sent, const struct datagram *d, const void *payload)
{
	return d->hops == FORWARD_HOPS &&
	       recent_take(sent, fingerprint(sent, d, payload), now_ms());
}

int datagram_receive(int fd, const struct endpoint *listener, void *buf, size_t room,
		     struct datagram *out)
{
	if (receive(fd, buf, room, 0, out) < 0)
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
	if (transparent_set(fd, from->family) < 0)
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

int datagram_forward(struct recent *sent, const struct datagram *d, const void *payload,
		     struct failure *why)
{
	const struct mark mark = { d->mark, ~0u };
	const char *call;
	int fd = open_pair(&d->client, &call);
	uint64_t now = now_ms();

	if (fd < 0)
		return fail_at(why, fd, call, &d->client);
	if (transparent_set_mark(fd, &mark) < 0)
		return fail_at(why, fd, "setsockopt(SO_MARK)", &d->client);
	if (keep_on_lo(fd, d) < 0)
		return fail_at(why, fd, "setsockopt(SO_BINDTODEVICE)", &d->client);
	if (connect_to(fd, &d->local) < 0)
		return fail_at(why, fd, "connect", &d->local);
	recent_note(sent, fingerprint(sent, d, payload), now, now + ROUND_MS);
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

static void forward_all(struct recent *sent, struct backlog *backlog)
{
	for (size_t i = 0; i < backlog->count; i++) {
		datagram_forward(sent, &backlog->at[i].d, backlog->at[i].payload, NULL);
		free(backlog->at[i].payload);
	}
}

/* Empty the socket of what it has caught before it was connected. False: there is no end of it, and a
 * socket that may hold somebody else's datagram is of no use. */
static bool drain(int fd, const struct datagram *first, struct backlog *backlog,
		  datagram_stray *stray, void *context)
{
	char payload[DATAGRAM_MAX];
	struct datagram d;

	for (int i = 0; i < CAUGHT_MAX; i++) {
		if (receive(fd, payload, sizeof(payload), 0, &d) < 0)
			return true;
		d.local = first->local;
		d.origdst = first->origdst;
		d.origin = first->origin;
		if (endpoint_equal(&d.client, &first->client))
			keep(backlog, &d, payload);
		else
			stray(&d, payload, context);
	}
	return false;
}

bool datagram_has_arrived(struct recent *sent, int fd)
{
	char payload[DATAGRAM_MAX];
	struct datagram d;

	return receive(fd, payload, sizeof(payload), MSG_PEEK, &d) > 0 &&
	       datagram_came_back(sent, &d, payload);
}

int datagram_open_flow(struct recent *sent, const struct datagram *d, const void *payload,
		       datagram_stray *stray, void *context, struct failure *why)
{
	struct backlog backlog = { .count = 0 };
	const char *call;
	int fd = open_pair(&d->local, &call);
	bool whole, gone;

	if (fd < 0)
		return fail_at(why, fd, call, &d->local);
	if (connect_to(fd, &d->client) < 0)
		return fail_at(why, fd, "connect", &d->client);
	whole = drain(fd, d, &backlog, stray, context);
	if (!whole)
		report_refuse(why, "datagrams come faster than a socket is made for them");
	gone = whole && datagram_forward(sent, d, payload, why) == 0;
	forward_all(sent, &backlog);
	if (gone)
		return fd;
	close(fd);
	return -1;
}
