/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proxyproto - the PROXY protocol, versions 1 and 2: a proxy says at the very beginning of a
 * connection who it is really from (www.haproxy.org/download/2.8/doc/proxy-protocol.txt).
 *
 * One parser for both versions, which takes any number of bytes received so far. It never guesses:
 * bytes that can no longer become a header are refused at once.
 */
#ifndef TPROXY_SOCKET_PROXYPROTO_H
#define TPROXY_SOCKET_PROXYPROTO_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The longest header that is read; the length field would allow 64 KiB. All fields of the
 * specification together take at most
 *
 *	 232  the fixed part, and the longest addresses (two of AF_UNIX)
 *	 258  ALPN: a protocol's name (RFC 7301: 255 bytes)
 *	 258  AUTHORITY: a host's name (RFC 1035: 255 bytes)
 *	   7  CRC32C
 *	 131  UNIQUE_ID: 128 bytes
 *	 479  SSL: 8, VERSION 11, CN 259 (X.520: 64 characters of 4 bytes each), and three names
 *	      of algorithms of 67 (64 bytes; existing ones have fewer than 40)
 *	 258  NETNS: a file's name (255 bytes)
 *
 * which is 1,623 bytes. That leaves 425 bytes for padding and for private types, of which clouds
 * send a few dozen bytes. A client's whole certificate, which newer versions of HAProxy can be
 * configured to send, is of no use to a relay. The specification itself wants the header to be
 * smaller than one segment.
 */
#define PROXYPROTO_MAX 2048

/* The longest that is written. The longest UNIQUE_ID (the protocol's limit). How long a peer may
 * take for its header. */
#define PROXYPROTO_WRITTEN_MAX 256
#define PROXYPROTO_ID_MAX      128
#define PROXYPROTO_TIME_MS     3000

struct proxyproto_header {
	int version;	    /* 1 or 2 */
	size_t length;	    /* in bytes, of the parsed header */
	bool has_addresses; /* else (LOCAL, UNKNOWN, UNSPEC) the connection's own ends count */
	int protocol;	    /* IPPROTO_TCP or IPPROTO_UDP, if it has addresses */
	struct endpoint source, destination; /* of one family; ports may be 0 */
	uint8_t id[PROXYPROTO_ID_MAX];	     /* UNIQUE_ID (version 2) */
	size_t id_length;
};

/*
 * Parse the header at the beginning of data. Returns 1 with *out; 0 if it is not complete (then
 * *wanted is the least number of bytes needed before the next attempt); -1 with *why->detail if it
 * is not a header.
 */
int proxyproto_parse(const void *data, size_t length, struct proxyproto_header *out, size_t *wanted,
		     struct failure *why);

/* Can its addresses, if it has any, belong to a host: not 0.0.0.0/8, ::, multicast, broadcast; and
 * is the destination port not 0? Returns 0, or -1 with *why. */
int proxyproto_check(const struct proxyproto_header *header, struct failure *why);

/* The beginning of a header that was taken off its socket; NULL if there is none. */
struct proxyproto_begun;

/*
 * Take the header off a connected stream socket, and not one byte more. Returns 1 with *out, whose
 * addresses, if it has any, are those of a TCP connection; 0 if it is not complete: call again when
 * poll(2) says that there is something to read, which it does only when there is enough
 * (SO_RCVLOWAT); -1 with *why if it is not a header, the addresses cannot belong to a host, or the
 * peer has ended. *begun is NULL before the first call, then holds what was received so far; drop
 * it in any case. A socket with SO_OOBINLINE has urgent data in line, and an urgent mark costs
 * nothing.
 */
int proxyproto_receive(int fd, struct proxyproto_begun **begun, struct proxyproto_header *out,
		       struct failure *why);

/* Free what was received so far; *begun is NULL then. */
void proxyproto_drop(struct proxyproto_begun **begun);

/*
 * Write the header in version 1 (a line; TCP only) or 2 (with CRC32C, and UNIQUE_ID if id_length is
 * not 0). Uses version, has_addresses, protocol, source, destination, id. Returns its length.
 */
size_t proxyproto_write(const struct proxyproto_header *header,
			uint8_t buf[PROXYPROTO_WRITTEN_MAX]);

#endif
