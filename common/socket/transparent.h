/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * transparent - every fact about TPROXY sockets: listen, accept with the original destination,
 * connect onward with the client's address as source.
 *
 * The only place that sets IP_TRANSPARENT, SO_MARK or IP_BIND_ADDRESS_NO_PORT and that asks for
 * SO_ORIGINAL_DST. It knows nothing about event loops and relaying.
 */
#ifndef TPROXY_SOCKET_TRANSPARENT_H
#define TPROXY_SOCKET_TRANSPARENT_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

/* How an original destination is known; for the names in records see transparent_origin_name(). */
enum transparent_origin {
	ORIGIN_NONE,	  /* a direct connection: nobody redirected it */
	ORIGIN_TPROXY,	  /* getsockname: the local address is where the client wanted to go */
	ORIGIN_REDIRECT,  /* SO_ORIGINAL_DST: conntrack's record of a REDIRECT or DNAT */
	ORIGIN_CONNTRACK, /* from conntrack, for another process's socket */
	ORIGIN_PROXY,	  /* a PROXY protocol header from an allowed peer */
};

const char *transparent_origin_name(enum transparent_origin origin);

struct transparent_listen_options {
	int backlog;	/* 0: SOMAXCONN */
	bool reuseport; /* SO_REUSEPORT: one listener per thread, or --takeover */
	bool alone;	/* with reuseport: EADDRINUSE if somebody already listens */
	bool redirect;	/* no IP_TRANSPARENT: for REDIRECT, DNAT or direct connections */
	const struct mark
		*mark;	    /* SO_MARK of the listener (inherited by what it accepts), or NULL */
	const char *device; /* SO_BINDTODEVICE, or NULL */
	bool ingress;	    /* make transparent_ingress() work for accepted connections */
	unsigned details;   /* UDP: what is reported for each datagram (datagram.h); 0: the usual */
	unsigned keepalive; /* for accepted sockets: see transparent_set_keepalive(); 0: off */
	/* For how many microseconds an accepted socket may delay ACKs, waiting for data that
	 * carries them, from its first segment on; 0: the system's default. No effect before Linux
	 * 6.15 (TCP_DELACK_MAX_US), or if two clock ticks are longer: then it could be 40 ms. */
	int ack_delay;
};

/*
 * Prepare any socket of that family to be bound as a listener, TCP or UDP: SO_REUSEPORT, V6ONLY,
 * IP_TRANSPARENT, SO_MARK and SO_BINDTODEVICE according to the options. Returns 0, or -1 with errno
 * and the refused call.
 */
int transparent_prepare(int fd, int family, const struct transparent_listen_options *options,
			const char **call);

/* Let a socket use foreign addresses; give it a mark (NULL or 0: none). 0, or -1 with errno. */
int transparent_set(int fd, int family);
bool transparent_is_set(int fd, int family);
int transparent_set_mark(int fd, const struct mark *mark);

/* Fill *why with errno, the call and the endpoint. Returns -1; errno is kept. */
int transparent_fail(struct failure *why, const char *call, const struct endpoint *at);

/*
 * Open a listening TCP socket at the endpoint: non-blocking, close-on-exec, one family (V6ONLY),
 * SO_REUSEADDR, TCP_NODELAY (inherited by accepted sockets). Returns the descriptor, or -1 with
 * *why; EADDRINUSE names no owner yet: see listening_describe().
 */
int transparent_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		       struct failure *why);

/*
 * Set up an inherited descriptor: it must be a listening TCP socket of one of our families. Sets
 * O_NONBLOCK, close-on-exec, what accepted sockets inherit, and IP_TRANSPARENT unless it is set
 * already or options->redirect (the other options are up to whoever opened it). *at is its
 * listening address. Returns 0, or -1 with *why naming what it is instead.
 */
int transparent_adopt(int fd, const struct transparent_listen_options *options, struct endpoint *at,
		      struct failure *why);

/* An accepted connection, and where it was going. fd is the caller's. */
struct transparent_connection {
	int fd;
	struct endpoint client;	 /* from accept4: getpeername may already fail */
	struct endpoint local;	 /* getsockname */
	struct endpoint origdst; /* unset if origin is ORIGIN_NONE */
	enum transparent_origin origin;
	int hops; /* transparent_hops(), if requested; 0: unknown */
};

/* Whoever knows the addresses of the host on which a listener listens. */
struct transparent_host {
	bool (*has)(void *context, const struct endpoint *e); /* as transparent_is_local() */
	void *context;
};

/*
 * Accept one connection (non-blocking, close-on-exec) from a listener bound to `listener`. host is
 * NULL if the listener belongs to this thread's network namespace. Returns the descriptor, or -1
 * with errno, which transparent_accept_verdict() interprets.
 */
int transparent_accept(int listener_fd, const struct endpoint *listener,
		       const struct transparent_host *host, struct transparent_connection *out);

/* What to do about an error of transparent_accept(). Poll keeps reporting the listener as readable
 * unless nobody waits any more: a caller that does not stop polling spins. */
enum transparent_accept_verdict {
	ACCEPT_NOBODY, /* nobody is waiting */
	ACCEPT_NEXT,   /* only that connection failed (accept(2)): there may be others */
	ACCEPT_LACK,   /* no descriptor or memory: stop polling until something is freed */
	ACCEPT_LATER,  /* refused, perhaps by a security module: stop polling for a while */
	ACCEPT_NEVER,  /* no longer a listener: shut down, or destroyed as by `ss -K' */
};

enum transparent_accept_verdict transparent_accept_verdict(int error);

/*
 * The same for a connection accepted by somebody else, who knows the listener: makes fd
 * non-blocking and sets what it would have inherited from a listener with those options. Returns 0,
 * or -1 with *why: why->err is 0 if the descriptor is not a TCP connection at all, and ENOTCONN if
 * it no longer is one.
 */
int transparent_take(int fd, const struct transparent_listen_options *options,
		     struct transparent_connection *out, struct failure *why);

/*
 * The original destination of a connected socket of ours, which came in at `listener` (unset if
 * unknown, as under inetd). The rule: a local address that differs from the listener's is where the
 * client wanted to go; else what conntrack says (SO_ORIGINAL_DST), if that differs; else the local
 * address, if it is foreign to this host (a port equal to the listener's); else nobody redirected
 * it.
 */
enum transparent_origin transparent_origdst(int fd, const struct endpoint *listener,
					    struct endpoint *origdst);

/*
 * The TTL, or hop limit, with which the last segment of the client's handshake arrived; 0 if
 * unknown. family: the socket's.
 */
int transparent_hops(int fd, int family);

/* The index of the interface on which an accepted connection came in; 0: unknown. Needs
 * options.ingress on its listener. */
unsigned transparent_ingress(int fd);

/*
 * Does this host itself have that address (or a local route to a prefix that contains it)? If it
 * cannot be found out (no descriptor left), the answer is yes: to take a foreign address for ours
 * refuses more, never less.
 */
bool transparent_is_local(const struct endpoint *e);

/* Would a connection to e that nobody redirects come to that listener? */
bool transparent_is_at(const struct endpoint *listener, const struct endpoint *e);

/* Whose address the upstream leg carries. */
enum transparent_source { SOURCE_CLIENT, SOURCE_CLIENT_ADDR, SOURCE_OWN, SOURCE_ADDR };

struct transparent_connect_options {
	enum transparent_source source;
	struct endpoint address; /* SOURCE_ADDR: that address, any port */
	const struct mark *mark; /* SO_MARK of the upstream leg, or NULL */
	int hops;		 /* TTL or hop limit of what is sent; 0: the system's default */
	bool keep_dscp;		 /* send with dscp (dscp.h), and note received values */
	uint8_t dscp;
};

/* What happened to the source; transparent_kept_name() has the names for `source_kept`.
 * KEPT_UNKNOWN: NAT may have changed it afterwards. */
enum transparent_kept { KEPT_NO, KEPT_ADDR, KEPT_ADDR_PORT, KEPT_UNKNOWN };

const char *transparent_kept_name(enum transparent_kept kept);

/* What is kept of such a client if the server sees `seen`. */
enum transparent_kept transparent_kept_by(const struct endpoint *client,
					  const struct endpoint *seen);

/* The source address of the upstream leg for such a client; unset: this host's own choice. */
struct endpoint transparent_source_of(const struct endpoint *client,
				      const struct transparent_connect_options *options);

/*
 * Start connecting to `to` on behalf of `client`. Never continues after a failed bind: the
 * connection would leave from this host's own address. data_waits: there is data to send as soon as
 * it is established. Non-blocking; the connect is normally still in progress. Returns the
 * descriptor and *kept, or -1 with *why (why->err shows a clash: EADDRINUSE, EADDRNOTAVAIL).
 */
int transparent_connect(const struct endpoint *client, const struct endpoint *to,
			const struct transparent_connect_options *options, bool data_waits,
			enum transparent_kept *kept, struct failure *why);

/* The same for datagrams: a UDP socket bound to that source and connected to `to`. Others may be
 * bound to the same source (SO_REUSEADDR). */
int transparent_connect_udp(const struct endpoint *client, const struct endpoint *to,
			    const struct transparent_connect_options *options,
			    enum transparent_kept *kept, struct failure *why);

/* The same up to the bind: a UDP socket with the options for that source (address and port),
 * neither bound nor connected. Returns the descriptor, or -1 with *why. */
int transparent_open_udp(const struct endpoint *source,
			 const struct transparent_connect_options *options, struct failure *why);

/*
 * Would sockets for such connections be allowed at all? Lets a program fail at start instead of at
 * each client; only the family of the client counts. Returns 0, or -1 with *why.
 */
int transparent_probe(const struct endpoint *client,
		      const struct transparent_connect_options *options, struct failure *why);

/*
 * After this many seconds without a segment from the peer, probe it; if it has not answered
 * TRANSPARENT_PROBES probes, a quarter of that time apart (at least a second), the socket fails
 * with ETIMEDOUT. Returns 0, or -1 with errno and the refused call.
 */
#define TRANSPARENT_PROBES	  4
#define TRANSPARENT_KEEPALIVE_MAX 32767 /* MAX_TCP_KEEPIDLE in include/net/tcp.h */
int transparent_set_keepalive(int fd, unsigned seconds, const char **call);

/*
 * While this is on, closing the socket resets the connection, even if the kernel closes it because
 * the process was killed (SO_LINGER 0). Otherwise the peer would see an orderly end, unless there
 * was unread data, and take what it has for everything.
 */
void transparent_guard(int fd, bool on);

/* Close so that the peer gets a reset instead of an orderly end. errno is kept. */
void transparent_reset(int fd);

#endif
