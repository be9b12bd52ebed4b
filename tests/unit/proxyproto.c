/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/proxyproto.h"
#include "check.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static struct proxyproto_header header;
static struct failure why;

/* Parse a copy of exactly that size, so that reading beyond it shows under a sanitizer. */
static int parse(const void *data, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);
	size_t wanted;
	int result;

	memcpy(copy, data, length);
	why.detail[0] = '\0';
	result = proxyproto_parse(copy, length, &header, &wanted, &why);
	free(copy);
	if (result == 0)
		CHECK(wanted > length);
	if (result < 0)
		CHECK(why.detail[0]);
	return result;
}

static int parse_text(const char *text)
{
	return parse(text, strlen(text));
}

static void check_ends(const char *source, const char *destination)
{
	char buf[ENDPOINT_TEXT_MAX];

	CHECK(header.has_addresses);
	CHECK_TEXT(endpoint_format(&header.source, buf), source);
	CHECK_TEXT(endpoint_format(&header.destination, buf), destination);
}

static void test_v1(void)
{
	CHECK(parse_text("PROXY TCP4 192.0.2.1 198.51.100.2 40000 80\r\nGET /") == 1);
	CHECK(header.version == 1 && header.length == 44 && header.protocol == IPPROTO_TCP);
	check_ends("192.0.2.1:40000", "198.51.100.2:80");
	CHECK(parse_text("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n") == 1);
	check_ends("[2001:db8::1]:1", "[2001:db8::2]:65535");
	CHECK(parse_text("PROXY UNKNOWN\r\n") == 1 && !header.has_addresses);
	CHECK(parse_text("PROXY UNKNOWN ffff:f...f:ffff what ever\r\n") == 1 &&
	      !header.has_addresses);
}

static void test_v1_refused(void)
{
	static const char *const wrong[] = {
		"GET / HTTP/1.0\r\n",
		"PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
		"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
		"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 0x1 2\r\n",
		"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
		"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
		"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
		"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
		"PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
		"PROXY TCP4 192.0.2.1\r198.51.100.2 1 2\r\n",
		"PROXY \r\n",
		"PROXX",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CHECK(parse_text(wrong[i]) == -1);
}

static void test_v1_length(void)
{
	char line[200];

	memset(line, 'x', sizeof(line));
	memcpy(line, "PROXY UNKNOWN ", 14);
	CHECK(parse(line, 106) == 0);
	CHECK(parse(line, 107) == -1);
	memcpy(line + 105, "\r\n", 2);
	CHECK(parse(line, 107) == 1 && header.length == 107);
	line[50] = '\0';
	CHECK(parse(line, 107) == -1);
}

/* Every beginning of a header is incomplete, never refused, never taken for a whole. */
static void check_beginnings(const void *data, size_t length)
{
	for (size_t n = 0; n < length; n++)
		CHECK(parse(data, n) == 0);
	CHECK(parse(data, length) == 1 && header.length == length);
}

static struct proxyproto_header make(int version, int protocol, const char *source,
				     const char *destination)
{
	struct proxyproto_header h = { .version = version,
				       .has_addresses = true,
				       .protocol = protocol };

	CHECK(endpoint_parse(source, &h.source, NULL) == 0);
	CHECK(endpoint_parse(destination, &h.destination, NULL) == 0);
	return h;
}

static void check_round_trip(const struct proxyproto_header *h)
{
	uint8_t buf[PROXYPROTO_WRITTEN_MAX];
	size_t length = proxyproto_write(h, buf);

	CHECK(length <= sizeof(buf));
	check_beginnings(buf, length);
	CHECK(header.version == h->version && header.has_addresses == h->has_addresses);
	if (!h->has_addresses)
		return;
	CHECK(header.protocol == h->protocol);
	CHECK(endpoint_equal(&header.source, &h->source));
	CHECK(endpoint_equal(&header.destination, &h->destination));
	CHECK(header.id_length == h->id_length && !memcmp(header.id, h->id, h->id_length));
}

static void test_round_trips(void)
{
	struct proxyproto_header h = make(1, IPPROTO_TCP, "192.0.2.1:40000", "198.51.100.2:80");

	check_round_trip(&h);
	h.version = 2;
	check_round_trip(&h);
	h = make(1, IPPROTO_TCP, "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535",
		 "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe]:65535");
	check_round_trip(&h);
	h.version = 2;
	h.protocol = IPPROTO_UDP;
	memset(h.id, 0xab, h.id_length = PROXYPROTO_ID_MAX);
	check_round_trip(&h);
	h = (struct proxyproto_header){ .version = 1 };
	check_round_trip(&h);
	h.version = 2;
	check_round_trip(&h);
}

/* The example of the CRC's definition, by way of a whole header: flip any bit and it is refused. */
static void test_checksum(void)
{
	struct proxyproto_header h = make(2, IPPROTO_TCP, "192.0.2.1:40000", "198.51.100.2:80");
	uint8_t buf[PROXYPROTO_WRITTEN_MAX];
	size_t length;

	memcpy(h.id, "an id", h.id_length = 5);
	length = proxyproto_write(&h, buf);
	for (size_t bit = 16 * 8; bit < length * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		/* Another type or length of an extension may make the checksum one of unknown
		 * type. */
		if ((bit / 8 < 28 || bit / 8 > 30) &&
		    (bit / 8 < length - 7 || bit / 8 > length - 5))
			CHECK(parse(buf, length) == -1);
		else
			parse(buf, length);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	CHECK(parse(buf, length) == 1);
}

static void test_v2_others(void)
{
	uint8_t local[] = "\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x03xyz";
	uint8_t un[16 + 216] = "\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8";
	uint8_t wrong[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\1\2\3\4\5\6\7\10\0\1\0\2";

	CHECK(parse(local, sizeof(local) - 1) == 1 && !header.has_addresses);
	CHECK(parse(un, sizeof(un)) == 1 && !header.has_addresses);
	CHECK(parse(wrong, sizeof(wrong) - 1) == 1);
	check_ends("1.2.3.4:1", "5.6.7.8:2");
	wrong[12] = 0x11;
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
	wrong[12] = 0x22;
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
	wrong[12] = 0x21;
	wrong[13] = 0x41;
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
	wrong[13] = 0x13;
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
	wrong[13] = 0x21; /* IPv6 needs more */
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
	wrong[13] = 0x11;
	wrong[14] = 0xff; /* 64 KiB of extensions */
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
	wrong[14] = 0;
	wrong[11] = 'x';
	CHECK(parse(wrong, sizeof(wrong) - 1) == -1);
}

static void test_extensions(void)
{
	uint8_t h[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10\1\2\3\4\5\6\7\10\0\1\0\2\x04\x00\x01z";

	CHECK(parse(h, sizeof(h) - 1) == 1 && header.length == 32);
	h[30] = 2; /* reaches beyond the end */
	CHECK(parse(h, sizeof(h) - 1) == -1);
	h[15] = 0x0e; /* two bytes are no extension */
	CHECK(parse(h, sizeof(h) - 1) == -1);
}

/* A header of version 2 that grows by extensions. */
struct growing {
	size_t length;
	uint8_t data[2 * PROXYPROTO_MAX];
};

/* Of the family with the longest addresses, or of IPv4. */
static struct growing begin(bool longest)
{
	struct growing g = { .length = longest ? 16 + 216 : 16 + 12 };

	memcpy(g.data, "\r\n\r\n\0\r\nQUIT\n\x21", 13);
	g.data[13] = longest ? 0x31 : 0x11;
	memset(g.data + 16, 1, g.length - 16);
	return g;
}

static size_t extend(struct growing *g, uint8_t type, size_t size)
{
	uint8_t *at = g->data + g->length;

	at[0] = type;
	at[1] = (uint8_t)(size >> 8);
	at[2] = (uint8_t)size;
	memset(at + 3, 0, size);
	g->length += 3 + size;
	return g->length - size;
}

static int parse_grown(struct growing *g)
{
	g->data[14] = (uint8_t)((g->length - 16) >> 8);
	g->data[15] = (uint8_t)(g->length - 16);
	return parse(g->data, g->length);
}

/* The CRC as its definition has it, bit by bit, with zeros where it will be. */
static uint32_t crc_of(const struct growing *g, size_t checksum)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < g->length; i++) {
		crc ^= i - checksum < 4 ? 0 : g->data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void put_checksum(struct growing *g, size_t at)
{
	uint32_t crc;

	g->data[14] = (uint8_t)((g->length - 16) >> 8);
	g->data[15] = (uint8_t)(g->length - 16);
	crc = crc_of(g, at);
	for (int i = 0; i < 4; i++)
		g->data[at + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
}

/* What a connection has one of is said once; padding and private extensions may come again. */
static void test_twice(void)
{
	static const uint8_t single[] = { 1, 2, 5, 0x20, 0x30 };
	static const uint8_t repeated[] = { 4, 6, 0x2f, 0x3f, 0x40, 0x43, 0xe0, 0xea, 0xff };
	struct growing g;
	size_t at;

	for (size_t i = 0; i < sizeof(single); i++) {
		g = begin(false);
		extend(&g, single[i], 8);
		CHECK(parse_grown(&g) == 1);
		extend(&g, 4, 1);
		extend(&g, single[i], 0);
		CHECK(parse_grown(&g) == -1 && strstr(why.detail, "two extensions of type 0x"));
	}
	for (size_t i = 0; i < sizeof(repeated); i++) {
		g = begin(false);
		extend(&g, repeated[i], 8);
		extend(&g, repeated[i], 8);
		CHECK(parse_grown(&g) == 1);
	}
	g = begin(false);
	at = extend(&g, 3, 4);
	put_checksum(&g, at);
	CHECK(parse_grown(&g) == 1);
	extend(&g, 3, 4); /* of zeros: the first is right */
	put_checksum(&g, at);
	CHECK(parse_grown(&g) == -1);
	CHECK_TEXT(why.detail, "it has two extensions of type 0x03");
}

/* Every field of the specification at its longest, and no more than its own limit. */
static void test_longest(void)
{
	struct growing g = begin(true);
	size_t at = extend(&g, 3, 4);

	extend(&g, 1, 255);
	extend(&g, 2, 255);
	extend(&g, 5, PROXYPROTO_ID_MAX);
	extend(&g, 0x20, 5 + 11 + 259 + 3 * 67);
	extend(&g, 0x30, 255);
	CHECK(g.length == 1623);
	put_checksum(&g, at);
	CHECK(parse_grown(&g) == 1);
	extend(&g, 4, PROXYPROTO_MAX - g.length - 3);
	put_checksum(&g, at);
	CHECK(g.length == PROXYPROTO_MAX && parse_grown(&g) == 1);
	g.data[g.length++] = 0;
	CHECK(parse_grown(&g) == -1);
	CHECK_TEXT(why.detail, "it is longer than 2048 bytes");
}

static struct proxyproto_begun *begun;

static int receive(int fd)
{
	int found = proxyproto_receive(fd, &begun, &header, &why);

	if (found)
		proxyproto_drop(&begun);
	return found;
}

/* How many bytes there must be before poll(2) says so. */
static int low_water(int fd)
{
	int low = 0;
	socklen_t size = sizeof(low);

	CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, &size) == 0);
	return low;
}

static void test_sockets(void)
{
	int pair[2];
	char rest[16];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(receive(pair[0]) == 0);
	CHECK(write(pair[1], "PROXY TCP4 192.0.2.1 ", 21) == 21);
	CHECK(receive(pair[0]) == 0);
	CHECK(recv(pair[0], rest, sizeof(rest), MSG_DONTWAIT) < 0); /* poll() sees what is new */
	CHECK(low_water(pair[0]) == 1);
	CHECK(receive(pair[0]) == 0);
	CHECK(write(pair[1], "192.0.2.2 1 2\r\nhello", 20) == 20);
	CHECK(receive(pair[0]) == 1);
	check_ends("192.0.2.1:1", "192.0.2.2:2");
	CHECK(read(pair[0], rest, sizeof(rest)) == 5 && !memcmp(rest, "hello", 5));
	CHECK(write(pair[1], "PROXY", 5) == 5);
	CHECK(receive(pair[0]) == 0);
	shutdown(pair[1], SHUT_WR);
	CHECK(receive(pair[0]) == -1);
	CHECK_TEXT(why.detail, "ended within its PROXY protocol header");
	close(pair[0]);
	close(pair[1]);
}

/* Version 2 says how many bytes are worth a look; what follows the header has no such bound. */
static void test_low_water(void)
{
	struct proxyproto_header h = make(2, IPPROTO_TCP, "192.0.2.1:1", "192.0.2.2:2");
	uint8_t buf[PROXYPROTO_WRITTEN_MAX];
	size_t length = proxyproto_write(&h, buf);
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(write(pair[1], buf, 5) == 5 && receive(pair[0]) == 0);
	CHECK(low_water(pair[0]) == 11);
	CHECK(write(pair[1], buf + 5, 15) == 15 && receive(pair[0]) == 0);
	CHECK(low_water(pair[0]) == (int)length - 20);
	CHECK(write(pair[1], buf + 20, length - 20) == (ssize_t)length - 20);
	CHECK(receive(pair[0]) == 1 && header.length == length);
	CHECK(low_water(pair[0]) == 1);
	close(pair[0]);
	close(pair[1]);
}

/* Send a header of version 1 through a socket; what proxyproto_receive() makes of it. */
static int send_line(const char *line)
{
	int pair[2], result;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(write(pair[1], line, strlen(line)) == (ssize_t)strlen(line));
	result = receive(pair[0]);
	close(pair[0]);
	close(pair[1]);
	return result;
}

/* Addresses that would make a relay connect to, or from, its own host or many hosts at once. */
static void test_nobody(void)
{
	CHECK(send_line("PROXY TCP4 192.0.2.1 192.0.2.2 0 2\r\n") == 1);
	CHECK(send_line("PROXY TCP4 192.0.2.1 192.0.2.2 1 0\r\n") == -1);
	CHECK_TEXT(why.detail, "its destination is port 0");
	CHECK(send_line("PROXY TCP4 0.0.0.0 192.0.2.2 1 2\r\n") == -1);
	CHECK_TEXT(why.detail, "its addresses are impossible");
	CHECK(send_line("PROXY TCP4 192.0.2.1 0.0.0.0 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP4 192.0.2.1 0.1.2.3 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP6 2001:db8::1 ::ffff:0.1.2.3 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:0.0.0.0 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:224.0.0.1 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP4 192.0.2.1 255.255.255.255 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP4 192.0.2.1 224.0.0.1 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP4 255.255.255.255 192.0.2.2 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP6 :: 2001:db8::1 1 2\r\n") == -1);
	CHECK(send_line("PROXY TCP6 2001:db8::1 ff02::1 1 2\r\n") == -1);
}

/* Datagrams on a stream: the protocol has the receiver fall back to the connection's own ends. */
static void test_datagrams(void)
{
	struct proxyproto_header h = make(2, IPPROTO_UDP, "192.0.2.1:1", "192.0.2.2:2");
	uint8_t buf[PROXYPROTO_WRITTEN_MAX];
	size_t length = proxyproto_write(&h, buf);
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(write(pair[1], buf, length) == (ssize_t)length);
	CHECK(receive(pair[0]) == 1 && !header.has_addresses);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	test_v1();
	test_v1_refused();
	test_v1_length();
	test_round_trips();
	test_checksum();
	test_v2_others();
	test_extensions();
	test_twice();
	test_longest();
	test_sockets();
	test_low_water();
	test_nobody();
	test_datagrams();
	return check_done();
}
