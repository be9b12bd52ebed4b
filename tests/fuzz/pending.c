/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PROXY header arrives in whatever pieces: what is made of it is what is made of it in one piece,
 * no byte after it is taken. The first byte is the size of the pieces. */
#include "fuzz.h"
#include "socket/proxyproto.h"
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Write all in pieces, looking after each; then end. What proxyproto_receive() said at last. */
static int arrive(const int pair[2], const uint8_t *data, size_t size, size_t piece,
		  struct proxyproto_header *header, size_t *written)
{
	struct failure why = { 0 };
	struct proxyproto_begun *begun = NULL;
	int found = 0;

	for (*written = 0; !found && *written < size; *written += piece) {
		if (piece > size - *written)
			piece = size - *written;
		/* What is left in the socket takes 768 bytes a piece, of 208 KiB. */
		fuzz_holds(send(pair[1], data + *written, piece, MSG_DONTWAIT) == (ssize_t)piece,
			   "what has come is taken, so that there is room");
		if (!is_readable(pair[0]))
			continue;
		found = proxyproto_receive(pair[0], &begun, header, &why);
	}
	shutdown(pair[1], SHUT_WR);
	while (!found) /* an end is told at once, whatever is wanted */
		found = proxyproto_receive(pair[0], &begun, header, &why);
	proxyproto_drop(&begun);
	fuzz_holds(found > 0 || why.detail[0] || why.err, "a refusal says why");
	return found;
}

/* What is left in the socket is what followed the header. */
static void check_rest(int fd, const uint8_t *data, size_t length)
{
	uint8_t rest[8192];
	ssize_t got = recv(fd, rest, sizeof(rest), MSG_DONTWAIT);

	fuzz_holds((got < 0 ? 0 : (size_t)got) == length, "nothing more is taken");
	fuzz_holds(!length || !memcmp(rest, data, length), "nor changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxyproto_header header, whole;
	struct failure why;
	size_t wanted, written, piece;
	int pair[2], found, expected;

	if (size < 2 || size > PROXYPROTO_MAX)
		return 0;
	piece = data[0] ? data[0] : 1;
	data++;
	size--;
	expected = proxyproto_parse(data, size, &whole, &wanted, &why);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		abort();
	found = arrive(pair, data, size, piece, &header, &written);
	fuzz_holds(expected == 1 || found < 0,
		   "what is no header when it is whole is none in pieces");
	if (found > 0) {
		fuzz_holds(header.length == whole.length, "the same header");
		fuzz_holds(!header.has_addresses || header.protocol == IPPROTO_TCP, "of TCP");
		fuzz_holds(!header.has_addresses ||
				   (!endpoint_is_any(&header.destination) &&
				    !endpoint_is_any(&header.source) && header.destination.port),
			   "somebody's addresses");
		check_rest(pair[0], data + header.length, written - header.length);
	}
	close(pair[0]);
	close(pair[1]);
	return 0;
}
