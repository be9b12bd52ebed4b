/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * transparent - every fact about TPROXY sockets: listen, accept with the original destination,
 * connect on with the client's address as source.
 *
 * The only place that sets IP_TRANSPARENT, SO_MARK or IP_BIND_ADDRESS_NO_PORT and that asks for
 * SO_ORIGINAL_DST. It knows nothing of event loops and of relaying.
 */
#ifndef TPROXY_SOCKET_TRANSPARENT_H
#define TPROXY_SOCKET_TRANSPARENT_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

/* How an original destination is known; names as in records, see transparent_origin_name(). */
enum transparent_origin {
	ORIGIN_NONE,	  /* a direct connection: nobody redirected it */
	ORIGIN_TPROXY,	  /* getsockname: the local address is where the client wanted to go */
	ORIGIN_REDIRECT,  /* SO_ORIGINAL_DST: conntrack's record of a REDIRECT or DNAT */
	ORIGIN_CONNTRACK, /* asked of conntrack about another process's socket */
	ORIGIN_PROXY,	  /* a PROXY protocol header from an allowed peer */
};

const char *transparent_origin_name(enum transparent_origin origin);

struct transparent_listen_options {
	int backlog;	/* 0: SOMAXCONN */
	bool reuseport; /* SO_REUSEPORT: one listener a thread, or --takeover */
	bool alone;	/* with reuseport: EADDRINUSE where somebody listens already */
	bool redirect;	/* no IP_TRANSPARENT: for REDIRECT, DNAT or direct connections */
	const struct mark
		*mark;	    /* SO_MARK of the listener (inherited by what it accepts), or NULL */
	const char *device; /* SO_BINDTODEVICE, or NULL */
	bool ingress;	    /* let transparent_ingress() tell where accepted connections came in */
	unsigned details;   /* UDP: what is told of each datagram (datagram.h); 0: the usual */
	unsigned keepalive; /* what is accepted has it: see transparent_set_keepalive(); 0: not */
	/* For so many microseconds the ACK of what an accepted socket receives may wait for data
	 * that carries it, from its first segment on; 0: the system's. Without effect before
	 * Linux 6.15 (TCP_DELACK_MAX_US), and where two of its clock ticks are longer: then it
	 * could be 40 ms. */
	int ack_delay;
};

/*
 * Prepare any socket of that family to be bound as a listener, TCP or UDP: SO_REUSEPORT, V6ONLY,
 * IP_TRANSPARENT, SO_MARK and SO_BINDTODEVICE as the options say. Returns 0, or -1 with errno and
 * the refused call.
 */
int transparent_prepare(int fd, int family, const struct transparent_listen_options *options,
			const char **call);

/* Let a socket have foreign addresses; give it a mark (NULL or 0: none). 0, or -1 with errno. */
int transparent_set(int fd, int family);
bool transparent_is_set(int fd, int family);
int transparent_set_mark(int fd, const struct mark *mark);

/* Fill *why with errno, the call and the endpoint that it was about. Returns -1; errno is kept. */
int transparent_fail(struct failure *why, const char *call, const struct endpoint *at);

/*
 * Open a listening TCP socket at the endpoint: non-blocking, close-on-exec, one family (V6ONLY),
 * SO_REUSEADDR, TCP_NODELAY (inherited by what is accepted).
 * Returns the descriptor, or -1 with *why; EADDRINUSE names no owner yet: see
 * listening_describe().
 */
int transparent_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		       struct failure *why);

/*
 * Make an inherited descriptor fit: it must be a listening TCP socket of one of our families. Sets
 * O_NONBLOCK, close-on-exec, what accepted sockets inherit, and IP_TRANSPARENT unless it is set
 * already or options->redirect (the other options belong to whoever opened it). *at is where it
 * listens. Returns 0, or -1 with *why naming what it is instead.
 */
int transparent_adopt(int fd, const struct transparent_listen_options *options, struct endpoint *at,
		      struct failure *why);

/* An accepted connection, and where it was going. fd is the caller's. */
struct transparent_connection {
	int fd;
	struct endpoint client;	 /* from accept4: getpeername may already fail */
	struct endpoint local;	 /* getsockname */
	struct endpoint origdst; /* not set when origin is ORIGIN_NONE */
	enum transparent_origin origin;
	int hops; /* transparent_hops(), where it is asked for; 0: not known */
};

/*
 * Accept one connection (non-blocking, close-on-exec) from a listener bound to `listener`. Returns
 * the descriptor, or -1 with errno, which transparent_accept_verdict() knows the meaning of.
 */
int transparent_accept(int listener_fd, const struct endpoint *listener,
		       struct transparent_connection *out);

/* What to do about an error of transparent_accept(). Poll goes on to say that there is something to
 * accept, unless somebody waits no more: whoever does not stop polling spins. */
enum transparent_accept_verdict {
	ACCEPT_NOBODY, /* nobody is waiting */
	ACCEPT_NEXT,   /* that one connection has failed (accept(2)): there may be others */
	ACCEPT_LACK,   /* no descriptor or memory: stop polling until something is freed */
	ACCEPT_LATER,  /* refused, by a security module perhaps: stop polling for a while */
	ACCEPT_NEVER,  /* it is no listener any more: shut down, or destroyed as by `ss -K' */
};

enum transparent_accept_verdict transparent_accept_verdict(int error);

/*
 * The same of a connection that somebody else has accepted, who knows the listener: makes fd
 * non-blocking and what it would be had it come from a listener with those options. Returns 0, or
 * -1 with *why: why->err is 0 when the descriptor is no TCP connection at all, and ENOTCONN when it
 * is none any more.
 */
int transparent_take(int fd, const struct transparent_listen_options *options,
		     struct transparent_connection *out, struct failure *why);

/*
 * The original destination of a connected socket of ours, which came in at `listener` (unset when
 * it is not known, as under inetd). The rule: a local address that is not the listener's is where
 * the client wanted to go; else what conntrack says (SO_ORIGINAL_DST), if that differs; else the
 * local address, if it is foreign to this host (a port equal to the listener's); else nobody
 * redirected it.
 */
enum transparent_origin transparent_origdst(int fd, const struct endpoint *listener,
					    struct endpoint *origdst);

/*
 * How many hops the client's last segment of the handshake could still have gone, with its own; 0
 * when that is not known. family: the socket's.
 */
int transparent_hops(int fd, int family);

/* The index of the interface through which an accepted connection came in; 0: not known. Needs
 * options.ingress on its listener. */
unsigned transparent_ingress(int fd);

/*
 * Does this host itself have that address (also by a local route to a whole prefix)? Where it
 * cannot be found out (no descriptor left) the answer is yes: to take a foreign address for ours
 * refuses more, never less.
 */
bool transparent_is_local(const struct endpoint *e);

/* Would a connection to e, redirected by nobody, come to that listener? */
bool transparent_is_at(const struct endpoint *listener, const struct endpoint *e);

/* Whose address the upstream leg carries. */
enum transparent_source { SOURCE_CLIENT, SOURCE_CLIENT_ADDR, SOURCE_OWN, SOURCE_ADDR };

struct transparent_connect_options {
	enum transparent_source source;
	struct endpoint address; /* SOURCE_ADDR: that one, any port */
	const struct mark *mark; /* SO_MARK of the upstream leg, or NULL */
	int hops;		 /* TTL, or hop limit, of what is sent; 0: the system's */
	bool keep_dscp;		 /* send with dscp (dscp.h), and note what comes back */
	uint8_t dscp;
};

/* What became of the source; names for `source_kept` by transparent_kept_name(). KEPT_UNKNOWN: NAT
 * may have changed it afterwards. */
enum transparent_kept { KEPT_NO, KEPT_ADDR, KEPT_ADDR_PORT, KEPT_UNKNOWN };

const char *transparent_kept_name(enum transparent_kept kept);

/* What is kept of such a client where the server sees `seen`. */
enum transparent_kept transparent_kept_by(const struct endpoint *client,
					  const struct endpoint *seen);

/* The address that the upstream leg of such a client carries; not set: this host's own choice. */
struct endpoint transparent_source_of(const struct endpoint *client,
				      const struct transparent_connect_options *options);

/*
 * Start connecting to `to` on behalf of `client`. Never goes on after a failed bind: the connection
 * would leave from this host's own address. data_waits: there is something to send as soon
 * as it is established. Non-blocking; the connect is normally still in progress.
 * Returns the descriptor and *kept, or -1 with *why (why->err tells a clash: EADDRINUSE,
 * EADDRNOTAVAIL).
 */
int transparent_connect(const struct endpoint *client, const struct endpoint *to,
			const struct transparent_connect_options *options, bool data_waits,
			enum transparent_kept *kept, struct failure *why);

/* The same for datagrams: a UDP socket bound to that source and connected to `to`. Others may be
 * bound to the same source (SO_REUSEADDR). */
int transparent_connect_udp(const struct endpoint *client, const struct endpoint *to,
			    const struct transparent_connect_options *options,
			    enum transparent_kept *kept, struct failure *why);

/*
 * Would sockets for such connections be allowed at all? To fail at start rather than at each
 * client; of the client only the family counts. Returns 0, or -1 with *why.
 */
int transparent_probe(const struct endpoint *client,
		      const struct transparent_connect_options *options, struct failure *why);

/*
 * After so many seconds without a segment from the peer ask it whether it is there, and when it has
 * not answered TRANSPARENT_PROBES times, a quarter of that apart (at least a second), the socket
 * fails with ETIMEDOUT. Returns 0, or -1 with errno and the refused call.
 */
#define TRANSPARENT_PROBES	  4
#define TRANSPARENT_KEEPALIVE_MAX 32767 /* MAX_TCP_KEEPIDLE in include/net/tcp.h */
int transparent_set_keepalive(int fd, unsigned seconds, const char **call);

/*
 * While it is on, closing the socket is a reset for the peer, also where the kernel closes it
 * because the process was killed (SO_LINGER 0); else the peer then sees an orderly end, unless
 * there was data that had not been read, and takes what it has for all there is.
 */
void transparent_guard(int fd, bool on);

/* Close so that the peer gets a reset instead of an orderly end. errno is kept. */
void transparent_reset(int fd);

#endif
