/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_icmp.h"

#include "socket/datagram.h"
#include "socket/transparent.h"
#include <assert.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const int families[2] = { AF_INET, AF_INET6 };

/* ---- raw sockets ---- */

/* The socket only sends: a filter drops what it would receive before it is copied. */
static int set_deaf(int fd, int family)
{
	const uint32_t all = ~0u;
	const uint32_t all6[8] = { ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u };

	if (family == AF_INET)
		return setsockopt(fd, SOL_RAW, ICMP_FILTER, &all, sizeof(all));
	return setsockopt(fd, SOL_ICMPV6, ICMPV6_FILTER, all6, sizeof(all6));
}

static int open_raw(int family, struct failure *why)
{
	int protocol = family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	const char *call = "socket(SOCK_RAW)";

	if (fd < 0 && errno == EAFNOSUPPORT)
		return -1;
	if (fd >= 0 && transparent_set(fd, family) == 0 && set_deaf(fd, family) == 0)
		return fd;
	report_fail(why, errno, call, "ICMP errors");
	if (fd >= 0)
		close(fd);
	return -1;
}

int udp_icmp_open(struct udp_icmp_sockets *s, struct failure *why)
{
	for (int i = 0; i < 2; i++) {
		*why = (struct failure){ 0 };
		s->fd[i] = open_raw(families[i], why);
		if (s->fd[i] >= 0 || !why->err)
			continue;
		if (i == 1)
			close(s->fd[0]);
		s->fd[0] = s->fd[1] = -1;
		return -1;
	}
	return 0;
}

void udp_icmp_close(struct udp_icmp_sockets *s)
{
	for (int i = 0; i < 2; i++) {
		if (s->fd[i] >= 0)
			close(s->fd[i]);
		s->fd[i] = -1;
	}
}

/* ---- hearing ---- */

/* #syscalls upstream_udp: setsockopt(SOL_IP, IP_RECVERR), setsockopt(SOL_IPV6, IPV6_RECVERR) */
int udp_icmp_listen(int fd, int family)
{
	int on = 1;

	return family == AF_INET6 ? setsockopt(fd, SOL_IPV6, IPV6_RECVERR, &on, sizeof(on))
				  : setsockopt(fd, SOL_IP, IP_RECVERR, &on, sizeof(on));
}

enum udp_icmp_kind udp_icmp_kind_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return UDP_ICMP_PORT;
	case EHOSTUNREACH:
	case EINVAL: /* a blackhole route */
		return UDP_ICMP_HOST;
	case ENETUNREACH:
		return UDP_ICMP_NET;
	case EACCES:
	case EPERM:
		return UDP_ICMP_PROHIBITED;
	case EMSGSIZE:
		return UDP_ICMP_TOO_BIG;
	default:
		return UDP_ICMP_NONE;
	}
}

static enum udp_icmp_kind kind_of_icmp(unsigned type, unsigned code)
{
	if (type == ICMP_TIME_EXCEEDED)
		return code == ICMP_EXC_TTL ? UDP_ICMP_EXPIRED : UDP_ICMP_NONE;
	if (type != ICMP_DEST_UNREACH)
		return UDP_ICMP_NONE;
	switch (code) {
	case ICMP_PORT_UNREACH:
	case ICMP_PROT_UNREACH:
		return UDP_ICMP_PORT;
	case ICMP_FRAG_NEEDED:
		return UDP_ICMP_TOO_BIG;
	case ICMP_NET_UNREACH:
	case ICMP_NET_UNKNOWN:
		return UDP_ICMP_NET;
	case ICMP_NET_ANO:
	case ICMP_HOST_ANO:
	case ICMP_PKT_FILTERED:
		return UDP_ICMP_PROHIBITED;
	default:
		return UDP_ICMP_HOST;
	}
}

static enum udp_icmp_kind kind_of_icmpv6(unsigned type, unsigned code)
{
	if (type == ICMPV6_PKT_TOOBIG)
		return UDP_ICMP_TOO_BIG;
	if (type == ICMPV6_TIME_EXCEED)
		return code == ICMPV6_EXC_HOPLIMIT ? UDP_ICMP_EXPIRED : UDP_ICMP_NONE;
	if (type != ICMPV6_DEST_UNREACH)
		return UDP_ICMP_NONE;
	switch (code) {
	case ICMPV6_PORT_UNREACH:
		return UDP_ICMP_PORT;
	case ICMPV6_NOROUTE:
		return UDP_ICMP_NET;
	case ICMPV6_ADM_PROHIBITED:
	case ICMPV6_POLICY_FAIL:
	case ICMPV6_REJECT_ROUTE:
		return UDP_ICMP_PROHIBITED;
	default:
		return UDP_ICMP_HOST;
	}
}

static void read_error(const struct sock_extended_err *e, struct udp_icmp_error *out)
{
	const struct sockaddr *offender = SO_EE_OFFENDER(e);

	switch (e->ee_origin) {
	case SO_EE_ORIGIN_ICMP:
		out->kind = kind_of_icmp(e->ee_type, e->ee_code);
		break;
	case SO_EE_ORIGIN_ICMP6:
		out->kind = kind_of_icmpv6(e->ee_type, e->ee_code);
		break;
	case SO_EE_ORIGIN_LOCAL:
		out->kind = udp_icmp_kind_of((int)e->ee_errno);
		break;
	}
	if (out->kind == UDP_ICMP_TOO_BIG)
		out->mtu = e->ee_info;
	/* An address always follows the error (ip_recv_error()). */
	if (offender->sa_family == AF_INET)
		out->reporter = endpoint_from_sockaddr(offender, sizeof(struct sockaddr_in));
	else if (offender->sa_family == AF_INET6)
		out->reporter = endpoint_from_sockaddr(offender, sizeof(struct sockaddr_in6));
	out->reporter.port = 0;
}

/* #syscalls upstream_udp: recvmsg */
bool udp_icmp_take(int fd, struct udp_icmp_error *out)
{
	union {
		char bytes[256];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_control = &control, .msg_controllen = sizeof(control) };

	*out = (struct udp_icmp_error){ 0 };
	if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
		    (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
			read_error((const struct sock_extended_err *)CMSG_DATA(c), out);
	return true;
}

/* ---- telling ---- */

struct packet4 {
	struct icmphdr icmp;
	struct iphdr ip;
	struct udphdr udp;
};

struct packet6 {
	struct icmp6hdr icmp;
	struct ip6_hdr ip;
	struct udphdr udp;
};

static_assert(sizeof(struct packet4) == 36 && sizeof(struct packet6) == 56, "no padding");

/* RFC 1071, for an even number of bytes. */
static uint16_t checksum(const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static struct udphdr udp_header(const struct endpoint *from, const struct endpoint *to,
				size_t length)
{
	return (struct udphdr){
		.source = htons(from->port),
		.dest = htons(to->port),
		.len = htons((uint16_t)(length + sizeof(struct udphdr))),
	};
}

static void set_type4(struct icmphdr *icmp, const struct udp_icmp_error *error)
{
	static const uint8_t codes[] = {
		[UDP_ICMP_PORT] = ICMP_PORT_UNREACH,   [UDP_ICMP_HOST] = ICMP_HOST_UNREACH,
		[UDP_ICMP_NET] = ICMP_NET_UNREACH,     [UDP_ICMP_PROHIBITED] = ICMP_PKT_FILTERED,
		[UDP_ICMP_TOO_BIG] = ICMP_FRAG_NEEDED, [UDP_ICMP_EXPIRED] = ICMP_EXC_TTL,
	};

	icmp->type = error->kind == UDP_ICMP_EXPIRED ? ICMP_TIME_EXCEEDED : ICMP_DEST_UNREACH;
	icmp->code = codes[error->kind];
	if (error->kind == UDP_ICMP_TOO_BIG)
		icmp->un.frag.mtu = htons((uint16_t)error->mtu);
}

static size_t make_packet4(struct packet4 *p, const struct udp_icmp_error *error,
			   const struct endpoint *from, const struct endpoint *to, size_t length)
{
	*p = (struct packet4){
		.ip = {
			.version = 4,
			.ihl = 5,
			.tot_len = htons((uint16_t)(sizeof(p->ip) + sizeof(p->udp) + length)),
			.frag_off = htons(error->kind == UDP_ICMP_TOO_BIG ? IP_DF : 0),
			.ttl = 1,
			.protocol = IPPROTO_UDP,
			.saddr = from->addr.v4.s_addr,
			.daddr = to->addr.v4.s_addr,
		},
		.udp = udp_header(from, to, length),
	};
	set_type4(&p->icmp, error);
	p->ip.check = checksum(&p->ip, sizeof(p->ip));
	p->icmp.checksum = checksum(p, sizeof(*p));
	return sizeof(*p);
}

static void set_type6(struct icmp6hdr *icmp, const struct udp_icmp_error *error)
{
	static const uint8_t codes[] = {
		[UDP_ICMP_PORT] = ICMPV6_PORT_UNREACH,
		[UDP_ICMP_HOST] = ICMPV6_ADDR_UNREACH,
		[UDP_ICMP_NET] = ICMPV6_NOROUTE,
		[UDP_ICMP_PROHIBITED] = ICMPV6_ADM_PROHIBITED,
		[UDP_ICMP_TOO_BIG] = 0,
		[UDP_ICMP_EXPIRED] = ICMPV6_EXC_HOPLIMIT,
	};

	icmp->icmp6_type = error->kind == UDP_ICMP_EXPIRED   ? ICMPV6_TIME_EXCEED
			   : error->kind == UDP_ICMP_TOO_BIG ? ICMPV6_PKT_TOOBIG
							     : ICMPV6_DEST_UNREACH;
	icmp->icmp6_code = codes[error->kind];
	if (error->kind == UDP_ICMP_TOO_BIG)
		icmp->icmp6_mtu = htonl(error->mtu);
}

/* The kernel fills in the checksum. */
static size_t make_packet6(struct packet6 *p, const struct udp_icmp_error *error,
			   const struct endpoint *from, const struct endpoint *to, size_t length)
{
	*p = (struct packet6){
		.ip = {
			.ip6_flow = htonl(6u << 28),
			.ip6_plen = htons((uint16_t)(sizeof(p->udp) + length)),
			.ip6_nxt = IPPROTO_UDP,
			.ip6_hlim = 1,
			.ip6_src = from->addr.v6,
			.ip6_dst = to->addr.v6,
		},
		.udp = udp_header(from, to, length),
	};
	set_type6(&p->icmp, error);
	return sizeof(*p);
}

/* #syscalls upstream_udp: sendmsg */
static void send_to(int fd, const struct endpoint *whom, const struct endpoint *reporter,
		    void *packet, size_t size)
{
	struct endpoint host = *whom;
	union endpoint_sockaddr address;
	union {
		char bytes[64];
		struct cmsghdr align;
	} control;
	struct iovec data = { packet, size };
	struct msghdr message = {
		.msg_name = &address, .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control
	};

	host.port = 0;
	message.msg_namelen = endpoint_to_sockaddr(&host, &address);
	memset(&control, 0, sizeof(control));
	if (reporter->family == whom->family)
		datagram_add_source(&message, reporter);
	else
		message.msg_control = NULL;
	sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A token bucket: it fills at the rate, up to a burst. */
static bool may_tell(struct udp_icmp_allowance *a, uint64_t now_us)
{
	uint64_t refilled = (now_us - a->us) * UDP_ICMP_RATE / 1000000;

	if (refilled) {
		a->spent = refilled < a->spent ? a->spent - (uint32_t)refilled : 0;
		a->us = now_us;
	}
	if (a->spent >= UDP_ICMP_BURST)
		return false;
	a->spent++;
	return true;
}

void udp_icmp_tell(const struct udp_icmp_sockets *s, struct udp_icmp_allowance *allowance,
		   uint64_t now_us, const struct udp_icmp_error *error, const struct endpoint *from,
		   const struct endpoint *to, size_t length)
{
	int fd = s->fd[from->family == AF_INET6];
	union {
		struct packet4 v4;
		struct packet6 v6;
	} packet;
	size_t size;

	if (fd < 0 || error->kind == UDP_ICMP_NONE || from->family != to->family ||
	    !may_tell(allowance, now_us))
		return;
	size = from->family == AF_INET6 ? make_packet6(&packet.v6, error, from, to, length)
					: make_packet4(&packet.v4, error, from, to, length);
	send_to(fd, from, &error->reporter, &packet, size);
}
