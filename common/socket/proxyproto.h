/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proxyproto - the PROXY protocol, versions 1 and 2: who a connection is really from, said by a
 * proxy at its very beginning (www.haproxy.org/download/2.8/doc/proxy-protocol.txt).
 *
 * One parser for both versions, of whatever bytes have come so far; it never guesses: what can no
 * longer become a header is refused at once.
 */
#ifndef TPROXY_SOCKET_PROXYPROTO_H
#define TPROXY_SOCKET_PROXYPROTO_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The longest header that is read; the length field would allow 64 KiB. Every field of the
 * specification together takes at most
 *
 *	 232  the fixed part, and the longest addresses (two of AF_UNIX)
 *	 258  ALPN: a protocol's name (RFC 7301: 255 bytes)
 *	 258  AUTHORITY: a host's name (RFC 1035: 255 bytes)
 *	   7  CRC32C
 *	 131  UNIQUE_ID: 128 bytes
 *	 479  SSL: 8, and VERSION 11, CN 259 (X.520: 64 characters, of 4 bytes each), and three names of
 *	      algorithms of 67 (64 bytes; those that there are have fewer than 40)
 *	 258  NETNS: a file's name (255 bytes)
 *
 * which is 1,623 bytes; 425 are left for padding and for private types, of which clouds send some
 * dozens of bytes. A client's whole certificate, which newer versions of HAProxy can be told to
 * send, is more than a relay has use for. The specification itself has the header be smaller than
 * one segment.
 */
#define PROXYPROTO_MAX 2048

/* The longest that is written. The longest UNIQUE_ID (the protocol's limit). How long a peer may
 * take for its header. */
#define PROXYPROTO_WRITTEN_MAX 256
#define PROXYPROTO_ID_MAX      128
#define PROXYPROTO_TIME_MS     3000

struct proxyproto_header {
	int version;	    /* 1 or 2 */
	size_t length;	    /* in bytes, of what was parsed */
	bool has_addresses; /* else (LOCAL, UNKNOWN, UNSPEC) the connection's own ends are the truth */
	int protocol;	    /* IPPROTO_TCP or IPPROTO_UDP, if it has addresses */
	struct endpoint source, destination; /* of one family; ports may be 0 */
	uint8_t id[PROXYPROTO_ID_MAX];	     /* UNIQUE_ID (version 2) */
	size_t id_length;
};

/*
 * Parse the header that data begins with. Returns 1 with *out; 0 when it is not complete (then
 * *wanted is how many bytes there must at least be before the next attempt); -1 with *why->detail
 * when it is no header.
 */
int proxyproto_parse(const void *data, size_t length, struct proxyproto_header *out, size_t *wanted,
		     struct failure *why);

/* Are its addresses, if it has any, somebody's: none of 0.0.0.0/8, ::, a group's, broadcast; no
 * destination port 0? Returns 0, or -1 with *why. */
int proxyproto_check(const struct proxyproto_header *header, struct failure *why);

/* The beginning of a header that has been taken off its socket; NULL where there is none. */
struct proxyproto_begun;

/*
 * Take the header off a connected stream socket, and not one byte more. Returns 1 with *out, whose
 * addresses, if it has any, are those of a TCP connection; 0 when it is not complete: come again
 * when poll(2) says that there is something to read, which it does not before there is enough
 * (SO_RCVLOWAT); -1 with *why when it is no header, nobody's addresses, or the peer has ended.
 * *begun is NULL before the first call, then what has come so far, to be dropped in any case. A
 * socket with SO_OOBINLINE has urgent data in its place, and an urgent mark costs nothing.
 */
int proxyproto_receive(int fd, struct proxyproto_begun **begun, struct proxyproto_header *out,
		       struct failure *why);

/* Free what has come; *begun is NULL then. */
void proxyproto_drop(struct proxyproto_begun **begun);

/*
 * Write the header for version 1 (a line; TCP only) or 2 (with CRC32C, and UNIQUE_ID if id_length
 * is not 0). Takes version, has_addresses, protocol, source, destination, id. Returns its length.
 */
size_t proxyproto_write(const struct proxyproto_header *header,
			uint8_t buf[PROXYPROTO_WRITTEN_MAX]);

#endif
