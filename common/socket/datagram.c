/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/datagram.h"

#include "base/clock.h"
#include "base/libc.h"
#include "socket/datagram_raw.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_RECVORIGDSTADDR
#define IP_RECVORIGDSTADDR 20
#endif
#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif

/* The hop limit of datagrams that are sent back over lo, which identifies them on arrival. The
 * interface does not: the kernel treats a packet to one of its own addresses as if it came in on
 * the interface with that address. */
#define FORWARD_HOPS 1

/* How long a datagram sent that way is remembered. What comes back is read before as many are sent
 * again as the listener's queue and the memory can hold. */
#define ROUND_MS 2000
/* Datagrams of one flow that may arrive while its socket is being created; and datagrams of any
 * flow. */
#define BACKLOG_MAX 16
#define CAUGHT_MAX  1024

/* Report the failure in errno; closes the descriptor, if there is one. */
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

/*
 * #syscalls udp: setsockopt(SOL_IP, IP_RECVORIGDSTADDR), setsockopt(SOL_IPV6, IPV6_RECVORIGDSTADDR)
 * #syscalls udp: setsockopt(SOL_IP, IP_PKTINFO), setsockopt(SOL_IPV6, IPV6_RECVPKTINFO)
 * #syscalls udp: setsockopt(SOL_IP, IP_RECVTTL), setsockopt(SOL_IPV6, IPV6_RECVHOPLIMIT)
 * #syscalls upstream_udp: setsockopt(SOL_IP, IP_RECVTOS), setsockopt(SOL_IPV6, IPV6_RECVTCLASS)
 * #syscalls upstream_udp: setsockopt(SOL_IP, IP_RECVFRAGSIZE)
 * #syscalls upstream_udp: setsockopt(SOL_IPV6, IPV6_RECVFRAGSIZE)
 * #syscalls upstream_udp: setsockopt(SOL_UDP, UDP_GRO)
 * #syscalls udp: setsockopt(SOL_SOCKET, SO_RCVMARK)
 */
static int switch_details(int fd, int family, unsigned details, int on)
{
	static const struct {
		unsigned detail;
		int v4, v6;
	} options[] = {
		{ DATAGRAM_DESTINATION, IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR },
		{ DATAGRAM_INTERFACE, IP_PKTINFO, IPV6_RECVPKTINFO },
		{ DATAGRAM_HOPS, IP_RECVTTL, IPV6_RECVHOPLIMIT },
		{ DATAGRAM_CLASS, IP_RECVTOS, IPV6_RECVTCLASS },
		{ DATAGRAM_FRAGMENTED, IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE },
	};
	bool v6 = family == AF_INET6;

	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (details & options[i].detail &&
		    set(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? options[i].v6 : options[i].v4, on) < 0)
			return -1;
	if (details & DATAGRAM_SEGMENTS && set(fd, SOL_UDP, UDP_GRO, on) < 0)
		return -1;
	return details & DATAGRAM_MARK ? set(fd, SOL_SOCKET, SO_RCVMARK, on) : 0;
}

int datagram_want(int fd, int family, unsigned details)
{
	return switch_details(fd, family, details, 1);
}

void datagram_spare(int fd, int family, unsigned details)
{
	switch_details(fd, family, details, 0);
}

/* What tproxy-listen reports about a flow, and uses to recognise its own datagrams. */
#define USUAL_DETAILS (DATAGRAM_DESTINATION | DATAGRAM_INTERFACE | DATAGRAM_HOPS | DATAGRAM_MARK)

int datagram_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		    struct failure *why)
{
	int fd = socket(at->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct transparent_listen_options how = *options;
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(at, &address);
	const char *call = "socket";

	how.reuseport = options->reuseport && !options->alone;
	if (fd < 0 || transparent_prepare(fd, at->family, &how, &call) < 0)
		return fail_at(why, fd, call, at);
	if (datagram_want(fd, at->family, options->details ? options->details : USUAL_DETAILS) < 0)
		return fail_at(why, fd, "setsockopt(IP_RECVORIGDSTADDR)", at);
	if (bind(fd, &address.sa, length) < 0)
		return fail_at(why, fd, "bind", at);
	/* The sockets of direct flows are bound to the same port. Set only now, it lets them in but
	 * did not let this one join somebody else's. */
	if (set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return fail_at(why, fd, "setsockopt(SO_REUSEPORT)", at);
	return fd;
}

/* Why the descriptor cannot be a listener for datagrams, or NULL. */
static const char *unfit(int fd, int *family)
{
	struct endpoint peer = endpoint_peer_of(fd), local = endpoint_local_of(fd);
	int type = 0, protocol = 0;
	socklen_t size = sizeof(int);

	if (fcntl(fd, F_GETFD) < 0)
		return "is not open";
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return "is not a socket";
	getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, family, &size);
	if ((*family != AF_INET && *family != AF_INET6) || type != SOCK_DGRAM ||
	    protocol != IPPROTO_UDP)
		return "is not a UDP socket";
	if (!local.port)
		return "is not bound to a port";
	return endpoint_is_set(&peer) ? "is connected to one peer" : NULL;
}

int datagram_adopt(int fd, const struct transparent_listen_options *options, struct endpoint *at,
		   struct failure *why)
{
	int family = AF_UNSPEC, flags;
	const char *fault = unfit(fd, &family);

	if (fault) {
		report_refuse(why, "%s", fault);
		return report_about(why, "inherited descriptor %d", fd);
	}
	*at = endpoint_local_of(fd);
	if (!options->redirect && !transparent_is_set(fd, family) &&
	    transparent_set(fd, family) < 0)
		return transparent_fail(why, "setsockopt(IP_TRANSPARENT)", at);
	if (datagram_want(fd, family, options->details ? options->details : USUAL_DETAILS) < 0)
		return transparent_fail(why, "setsockopt(IP_RECVORIGDSTADDR)", at);
	flags = fcntl(fd, F_GETFL);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return transparent_fail(why, "fcntl", at);
	return 0;
}

/* Each requested message has the size that its type implies. */
static void read_ip_detail(const struct cmsghdr *c, struct datagram *out)
{
	int value = 0;

	switch (c->cmsg_type) {
	case IP_RECVORIGDSTADDR:
		out->local = endpoint_from_sockaddr(CMSG_DATA(c),
						    (socklen_t)(c->cmsg_len - CMSG_LEN(0)));
		break;
	case IP_PKTINFO:
		out->interface = (unsigned)((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex;
		break;
	case IP_TTL:
		memcpy(&out->hops, CMSG_DATA(c), sizeof(out->hops));
		break;
	case IP_TOS: /* one octet, not an int like IPV6_TCLASS */
		out->class = *CMSG_DATA(c);
		break;
	case IP_RECVFRAGSIZE:
		memcpy(&value, CMSG_DATA(c), sizeof(value));
		out->fragmented = value > 0;
	}
}

static void read_ipv6_detail(const struct cmsghdr *c, struct datagram *out)
{
	int value = 0;

	switch (c->cmsg_type) {
	case IPV6_RECVORIGDSTADDR:
		out->local = endpoint_from_sockaddr(CMSG_DATA(c),
						    (socklen_t)(c->cmsg_len - CMSG_LEN(0)));
		break;
	case IPV6_PKTINFO:
		out->interface = ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex;
		break;
	case IPV6_HOPLIMIT:
		memcpy(&out->hops, CMSG_DATA(c), sizeof(out->hops));
		break;
	case IPV6_TCLASS:
		memcpy(&value, CMSG_DATA(c), sizeof(value));
		out->class = (uint8_t)value;
		break;
	case IPV6_RECVFRAGSIZE:
		memcpy(&value, CMSG_DATA(c), sizeof(value));
		out->fragmented = value > 0;
	}
}

static void read_detail(const struct cmsghdr *c, struct datagram *out)
{
	int segment = 0;

	if (c->cmsg_level == SOL_IP) {
		read_ip_detail(c, out);
	} else if (c->cmsg_level == SOL_IPV6) {
		read_ipv6_detail(c, out);
	} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_MARK) {
		memcpy(&out->mark, CMSG_DATA(c), sizeof(out->mark));
	} else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
		memcpy(&segment, CMSG_DATA(c), sizeof(segment));
		out->segment = (size_t)segment < out->length ? (uint16_t)segment : 0;
	}
}

void datagram_describe(struct msghdr *message, size_t length, struct datagram *out)
{
	*out = (struct datagram){ .length = length };
	out->client = endpoint_from_sockaddr(message->msg_name, message->msg_namelen);
	out->cut = message->msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		read_detail(c, out);
}

void datagram_add_control(struct msghdr *message, int level, int type, const void *value,
			  size_t size)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)message->msg_control +
					       message->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), value, size);
	message->msg_controllen += CMSG_SPACE(size);
}

void datagram_add_source(struct msghdr *message, const struct endpoint *from)
{
	struct in6_pktinfo v6 = { .ipi6_addr = from->addr.v6, .ipi6_ifindex = from->scope };
	struct in_pktinfo v4 = { .ipi_spec_dst = from->addr.v4 };

	if (from->family == AF_INET6)
		datagram_add_control(message, SOL_IPV6, IPV6_PKTINFO, &v6, sizeof(v6));
	else
		datagram_add_control(message, SOL_IP, IP_PKTINFO, &v4, sizeof(v4));
}

static bool is_at(const struct datagram *d, const struct endpoint *listener)
{
	return d->local.port == listener->port &&
	       (endpoint_is_any(listener) || endpoint_same_address(&d->local, listener));
}

/* A datagram that was not addressed to the listener, or to an address that this host lacks, came by
 * TPROXY. */
void datagram_judge(struct datagram *d, const struct endpoint *listener, bool is_own)
{
	if (is_own && is_at(d, listener))
		return;
	d->origin = ORIGIN_TPROXY;
	d->origdst = d->local;
}

/* #syscalls udp: recvmsg */
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
	datagram_describe(&message, (size_t)length, out);
	return 1;
}

/* Its destination and contents: NAT may have changed the client's end. */
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
	       recent_take(sent, fingerprint(sent, d, payload), clock_ms());
}

int datagram_receive(int fd, const struct endpoint *listener, void *buf, size_t room,
		     struct datagram *out)
{
	if (receive(fd, buf, room, 0, out) < 0)
		return -1;
	datagram_judge(out, listener, is_at(out, listener) && transparent_is_local(&out->local));
	return 1;
}

/*
 * A transparent socket bound to one end. Many share it: SO_REUSEPORT alone keeps bind() cheap; if
 * SO_REUSEADDR is also set, the kernel walks all sharers (udp_lib_lport_inuse2() in
 * net/ipv4/udp.c).
 * #syscalls udp: socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0), bind
 * #syscalls udp: setsockopt(SOL_SOCKET, SO_REUSEPORT)
 */
static int open_pair(const struct endpoint *from, unsigned details, const char **call)
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
	if (set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0 ||
	    datagram_want(fd, from->family, details) < 0)
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

/* #syscalls udp upstream_udp: connect */
int datagram_connect(int fd, const struct endpoint *to)
{
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(to, &address);

	return connect(fd, &address.sa, length);
}

/*
 * An explicit port stays bound until the socket is closed; one that the kernel chose is released by
 * datagram_disconnect() (__udp_disconnect() in net/ipv4/udp.c). So let the kernel choose, from a
 * range of one port. It takes the range of the network namespace instead if the port is outside of
 * it.
 * #syscalls upstream_udp: setsockopt(SOL_IP, IP_LOCAL_PORT_RANGE), bind, getsockname
 */
int datagram_bind_loosely(int fd, const struct endpoint *own)
{
	struct endpoint any_port = *own;
	union endpoint_sockaddr address;
	socklen_t length;

	if (set(fd, SOL_IP, IP_LOCAL_PORT_RANGE, (int)((uint32_t)own->port << 16 | own->port)) < 0)
		return -1;
	any_port.port = 0;
	length = endpoint_to_sockaddr(&any_port, &address);
	if (bind(fd, &address.sa, length) < 0)
		return -1;
	if (endpoint_local_of(fd).port == own->port)
		return 0;
	errno = ERANGE;
	return -1;
}

/*
 * Keep it from leaving this host, whatever happened to the rules that route it here. One of this
 * host's own addresses leads to lo anyway, and in IPv6 not through a socket that is bound to lo.
 * #syscalls raw: setsockopt(SOL_IP, IP_TTL), setsockopt(SOL_IPV6, IPV6_UNICAST_HOPS)
 * #syscalls raw: setsockopt(SOL_SOCKET, SO_BINDTODEVICE)
 */
static int keep_on_lo(int fd, const struct datagram *d)
{
	bool v6 = d->client.family == AF_INET6;

	if (set(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL, FORWARD_HOPS) < 0)
		return -1;
	if (d->origin != ORIGIN_TPROXY)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", sizeof("lo"));
}

/*
 * Send as the client, whose port may also be in use by a socket of this host.
 * #syscalls raw: sendmsg
 */
static int send_as_client(int fd, const struct datagram *d, const void *payload)
{
	uint8_t header[DATAGRAM_RAW_HEADER];
	struct endpoint to = d->local;
	union endpoint_sockaddr address;
	union {
		char bytes[64];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec data[2] = { { header, sizeof(header) }, { (void *)payload, d->length } };
	struct msghdr message = {
		.msg_name = &address, .msg_iov = data, .msg_iovlen = 2, .msg_control = &control
	};

	datagram_raw_header(&d->client, &d->local, NULL, 0, payload, d->length, header);
	to.port = 0;
	message.msg_namelen = endpoint_to_sockaddr(&to, &address);
	datagram_add_source(&message, &d->client);
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int datagram_forward(struct recent *sent, const struct datagram *d, const void *payload,
		     struct failure *why)
{
	const struct mark mark = { d->mark, ~0u };
	int fd = datagram_raw_open(d->client.family, &mark, why);
	uint64_t now = clock_ms();

	if (fd < 0)
		return -1;
	if (keep_on_lo(fd, d) < 0)
		return fail_at(why, fd, "setsockopt(SO_BINDTODEVICE)", &d->client);
	recent_note(sent, fingerprint(sent, d, payload), now, now + ROUND_MS);
	if (send_as_client(fd, d, payload) < 0)
		return fail_at(why, fd, "sendmsg", &d->local);
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

/* Empty the socket of what it has caught before it was connected. False: it never becomes empty; a
 * socket that may contain somebody else's datagram is useless. */
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

/* #syscalls upstream_udp: fcntl(F_SETLK) */
int datagram_claim(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_SETLK, &lock);
}

/* #syscalls upstream_udp: connect */
int datagram_disconnect(int fd)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	return connect(fd, &nobody, sizeof(nobody));
}

/*
 * The kernel handles a received packet within one RCU read-side critical section: netif_receive_skb()
 * enters it, and the packet is in a socket's queue before that ends (unless rules hand it to another
 * process in between). This call waits until all those sections that have begun are over
 * (synchronize_rcu() in kernel/sched/membarrier.c); where the processors are isolated (nohz_full), it
 * does nothing.
 * #syscalls upstream_udp: membarrier(MEMBARRIER_CMD_GLOBAL)
 */
void datagram_settle(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

/*
 * #syscalls upstream_udp: setsockopt(SOL_SOCKET, SO_RCVBUFFORCE), setsockopt(SOL_SOCKET, SO_RCVBUF)
 * #syscalls upstream_udp: setsockopt(SOL_SOCKET, SO_SNDBUFFORCE), setsockopt(SOL_SOCKET, SO_SNDBUF)
 */
void datagram_set_buffers(int fd, int bytes)
{
	if (set(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes) < 0)
		set(fd, SOL_SOCKET, SO_RCVBUF, bytes);
	if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes) < 0)
		set(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

int datagram_open_pair(const struct endpoint *own, const struct endpoint *other, unsigned details,
		       struct failure *why)
{
	const char *call;
	int fd = open_pair(own, details, &call);

	if (fd < 0)
		return transparent_fail(why, call, own);
	if (datagram_connect(fd, other) < 0)
		return fail_at(why, fd, "connect", other);
	return fd;
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
	int fd = open_pair(&d->local, USUAL_DETAILS, &call);
	bool whole, gone;

	if (fd < 0)
		return fail_at(why, fd, call, &d->local);
	if (datagram_connect(fd, &d->client) < 0)
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
