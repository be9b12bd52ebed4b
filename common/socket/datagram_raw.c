/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/datagram_raw.h"

#include "socket/transparent.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sends may have this many bytes in flight before the device has taken them. */
#define SEND_BUFFER (4 << 20)

/* ---- sockets ---- */

/*
 * Bound to an address that receives nothing, so that it gets no copy of each UDP packet of this
 * host: 240.0.0.1, of class E, or 100::1, of the discard prefix (RFC 6666).
 * #syscalls raw: bind
 */
static int bind_to_nothing(int fd, int family)
{
	struct endpoint at = { .family = (sa_family_t)family };
	union endpoint_sockaddr address;

	if (family == AF_INET)
		at.addr.v4.s_addr = htonl(0xf0000001);
	else
		at.addr.v6.s6_addr[0] = at.addr.v6.s6_addr[15] = 1;
	return bind(fd, &address.sa, endpoint_to_sockaddr(&at, &address));
}

/*
 * The kernel computes the checksum of a raw IPv6 socket, if told its offset (RFC 3542, 3.1).
 * #syscalls raw: setsockopt(SOL_IPV6, IPV6_CHECKSUM)
 */
static int set_checksum(int fd, int family)
{
	int offset = offsetof(struct udphdr, check);

	return family == AF_INET6 ? setsockopt(fd, SOL_IPV6, IPV6_CHECKSUM, &offset, sizeof(offset))
				  : 0;
}

/* #syscalls raw: setsockopt(SOL_SOCKET, SO_SNDBUFFORCE), setsockopt(SOL_SOCKET, SO_SNDBUF) */
static void set_buffer(int fd)
{
	int bytes = SEND_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

/* #syscalls raw: socket(AF_INET, SOCK_RAW, IPPROTO_UDP), socket(AF_INET6, SOCK_RAW, IPPROTO_UDP) */
int datagram_raw_open(int family, const struct mark *mark, struct failure *why)
{
	int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	const char *call = "socket(SOCK_RAW)";

	if (fd < 0)
		return report_fail(why, errno, call, "datagrams of others");
	call = "setsockopt(IP_TRANSPARENT)";
	if (transparent_set(fd, family) < 0)
		goto fail;
	call = "bind";
	if (bind_to_nothing(fd, family) < 0)
		goto fail;
	call = "setsockopt(IPV6_CHECKSUM)";
	if (set_checksum(fd, family) < 0)
		goto fail;
	call = "setsockopt(SO_MARK)";
	if (transparent_set_mark(fd, mark) < 0)
		goto fail;
	set_buffer(fd);
	return fd;
fail:
	report_fail(why, errno, call, "datagrams of others");
	close(fd);
	return -1;
}

/* ---- headers ---- */

/* The RFC 1071 sum in the machine's own byte order, not yet folded. */
static uint64_t sum_of(const void *data, size_t length)
{
	const unsigned char *bytes = data;
	uint64_t sum = 0;
	uint32_t word;
	uint16_t rest = 0;

	for (; length >= sizeof(word); length -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		sum += word;
	}
	if (length >= sizeof(rest)) {
		memcpy(&rest, bytes, sizeof(rest));
		sum += rest;
		bytes += sizeof(rest);
		length -= sizeof(rest);
	}
	rest = 0;
	if (length)
		memcpy(&rest, bytes, length);
	return sum + rest;
}

/* In data that begins at an odd byte, the bytes of each pair are swapped (RFC 1071, 2). */
static uint64_t behind(size_t length, uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return length % 2 ? (sum & 0xff) << 8 | sum >> 8 : sum;
}

/* A sum of 0 is written in its other representation: 0 means that there is none. */
static uint16_t fold(uint64_t sum)
{
	uint16_t folded;

	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	folded = (uint16_t)~sum;
	return folded ? folded : 0xffff;
}

void datagram_raw_header(const struct endpoint *from, const struct endpoint *to, const void *first,
			 size_t first_length, const void *second, size_t second_length,
			 uint8_t header[DATAGRAM_RAW_HEADER])
{
	struct udphdr udp = {
		.source = htons(from->port),
		.dest = htons(to->port),
		.len = htons((uint16_t)(first_length + second_length + sizeof(udp))),
	};
	uint64_t sum;

	if (from->family == AF_INET) {
		sum = sum_of(&from->addr.v4, sizeof(from->addr.v4)) +
		      sum_of(&to->addr.v4, sizeof(to->addr.v4)) + htons(IPPROTO_UDP) + udp.len;
		sum += sum_of(&udp, sizeof(udp)) + sum_of(first, first_length) +
		       behind(first_length, sum_of(second, second_length));
		udp.check = fold(sum);
	}
	memcpy(header, &udp, sizeof(udp));
}
