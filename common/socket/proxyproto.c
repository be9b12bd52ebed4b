/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/proxyproto.h"

#include "base/quantity.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Version 1: a line, with its CR and LF. */
#define LINE_MAX_V1 107
static const char prefix_v1[] = "PROXY ";

/* Version 2: signature, version and command, family and protocol, length of the rest. */
static const uint8_t signature_v2[12] = "\r\n\r\n\0\r\nQUIT\n";
#define FIXED_V2 16

enum { COMMAND_LOCAL, COMMAND_PROXY };
enum { FAMILY_UNSPEC, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX };
enum { TRANSPORT_UNSPEC, TRANSPORT_STREAM, TRANSPORT_DGRAM };
enum {
	TLV_ALPN = 1,
	TLV_AUTHORITY = 2,
	TLV_CRC32C = 3,
	TLV_UNIQUE_ID = 5,
	TLV_SSL = 0x20,
	TLV_NETNS = 0x30,
};

/*
 * Extensions that a connection has once: each one gives *the* value. With two, nobody could tell
 * which is meant, and a second checksum would only cost time. Padding and private types may be
 * repeated.
 */
#define BIT(type) (1ULL << (type))
static const uint64_t single_tlvs = BIT(TLV_ALPN) | BIT(TLV_AUTHORITY) | BIT(TLV_CRC32C) |
				    BIT(TLV_UNIQUE_ID) | BIT(TLV_SSL) | BIT(TLV_NETNS);

/* Length of both addresses, with ports, by family. */
static const size_t address_length[] = {
	[FAMILY_UNSPEC] = 0,
	[FAMILY_INET] = 12,
	[FAMILY_INET6] = 36,
	[FAMILY_UNIX] = 216,
};

/* CRC-32C (Castagnoli), reflected, four bits at a time. */
static uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t length)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};

	crc = ~crc;
	while (length--) {
		crc ^= *data++;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static struct endpoint make_endpoint(int family, const uint8_t *address, uint16_t port)
{
	union endpoint_sockaddr sa = { 0 };

	sa.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		memcpy(&sa.v4.sin_addr, address, sizeof(sa.v4.sin_addr));
		sa.v4.sin_port = htons(port);
		return endpoint_from_sockaddr(&sa, sizeof(sa.v4));
	}
	memcpy(&sa.v6.sin6_addr, address, sizeof(sa.v6.sin6_addr));
	sa.v6.sin6_port = htons(port);
	return endpoint_from_sockaddr(&sa, sizeof(sa.v6));
}

/* Mapped addresses have become IPv4, so the two families may differ. */
static int set_ends(struct proxyproto_header *out, const struct endpoint *source,
		    const struct endpoint *destination, struct failure *why)
{
	if (source->family != destination->family)
		return report_refuse(why, "its addresses are of different families");
	out->has_addresses = true;
	out->source = *source;
	out->destination = *destination;
	return 1;
}

/* ---- version 1 ---- */

/* The next word of the line, followed by exactly one blank or the line's end; NULL if there is
 * none. */
static char *next_word(char **rest)
{
	char *word = *rest, *blank;

	if (!word || !*word || *word == ' ')
		return NULL;
	blank = strchr(word, ' ');
	*rest = blank ? blank + 1 : NULL;
	if (blank)
		*blank = '\0';
	return word;
}

/* Decimal, without sign, blank or leading zeros. */
static bool parse_port(const char *word, uint16_t *port)
{
	uint64_t n;

	if (!word || (word[0] == '0' && word[1]) || word[strspn(word, "0123456789")] ||
	    quantity_number(word, 0, UINT16_MAX, &n, NULL) < 0)
		return false;
	*port = (uint16_t)n;
	return true;
}

/* The part after `PROXY TCP4 ` or `PROXY TCP6 `. */
static int parse_ends_v1(char *rest, int family, struct proxyproto_header *out, struct failure *why)
{
	const char *from = next_word(&rest), *to = next_word(&rest);
	const char *from_port = next_word(&rest), *to_port = next_word(&rest);
	uint8_t source[16], destination[16];
	uint16_t source_port, destination_port;
	struct endpoint one, other;

	if (!from || !to || rest || inet_pton(family, from, source) != 1 ||
	    inet_pton(family, to, destination) != 1)
		return report_refuse(why, "its addresses are malformed");
	if (!parse_port(from_port, &source_port) || !parse_port(to_port, &destination_port))
		return report_refuse(why, "its ports are malformed");
	out->protocol = IPPROTO_TCP;
	one = make_endpoint(family, source, source_port);
	other = make_endpoint(family, destination, destination_port);
	return set_ends(out, &one, &other, why);
}

static int parse_line(char *line, struct proxyproto_header *out, struct failure *why)
{
	char *rest = line + sizeof(prefix_v1) - 1, *family = next_word(&rest);

	if (family && !strcmp(family, "UNKNOWN")) /* ignore the rest, if any */
		return 1;
	if (family && !strcmp(family, "TCP4"))
		return parse_ends_v1(rest, AF_INET, out, why);
	if (family && !strcmp(family, "TCP6"))
		return parse_ends_v1(rest, AF_INET6, out, why);
	return report_refuse(why, "its protocol is not one of TCP4, TCP6, UNKNOWN");
}

static int parse_v1(const uint8_t *data, size_t length, struct proxyproto_header *out,
		    size_t *wanted, struct failure *why)
{
	size_t limit = length < LINE_MAX_V1 ? length : LINE_MAX_V1;
	const uint8_t *cr = memchr(data, '\r', limit), *lf = memchr(data, '\n', limit);
	char line[LINE_MAX_V1];
	size_t text;

	if (memchr(data, '\0', cr ? (size_t)(cr - data) : limit) || (lf && (!cr || lf != cr + 1)) ||
	    (cr && cr + 1 < data + limit && !lf))
		return report_refuse(why, "a line with a bare CR, LF or NUL");
	if (!lf) {
		*wanted = length + 1;
		return length < LINE_MAX_V1 ? 0
					    : report_refuse(why, "a line of more than 107 bytes");
	}
	text = (size_t)(cr - data);
	memcpy(line, data, text);
	line[text] = '\0';
	out->version = 1;
	out->length = text + 2;
	return parse_line(line, out, why);
}

/* ---- version 2 ---- */

/* The checksum covers the whole header, with its own value as zeros. */
static bool is_intact(const uint8_t *data, size_t length, size_t checksum)
{
	static const uint8_t zeros[4];
	uint32_t crc = crc32c(0, data, checksum);

	crc = crc32c(crc, zeros, sizeof(zeros));
	crc = crc32c(crc, data + checksum + 4, length - checksum - 4);
	return crc == get32(data + checksum);
}

/* Only once? *seen has a bit for each such type that has been seen. */
static int note_extension(uint8_t type, uint64_t *seen, struct failure *why)
{
	uint64_t bit = type < 64 ? BIT(type) & single_tlvs : 0;

	if (*seen & bit)
		return report_refuse(why, "it has two extensions of type 0x%02x", type);
	*seen |= bit;
	return 0;
}

static int parse_extension(const uint8_t *data, size_t at, size_t size,
			   struct proxyproto_header *out, struct failure *why)
{
	uint8_t type = data[at - 3];

	if (type == TLV_CRC32C && (size != 4 || !is_intact(data, out->length, at)))
		return report_refuse(why, "its checksum is wrong");
	if (type != TLV_UNIQUE_ID)
		return 1;
	if (size > PROXYPROTO_ID_MAX)
		return report_refuse(why, "its UNIQUE_ID is longer than 128 bytes");
	memcpy(out->id, data + at, size);
	out->id_length = size;
	return 1;
}

/* Type, length, value; unknown ones are skipped. */
static int parse_extensions(const uint8_t *data, size_t at, struct proxyproto_header *out,
			    struct failure *why)
{
	uint64_t seen = 0;

	while (at < out->length) {
		size_t size = at + 3 <= out->length ? get16(data + at + 1) : 0;

		if (at + 3 + size > out->length)
			return report_refuse(why, "an extension reaches beyond its end");
		if (note_extension(data[at], &seen, why) < 0 ||
		    parse_extension(data, at + 3, size, out, why) < 0)
			return -1;
		at += 3 + size;
	}
	return 1;
}

static int parse_ends_v2(const uint8_t *data, struct proxyproto_header *out, struct failure *why)
{
	int family = data[13] >> 4 == FAMILY_INET ? AF_INET : AF_INET6;
	size_t size = family == AF_INET ? 4 : 16;
	const uint8_t *ends = data + FIXED_V2, *ports = ends + 2 * size;
	struct endpoint source = make_endpoint(family, ends, get16(ports));
	struct endpoint destination = make_endpoint(family, ends + size, get16(ports + 2));

	out->protocol = (data[13] & 15) == TRANSPORT_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
	return set_ends(out, &source, &destination, why);
}

/* The fixed part is complete. AF_UNIX is a valid family whose addresses are of no use to us. */
static int check_fixed_v2(const uint8_t *data, struct failure *why)
{
	unsigned family = data[13] >> 4, transport = data[13] & 15;

	if (data[12] >> 4 != 2)
		return report_refuse(why, "its version is %d", data[12] >> 4);
	if ((data[12] & 15) > COMMAND_PROXY)
		return report_refuse(why, "its command is %d", data[12] & 15);
	if (family > FAMILY_UNIX || transport > TRANSPORT_DGRAM)
		return report_refuse(why, "its family is 0x%02x", data[13]);
	if (FIXED_V2 + (size_t)get16(data + 14) > PROXYPROTO_MAX)
		return report_refuse(why, "it is longer than %d bytes", PROXYPROTO_MAX);
	if ((data[12] & 15) == COMMAND_PROXY && get16(data + 14) < address_length[family])
		return report_refuse(why, "it is too short for its addresses");
	return 0;
}

static int parse_v2(const uint8_t *data, size_t length, struct proxyproto_header *out,
		    size_t *wanted, struct failure *why)
{
	unsigned family, transport;
	bool local;

	*wanted = FIXED_V2;
	if (length < FIXED_V2)
		return 0;
	if (check_fixed_v2(data, why) < 0)
		return -1;
	*wanted = FIXED_V2 + (size_t)get16(data + 14);
	if (length < *wanted)
		return 0;
	family = data[13] >> 4;
	transport = data[13] & 15;
	local = (data[12] & 15) == COMMAND_LOCAL;
	out->version = 2;
	out->length = *wanted;
	if (local) /* ignore whatever follows */
		return 1;
	if ((family == FAMILY_INET || family == FAMILY_INET6) && transport != TRANSPORT_UNSPEC &&
	    parse_ends_v2(data, out, why) < 0)
		return -1;
	return parse_extensions(data, FIXED_V2 + address_length[family], out, why);
}

/* Do the data and the pattern agree as far as both go? */
static bool may_become(const uint8_t *data, size_t length, const void *pattern, size_t size)
{
	return !memcmp(data, pattern, length < size ? length : size);
}

int proxyproto_parse(const void *data, size_t length, struct proxyproto_header *out, size_t *wanted,
		     struct failure *why)
{
	*out = (struct proxyproto_header){ 0 };
	*wanted = length + 1;
	if (!length)
		return 0;
	if (may_become(data, length, signature_v2, sizeof(signature_v2)))
		return parse_v2(data, length, out, wanted, why);
	if (may_become(data, length, prefix_v1, sizeof(prefix_v1) - 1))
		return parse_v1(data, length, out, wanted, why);
	return report_refuse(why, "no PROXY protocol header");
}

/* ---- sockets ---- */

/* The part of an incomplete header that has been taken off a socket. */
struct proxyproto_begun {
	size_t length;
	int low_water; /* bytes needed before poll(2) reports them; as set on the socket */
	uint8_t data[PROXYPROTO_MAX];
};

/* #syscalls tcp: setsockopt(SOL_SOCKET, SO_RCVLOWAT) */
static void set_low_water(int fd, struct proxyproto_begun *b, size_t bytes)
{
	int value = (int)bytes;

	if (b->low_water != value &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) == 0)
		b->low_water = value;
}

/* Keep what was taken, all of which belongs to the header, until the next call. */
static int keep(int fd, struct proxyproto_begun **begun, const uint8_t *data, size_t length,
		size_t wanted, struct failure *why)
{
	struct proxyproto_begun *b = *begun;

	if (!b) {
		b = malloc(sizeof(*b));
		if (!b)
			return report_fail(why, errno, "malloc", "PROXY protocol header");
		b->low_water = 1;
		b->length = 0;
		*begun = b;
	}
	memcpy(b->data + b->length, data + b->length, length - b->length);
	b->length = length;
	set_low_water(fd, b, wanted - length);
	return 0;
}

/* Addresses that no host has: connecting to 0.0.0.0, or from it, would mean this host. All of
 * 0.0.0.0/8 is `this network' (RFC 1122). */
static bool is_nobody(const struct endpoint *e)
{
	if (e->family == AF_INET && !(ntohl(e->addr.v4.s_addr) >> 24))
		return true;
	return endpoint_is_any(e) || endpoint_is_multicast(e);
}

int proxyproto_check(const struct proxyproto_header *header, struct failure *why)
{
	if (!header->has_addresses)
		return 0;
	if (is_nobody(&header->source) || is_nobody(&header->destination))
		return report_refuse(why, "its addresses are impossible");
	return header->destination.port ? 0 : report_refuse(why, "its destination is port 0");
}

/*
 * The result for a TCP connection. A header for datagrams does not apply: then the connection's own
 * ends are the true ones, which is what the protocol wants for families that a receiver does not
 * know.
 */
static int settle(struct proxyproto_header *out, struct failure *why)
{
	if (out->has_addresses && out->protocol != IPPROTO_TCP)
		out->has_addresses = false;
	return proxyproto_check(out, why) < 0 ? -1 : 1;
}

void proxyproto_drop(struct proxyproto_begun **begun)
{
	free(*begun);
	*begun = NULL;
}

/*
 * Bytes are taken even if they are not enough. If they stayed in the socket, poll(2) would count
 * them, together with those behind an urgent mark, which no peek reaches (tcp_recvmsg_locked()
 * stops there, tcp_stream_is_readable() does not): it would wake us again and again for nothing
 * new.
 * #syscalls tcp: recv
 */
int proxyproto_receive(int fd, struct proxyproto_begun **begun, struct proxyproto_header *out,
		       struct failure *why)
{
	uint8_t data[PROXYPROTO_MAX];
	size_t had = *begun ? (*begun)->length : 0, wanted, taken;
	ssize_t come = recv(fd, data + had, sizeof(data) - had, MSG_PEEK | MSG_DONTWAIT);
	int found;

	if (come < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (come < 0)
		return report_fail(why, errno, "recv", "PROXY protocol header");
	if (come == 0)
		return report_refuse(why, "ended within its PROXY protocol header");
	if (had)
		memcpy(data, (*begun)->data, had);
	found = proxyproto_parse(data, had + (size_t)come, out, &wanted, why);
	if (found < 0)
		return -1;
	taken = found ? out->length - had : (size_t)come;
	recv(fd, data + had, taken, MSG_DONTWAIT);
	if (!found)
		return keep(fd, begun, data, had + taken, wanted, why);
	if (*begun)
		set_low_water(fd, *begun, 1);
	return settle(out, why);
}

/* ---- writing ---- */

static size_t write_v1(const struct proxyproto_header *h, uint8_t buf[PROXYPROTO_WRITTEN_MAX])
{
	char source[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];
	bool v6 = h->source.family == AF_INET6;

	if (!h->has_addresses)
		return (size_t)snprintf((char *)buf, LINE_MAX_V1, "PROXY UNKNOWN\r\n");
	inet_ntop(h->source.family, &h->source.addr, source, sizeof(source));
	inet_ntop(h->source.family, &h->destination.addr, destination, sizeof(destination));
	return (size_t)snprintf((char *)buf, LINE_MAX_V1 + 1, "PROXY TCP%c %s %s %u %u\r\n",
				v6 ? '6' : '4', source, destination, h->source.port,
				h->destination.port);
}

static size_t write_ends(uint8_t *at, const struct proxyproto_header *h)
{
	size_t size = h->source.family == AF_INET6 ? 16 : 4;

	memcpy(at, &h->source.addr, size);
	memcpy(at + size, &h->destination.addr, size);
	put16(at + 2 * size, h->source.port);
	put16(at + 2 * size + 2, h->destination.port);
	return 2 * size + 4;
}

static size_t write_extension(uint8_t *at, uint8_t type, const void *value, size_t size)
{
	at[0] = type;
	put16(at + 1, size);
	memcpy(at + 3, value, size);
	return 3 + size;
}

static size_t write_v2(const struct proxyproto_header *h, uint8_t buf[PROXYPROTO_WRITTEN_MAX])
{
	static const uint8_t zeros[4];
	size_t length = FIXED_V2;
	uint32_t crc;

	memcpy(buf, signature_v2, sizeof(signature_v2));
	buf[12] = 2 << 4 | (h->has_addresses ? COMMAND_PROXY : COMMAND_LOCAL);
	buf[13] = 0;
	if (h->has_addresses) {
		buf[13] = (uint8_t)((h->source.family == AF_INET6 ? FAMILY_INET6 : FAMILY_INET)
					    << 4 |
				    (h->protocol == IPPROTO_UDP ? TRANSPORT_DGRAM
								: TRANSPORT_STREAM));
		length += write_ends(buf + length, h);
	}
	if (h->id_length)
		length += write_extension(buf + length, TLV_UNIQUE_ID, h->id, h->id_length);
	length += write_extension(buf + length, TLV_CRC32C, zeros, sizeof(zeros));
	put16(buf + 14, length - FIXED_V2);
	crc = crc32c(0, buf, length);
	put16(buf + length - 4, crc >> 16);
	put16(buf + length - 2, crc & 0xffff);
	return length;
}

size_t proxyproto_write(const struct proxyproto_header *header, uint8_t buf[PROXYPROTO_WRITTEN_MAX])
{
	return header->version == 1 ? write_v1(header, buf) : write_v2(header, buf);
}
