/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define TTL 64

/* The pseudo-header for the checksum of a segment: both addresses, length, protocol. */
struct pseudo {
	struct in6_addr from, to; /* the first four bytes of each for IPv4: zeros add nothing */
	uint32_t length, protocol;
	struct tcphdr tcp;
};

struct packet {
	union {
		struct iphdr v4;
		struct ip6_hdr v6;
	} ip;
	struct tcphdr tcp; /* follows IPv6; after IPv4 it is moved up */
};

void probe_init(struct probe *probe)
{
	*probe = (struct probe){ { -1, -1 } };
}

void probe_close(struct probe *probe)
{
	for (int i = 0; i < 2; i++)
		if (probe->fd[i] >= 0)
			close(probe->fd[i]);
	probe_init(probe);
}

/* With IPPROTO_RAW the socket only sends, and takes the header from us (raw(7); inet6_create() does
 * the same). */
static int socket_of(struct probe *probe, sa_family_t family, struct failure *why)
{
	int *fd = &probe->fd[family == AF_INET6];

	if (*fd < 0)
		*fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (*fd < 0)
		report_fail(why, errno, "socket", "raw socket");
	return *fd;
}

static uint16_t checksum(const struct pseudo *pseudo)
{
	uint16_t word[sizeof(*pseudo) / 2];
	uint32_t sum = 0;

	memcpy(word, pseudo, sizeof(word));
	for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
		sum += word[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static struct tcphdr make_segment(const struct endpoint *from, const struct endpoint *to)
{
	size_t size = from->family == AF_INET ? sizeof(from->addr.v4) : sizeof(from->addr.v6);
	struct pseudo pseudo = {
		.length = htonl(sizeof(pseudo.tcp)),
		.protocol = htonl(IPPROTO_TCP),
		.tcp = { .source = htons(from->port),
			 .dest = htons(to->port),
			 .doff = sizeof(pseudo.tcp) / 4,
			 .ack = 1 },
	};
	uint32_t numbers[2] = { 0 };

	(void)!getrandom(numbers, sizeof(numbers), GRND_NONBLOCK);
	pseudo.tcp.seq = numbers[0];
	pseudo.tcp.ack_seq = numbers[1];
	memcpy(&pseudo.from, &from->addr, size);
	memcpy(&pseudo.to, &to->addr, size);
	pseudo.tcp.check = checksum(&pseudo);
	return pseudo.tcp;
}

/* The kernel fills in IPv4's length, identification and checksum. Returns the packet's size. */
static size_t make_packet(struct packet *p, const struct endpoint *from, const struct endpoint *to)
{
	const struct tcphdr tcp = make_segment(from, to);

	memset(p, 0, sizeof(*p));
	if (from->family == AF_INET) {
		p->ip.v4 = (struct iphdr){ .version = 4,
					   .ihl = sizeof(p->ip.v4) / 4,
					   .ttl = TTL,
					   .protocol = IPPROTO_TCP,
					   .saddr = from->addr.v4.s_addr,
					   .daddr = to->addr.v4.s_addr };
		memcpy((char *)p + sizeof(p->ip.v4), &tcp, sizeof(tcp));
		return sizeof(p->ip.v4) + sizeof(tcp);
	}
	p->ip.v6.ip6_vfc = 6 << 4;
	p->ip.v6.ip6_plen = htons(sizeof(tcp));
	p->ip.v6.ip6_nxt = IPPROTO_TCP;
	p->ip.v6.ip6_hlim = TTL;
	p->ip.v6.ip6_src = from->addr.v6;
	p->ip.v6.ip6_dst = to->addr.v6;
	p->tcp = tcp;
	return sizeof(p->ip.v6) + sizeof(tcp);
}

int probe_send(struct probe *probe, const struct endpoint *from, const struct endpoint *to,
	       uint32_t mark, struct failure *why)
{
	int fd = socket_of(probe, from->family, why);
	struct packet packet;
	size_t size = make_packet(&packet, from, to);
	struct endpoint where = *to;
	union endpoint_sockaddr sa;
	char text[ENDPOINT_TEXT_MAX];
	socklen_t length;

	if (fd < 0)
		return -1;
	where.port = 0; /* an IPv6 raw socket would take it as a protocol */
	length = endpoint_to_sockaddr(&where, &sa);
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) ||
	    sendto(fd, &packet, size, 0, &sa.sa, length) < 0)
		return report_fail(why, errno, "sendto", "%s", endpoint_format(to, text));
	return 0;
}
