/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/transparent.h"

#include "base/libc.h"
#include "socket/dscp.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* linux/netfilter_ipv4.h and its IPv6 sister: the same number at both levels. */
#define ORIGINAL_DST 80

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

#ifndef TCP_DELACK_MAX_US
#define TCP_DELACK_MAX_US 46
#endif

const char *transparent_origin_name(enum transparent_origin origin)
{
	static const char *const names[] = {
		[ORIGIN_NONE] = "none",
		[ORIGIN_TPROXY] = "tproxy",
		[ORIGIN_REDIRECT] = "redirect",
		[ORIGIN_CONNTRACK] = "conntrack",
		[ORIGIN_PROXY] = "proxy-protocol",
	};

	return names[origin];
}

const char *transparent_kept_name(enum transparent_kept kept)
{
	static const char *const names[] = {
		[KEPT_NO] = "no",
		[KEPT_ADDR] = "addr",
		[KEPT_ADDR_PORT] = "addr+port",
		[KEPT_UNKNOWN] = "unknown",
	};

	return names[kept];
}

enum transparent_kept transparent_kept_by(const struct endpoint *client,
					  const struct endpoint *seen)
{
	if (!endpoint_same_address(client, seen))
		return KEPT_NO;
	return client->port == seen->port ? KEPT_ADDR_PORT : KEPT_ADDR;
}

/* Close without changing errno, so that the cause of the failure survives. */
static void close_quietly(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
}

int transparent_fail(struct failure *why, const char *call, const struct endpoint *at)
{
	char text[ENDPOINT_TEXT_MAX];
	int saved = errno;

	report_fail(why, saved, call, "%s", endpoint_format(at, text));
	errno = saved;
	return -1;
}

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

/*
 * Both names set the same flag; the level must be the socket's.
 * #syscalls upstream upstream_udp udp raw: setsockopt(SOL_IP, IP_TRANSPARENT)
 * #syscalls upstream upstream_udp udp raw: setsockopt(SOL_IPV6, IPV6_TRANSPARENT)
 */
int transparent_set(int fd, int family)
{
	return family == AF_INET6 ? set_int(fd, SOL_IPV6, IPV6_TRANSPARENT, 1)
				  : set_int(fd, SOL_IP, IP_TRANSPARENT, 1);
}

/* #syscalls tcp: getsockopt */
bool transparent_is_set(int fd, int family)
{
	int value = 0;
	socklen_t size = sizeof(value);

	return getsockopt(fd, family == AF_INET6 ? SOL_IPV6 : SOL_IP,
			  family == AF_INET6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &value,
			  &size) == 0 &&
	       value;
}

/*
 * SO_MARK replaces the whole mark. A new socket's mark is 0, so the bits outside the mask are the
 * same as without us, and a mark of 0 needs no call (and no privilege).
 * #syscalls upstream upstream_udp raw: setsockopt(SOL_SOCKET, SO_MARK)
 */
int transparent_set_mark(int fd, const struct mark *mark)
{
	if (!mark || !mark->value)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark->value, sizeof(mark->value));
}

/*
 * #syscalls upstream: setsockopt(SOL_TCP, TCP_KEEPIDLE), setsockopt(SOL_TCP, TCP_KEEPINTVL)
 * #syscalls upstream: setsockopt(SOL_TCP, TCP_KEEPCNT), setsockopt(SOL_SOCKET, SO_KEEPALIVE)
 */
int transparent_set_keepalive(int fd, unsigned seconds, const char **call)
{
	int interval = seconds >= 4 ? (int)seconds / 4 : 1;

	*call = "setsockopt(TCP_KEEPIDLE)";
	if (set_int(fd, SOL_TCP, TCP_KEEPIDLE, (int)seconds) < 0)
		return -1;
	*call = "setsockopt(TCP_KEEPINTVL)";
	if (set_int(fd, SOL_TCP, TCP_KEEPINTVL, interval) < 0)
		return -1;
	*call = "setsockopt(TCP_KEEPCNT)";
	if (set_int(fd, SOL_TCP, TCP_KEEPCNT, TRANSPARENT_PROBES) < 0)
		return -1;
	*call = "setsockopt(SO_KEEPALIVE)";
	return set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/* What accepted sockets inherit from their listener costs nothing per connection. */
static int set_inherited(int fd, int family, const struct transparent_listen_options *options,
			 const char **call)
{
	*call = "setsockopt(TCP_NODELAY)";
	if (set_int(fd, SOL_TCP, TCP_NODELAY, 1) < 0)
		return -1;
	*call = "setsockopt(SO_OOBINLINE)";
	if (set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1) < 0)
		return -1;
	if (options->keepalive && transparent_set_keepalive(fd, options->keepalive, call) < 0)
		return -1;
	*call = "setsockopt(IP_PKTINFO)";
	if (options->ingress && family == AF_INET && set_int(fd, SOL_IP, IP_PKTINFO, 1) < 0)
		return -1;
	if (options->ingress && family == AF_INET6 &&
	    set_int(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1) < 0)
		return -1;
	return 0;
}

/*
 * A connection begins with quick ACKs, because its sender may have more data than it may send
 * before the first segment is acknowledged: its window is small, or Nagle's algorithm waits.
 * TCP_QUICKACK off turns that off for accepted sockets; listen() resets it, so this comes after
 * listen(). Only done if the kernel limits the delay to a value that is short enough for such a
 * sender.
 */
static void set_ack_delay(int fd, const struct transparent_listen_options *options)
{
	if (options->ack_delay > 0 &&
	    set_int(fd, SOL_TCP, TCP_DELACK_MAX_US, options->ack_delay) == 0)
		set_int(fd, SOL_TCP, TCP_QUICKACK, 0);
}

int transparent_prepare(int fd, int family, const struct transparent_listen_options *options,
			const char **call)
{
	*call = "setsockopt(SO_REUSEPORT)";
	if (options->reuseport && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return -1;
	*call = "setsockopt(IPV6_V6ONLY)";
	if (family == AF_INET6 && set_int(fd, SOL_IPV6, IPV6_V6ONLY, 1) < 0)
		return -1;
	*call = "setsockopt(IP_TRANSPARENT)";
	if (!options->redirect && transparent_set(fd, family) < 0)
		return -1;
	*call = "setsockopt(SO_MARK)";
	if (transparent_set_mark(fd, options->mark) < 0)
		return -1;
	*call = "setsockopt(SO_BINDTODEVICE)";
	if (options->device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options->device,
					  strlen(options->device) + 1) < 0)
		return -1;
	return 0;
}

/* Everything between socket() and bind(); on failure *call is the refused call. */
static int prepare_listener(int fd, int family, const struct transparent_listen_options *options,
			    const char **call)
{
	*call = "setsockopt(SO_REUSEADDR)";
	if (set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0)
		return -1;
	if (transparent_prepare(fd, family, options, call) < 0)
		return -1;
	return set_inherited(fd, family, options, call);
}

/*
 * SO_REUSEPORT silently lets listeners of the same user share an endpoint. A bind() without it
 * fails with EADDRINUSE, in spite of SO_REUSEADDR, exactly when somebody listens there.
 */
static int check_alone(const struct endpoint *at, const struct transparent_listen_options *options,
		       struct failure *why)
{
	struct transparent_listen_options plain = *options;
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(at, &address);
	const char *call = "socket";
	int fd = socket(at->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	plain.reuseport = false;
	if (fd < 0 || prepare_listener(fd, at->family, &plain, &call) < 0)
		goto fail;
	call = "bind";
	if (bind(fd, &address.sa, length) < 0)
		goto fail;
	close(fd);
	return 0;
fail:
	if (fd >= 0)
		close_quietly(fd);
	return transparent_fail(why, call, at);
}

int transparent_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		       struct failure *why)
{
	union endpoint_sockaddr address;
	socklen_t length = endpoint_to_sockaddr(at, &address);
	const char *call = "socket";
	int fd;

	if (options->reuseport && options->alone && check_alone(at, options, why) < 0)
		return -1;
	fd = socket(at->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return transparent_fail(why, call, at);
	if (prepare_listener(fd, at->family, options, &call) < 0)
		goto fail;
	call = "bind";
	if (bind(fd, &address.sa, length) < 0)
		goto fail;
	call = "listen";
	if (listen(fd, options->backlog ? options->backlog : SOMAXCONN) < 0)
		goto fail;
	set_ack_delay(fd, options);
	return fd;
fail:
	close_quietly(fd);
	return transparent_fail(why, call, at);
}

/* #syscalls tcp: getsockopt */
static int get_int(int fd, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

/* What the descriptor is, if it is not a TCP socket of IPv4 or IPv6; else NULL. */
static const char *unfit_socket(int fd)
{
	int domain = get_int(fd, SO_DOMAIN);

	if (domain < 0)
		return fcntl(fd, F_GETFD) < 0 ? "is not open" : "is not a socket";
	if (domain != AF_INET && domain != AF_INET6)
		return "is a socket of another family than IPv4 and IPv6";
	if (get_int(fd, SO_TYPE) != SOCK_STREAM || get_int(fd, SO_PROTOCOL) != IPPROTO_TCP)
		return "is not a TCP socket";
	return NULL;
}

static const char *unfit_listener(int fd)
{
	const char *unfit = unfit_socket(fd);

	return !unfit && get_int(fd, SO_ACCEPTCONN) != 1 ? "is not a listening socket" : unfit;
}

int transparent_adopt(int fd, const struct transparent_listen_options *options, struct endpoint *at,
		      struct failure *why)
{
	const char *unfit = unfit_listener(fd), *call = "setsockopt(IP_TRANSPARENT)";
	int family = unfit ? AF_UNSPEC : get_int(fd, SO_DOMAIN);
	int flags = fcntl(fd, F_GETFL);

	if (unfit) {
		report_refuse(why, "%s", unfit);
		return report_about(why, "inherited descriptor %d", fd);
	}
	*at = endpoint_local_of(fd);
	if (!options->redirect && !transparent_is_set(fd, family) &&
	    transparent_set(fd, family) < 0)
		return transparent_fail(why, call, at);
	if (set_inherited(fd, family, options, &call) < 0)
		return transparent_fail(why, call, at);
	set_ack_delay(fd, options);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return transparent_fail(why, "fcntl", at);
	return 0;
}

/*
 * conntrack's answer; the level is that of the packets, even on a dual-stack socket.
 * #syscalls tcp: getsockopt
 */
static bool original_of(int fd, const struct endpoint *local, struct endpoint *original)
{
	union endpoint_sockaddr address;
	socklen_t length = sizeof(address);

	if (getsockopt(fd, local->family == AF_INET6 ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, &address,
		       &length) < 0)
		return false;
	*original = endpoint_from_sockaddr(&address, length);
	return endpoint_is_set(original);
}

/*
 * #syscalls tcp udp upstream: socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0), bind
 */
bool transparent_is_local(const struct endpoint *e)
{
	union endpoint_sockaddr address;
	struct endpoint probe = *e;
	socklen_t length;
	bool local;
	int fd;

	probe.port = 0;
	length = endpoint_to_sockaddr(&probe, &address);
	fd = socket(e->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true;
	/* Without IP_TRANSPARENT, bind() only takes addresses of this host. With ip_nonlocal_bind
	 * it takes all; then foreign ones count as ours too. */
	local = bind(fd, &address.sa, length) == 0 || errno != EADDRNOTAVAIL;
	close(fd);
	return local;
}

bool transparent_is_at(const struct endpoint *listener, const struct endpoint *e)
{
	if (listener->port != e->port || listener->family != e->family)
		return false;
	return endpoint_same_address(listener, e) ||
	       (endpoint_is_any(listener) && transparent_is_local(e));
}

/* Can a connection with this local end have been addressed to the listener itself? */
static bool is_at_listener(const struct endpoint *local, const struct endpoint *listener)
{
	if (!listener || !endpoint_is_set(listener))
		return true;
	return local->port == listener->port &&
	       (endpoint_is_any(listener) || endpoint_same_address(local, listener));
}

static bool is_of_host(const struct transparent_host *host, const struct endpoint *e)
{
	return host ? host->has(host->context, e) : transparent_is_local(e);
}

static enum transparent_origin origin_of(int fd, const struct endpoint *local,
					 const struct endpoint *listener,
					 const struct transparent_host *host,
					 struct endpoint *origdst)
{
	*origdst = *local;
	if (!is_at_listener(local, listener))
		return ORIGIN_TPROXY;
	if (original_of(fd, local, origdst) && !endpoint_equal(origdst, local))
		return ORIGIN_REDIRECT;
	*origdst = *local;
	if (transparent_is_set(fd, get_int(fd, SO_DOMAIN)) && !is_of_host(host, local))
		return ORIGIN_TPROXY;
	*origdst = (struct endpoint){ 0 };
	return ORIGIN_NONE;
}

enum transparent_origin transparent_origdst(int fd, const struct endpoint *listener,
					    struct endpoint *origdst)
{
	struct endpoint local = endpoint_local_of(fd);

	*origdst = (struct endpoint){ 0 };
	return endpoint_is_set(&local) ? origin_of(fd, &local, listener, NULL, origdst)
				       : ORIGIN_NONE;
}

/* #syscalls tcp: accept4 */
int transparent_accept(int listener_fd, const struct endpoint *listener,
		       const struct transparent_host *host, struct transparent_connection *out)
{
	union endpoint_sockaddr address;
	socklen_t length = sizeof(address);

	out->fd = TEMP_FAILURE_RETRY(
		accept4(listener_fd, &address.sa, &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
	if (out->fd < 0)
		return -1;
	/* After a reset that came before accept, getpeername fails but accept4 still knows the
	 * client. */
	out->client = endpoint_from_sockaddr(&address, length);
	out->local = endpoint_local_of(out->fd);
	out->origin = origin_of(out->fd, &out->local, listener, host, &out->origdst);
	out->hops = 0;
	return out->fd;
}

enum transparent_accept_verdict transparent_accept_verdict(int error)
{
	if (report_shortage(error))
		return ACCEPT_LACK;
	switch (error) {
	case EAGAIN:
		return ACCEPT_NOBODY;
	case ECONNABORTED:
	case EPROTO:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case ENOPROTOOPT:
		return ACCEPT_NEXT;
	case EINVAL:
	case EBADF:
	case ENOTSOCK:
	case EOPNOTSUPP:
		return ACCEPT_NEVER;
	default:
		return ACCEPT_LATER;
	}
}

int transparent_take(int fd, const struct transparent_listen_options *options,
		     struct transparent_connection *out, struct failure *why)
{
	union endpoint_sockaddr address;
	socklen_t length = sizeof(address);
	const char *unfit = unfit_socket(fd), *call = "fcntl";

	*out = (struct transparent_connection){ .fd = fd };
	if (!unfit && get_int(fd, SO_ACCEPTCONN) == 1)
		unfit = "is a listening socket, not a connection";
	if (unfit)
		return report_refuse(why, "%s", unfit);
	if (getpeername(fd, &address.sa, &length) < 0)
		return report_fail(why, errno, "getpeername", "fd %d", fd);
	out->client = endpoint_from_sockaddr(&address, length);
	out->local = endpoint_local_of(fd);
	out->origin = origin_of(fd, &out->local, NULL, NULL, &out->origdst);
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
	    set_inherited(fd, out->local.family, options, &call) < 0)
		return transparent_fail(why, call, &out->client);
	set_ack_delay(fd, options);
	return 0;
}

/*
 * IP_PKTOPTIONS on a TCP socket returns control messages like recvmsg(), among them IP_PKTINFO with
 * the interface of the segment that completed the handshake. If it is missing, *info is unchanged.
 */
static void get_packet_info(int fd, int level, int options, int type, void *info, size_t size)
{
	union {
		char bytes[256];
		struct cmsghdr align;
	} buffer;
	socklen_t length = sizeof(buffer);
	struct msghdr message = { .msg_control = &buffer };

	if (getsockopt(fd, level, options, &buffer, &length) < 0)
		return;
	message.msg_controllen = length;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == level && c->cmsg_type == type && c->cmsg_len >= CMSG_LEN(size))
			memcpy(info, CMSG_DATA(c), size);
}

unsigned transparent_ingress(int fd)
{
	struct in_pktinfo v4 = { 0 };
	struct in6_pktinfo v6 = { 0 };

	if (get_int(fd, SO_DOMAIN) == AF_INET6)
		get_packet_info(fd, SOL_IPV6, IPV6_2292PKTOPTIONS, IPV6_PKTINFO, &v6, sizeof(v6));
	else
		get_packet_info(fd, SOL_IP, IP_PKTOPTIONS, IP_PKTINFO, &v4, sizeof(v4));
	return v6.ipi6_ifindex ? v6.ipi6_ifindex : (unsigned)v4.ipi_ifindex;
}

/*
 * The same, in the kernel's documented way.
 * #syscalls tcp: setsockopt(SOL_IP, IP_RECVTTL), setsockopt(SOL_IPV6, IPV6_RECVHOPLIMIT)
 */
static int told_hops(int fd, bool v6)
{
	int hops = 0;

	set_int(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVHOPLIMIT : IP_RECVTTL, 1);
	if (v6)
		get_packet_info(fd, SOL_IPV6, IPV6_2292PKTOPTIONS, IPV6_HOPLIMIT, &hops,
				sizeof(hops));
	else
		get_packet_info(fd, SOL_IP, IP_PKTOPTIONS, IP_TTL, &hops, sizeof(hops));
	set_int(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVHOPLIMIT : IP_RECVTTL, 0);
	return hops;
}

/*
 * A TCP connection has no multicast groups, so the kernel stores the TTL of the handshake where
 * other sockets have their multicast TTL (tcp_v4_syn_recv_sock(), tcp_v6_syn_recv_sock()). One call
 * reads it, whereas IP_RECVTTL would make the kernel clone each IPv6 segment. 1 is also a socket's
 * default.
 * #syscalls tcp: getsockopt
 */
int transparent_hops(int fd, int family)
{
	bool v6 = family == AF_INET6;
	int hops = 0;
	socklen_t size = sizeof(hops);

	if (getsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL,
		       &hops, &size) < 0)
		return 0;
	return hops == 1 ? told_hops(fd, v6) : hops;
}

struct endpoint transparent_source_of(const struct endpoint *client,
				      const struct transparent_connect_options *options)
{
	struct endpoint source = *client;

	switch (options->source) {
	case SOURCE_CLIENT:
		break;
	case SOURCE_CLIENT_ADDR:
		source.port = 0;
		break;
	case SOURCE_ADDR:
		source = options->address;
		source.port = 0;
		break;
	case SOURCE_OWN:
		source = (struct endpoint){ 0 };
		break;
	}
	return source;
}

static enum transparent_kept kept_of(const struct endpoint *source,
				     const struct transparent_connect_options *options)
{
	if (options->source == SOURCE_OWN || options->source == SOURCE_ADDR)
		return KEPT_NO;
	return source->port ? KEPT_ADDR_PORT : KEPT_ADDR;
}

/* #syscalls upstream: setsockopt(SOL_IP, IP_TTL), setsockopt(SOL_IPV6, IPV6_UNICAST_HOPS) */
static int set_hops(int fd, int family, int hops)
{
	return family == AF_INET6 ? set_int(fd, SOL_IPV6, IPV6_UNICAST_HOPS, hops)
				  : set_int(fd, SOL_IP, IP_TTL, hops);
}

/*
 * #syscalls upstream: setsockopt(SOL_SOCKET, SO_OOBINLINE)
 * #syscalls upstream upstream_udp: setsockopt(SOL_SOCKET, SO_REUSEADDR)
 * #syscalls upstream upstream_udp: setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT)
 */
static int prepare_upstream(int fd, int type, int family, const struct endpoint *source,
			    const struct transparent_connect_options *options, const char **call)
{
	/* Set before the first byte: urgent data that is read without it loses its byte. */
	*call = "setsockopt(SO_OOBINLINE)";
	if (type == SOCK_STREAM && set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1) < 0)
		return -1;
	*call = "setsockopt(SO_MARK)";
	if (transparent_set_mark(fd, options->mark) < 0)
		return -1;
	*call = "setsockopt(IP_TTL)";
	if (options->hops && set_hops(fd, family, options->hops) < 0)
		return -1;
	if (!endpoint_is_set(source))
		return 0;
	*call = "setsockopt(IP_TRANSPARENT)";
	if (transparent_set(fd, source->family) < 0)
		return -1;
	/* One client port may go to many servers, so bind() requires that all sharers have
	 * SO_REUSEADDR. Any port: chosen at connect, per destination rather than in total. */
	*call = source->port ? "setsockopt(SO_REUSEADDR)" : "setsockopt(IP_BIND_ADDRESS_NO_PORT)";
	return source->port ? set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
			    : set_int(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
}

int transparent_probe(const struct endpoint *client,
		      const struct transparent_connect_options *options, struct failure *why)
{
	struct endpoint source = transparent_source_of(client, options);
	const char *call = "socket";
	int fd = socket(client->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 ||
	    prepare_upstream(fd, SOCK_STREAM, client->family, &source, options, &call) < 0) {
		report_fail(why, errno, call, "upstream socket");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

/* What the kernel means by it: the error distinguishes the types of routes (fib_props). */
static int explain_connect(struct failure *why)
{
	if (why->err == EINVAL)
		report_detail(why, "a blackhole route leads there");
	if (why->err == EACCES)
		report_detail(why, "a prohibit route leads there, or a security module forbids it");
	return -1;
}

/* A new socket sends 0. */
static void prepare_dscp(int fd, const struct endpoint *to,
			 const struct transparent_connect_options *options)
{
	if (to->family == AF_INET6)
		dscp_expect(fd);
	if (options->dscp)
		dscp_set(fd, options->dscp);
}

/*
 * One attempt with exactly that source.
 * #syscalls upstream: socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET6, SOCK_STREAM, 0)
 * #syscalls upstream_udp: socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0)
 * #syscalls upstream upstream_udp: bind, connect
 * #syscalls upstream: setsockopt(SOL_TCP, TCP_QUICKACK)
 */
static int connect_from(int type, const struct endpoint *source, const struct endpoint *to,
			const struct transparent_connect_options *options, bool data_waits,
			struct failure *why)
{
	union endpoint_sockaddr address;
	socklen_t length;
	const char *call = "socket";
	const struct endpoint *subject = to;
	int fd = socket(to->family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return transparent_fail(why, call, to);
	if (prepare_upstream(fd, type, to->family, source, options, &call) < 0)
		goto fail;
	if (endpoint_is_set(source)) {
		call = "bind";
		length = endpoint_to_sockaddr(source, &address);
		subject = source;
		if (bind(fd, &address.sa, length) < 0)
			goto fail;
	}
	if (options->keep_dscp && type == SOCK_STREAM)
		prepare_dscp(fd, to, options);
	/* The client has spoken already: let the last segment of the handshake wait for that data.
	 * Without data to follow, this would delay a server that speaks first. */
	if (data_waits)
		set_int(fd, SOL_TCP, TCP_QUICKACK, 0);
	call = "connect";
	subject = to;
	length = endpoint_to_sockaddr(to, &address);
	if (connect(fd, &address.sa, length) == 0 || errno == EINPROGRESS)
		return fd;
	close_quietly(fd);
	transparent_fail(why, call, subject);
	return explain_connect(why);
fail:
	close_quietly(fd);
	return transparent_fail(why, call, subject);
}

static int connect_for(int type, const struct endpoint *client, const struct endpoint *to,
		       const struct transparent_connect_options *options, bool data_waits,
		       enum transparent_kept *kept, struct failure *why)
{
	struct endpoint source = transparent_source_of(client, options);
	char text[ENDPOINT_TEXT_MAX];
	int fd;

	*kept = kept_of(&source, options);
	if (endpoint_is_set(&source) && source.family != to->family) {
		errno = EAFNOSUPPORT;
		transparent_fail(why, "bind", &source);
		return report_detail(why, "%s is of the other address family",
				     endpoint_format(to, text));
	}
	fd = connect_from(type, &source, to, options, data_waits, why);
	if (fd < 0 && source.port && (why->err == EADDRINUSE || why->err == EADDRNOTAVAIL) &&
	    transparent_is_local(&source))
		report_hint(why, "the client is on this host, and its own socket holds the port: "
				 "use --source client-addr");
	return fd;
}

int transparent_connect(const struct endpoint *client, const struct endpoint *to,
			const struct transparent_connect_options *options, bool data_waits,
			enum transparent_kept *kept, struct failure *why)
{
	return connect_for(SOCK_STREAM, client, to, options, data_waits, kept, why);
}

int transparent_connect_udp(const struct endpoint *client, const struct endpoint *to,
			    const struct transparent_connect_options *options,
			    enum transparent_kept *kept, struct failure *why)
{
	return connect_for(SOCK_DGRAM, client, to, options, false, kept, why);
}

/* #syscalls upstream_udp: socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0) */
int transparent_open_udp(const struct endpoint *source,
			 const struct transparent_connect_options *options, struct failure *why)
{
	const char *call = "socket";
	int fd = socket(source->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 &&
	    prepare_upstream(fd, SOCK_DGRAM, source->family, source, options, &call) == 0)
		return fd;
	transparent_fail(why, call, source);
	if (fd >= 0)
		close_quietly(fd);
	return -1;
}

/* #syscalls tcp upstream: setsockopt(SOL_SOCKET, SO_LINGER) */
void transparent_guard(int fd, bool on)
{
	struct linger linger = { .l_onoff = on, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void transparent_reset(int fd)
{
	int saved = errno;

	transparent_guard(fd, true);
	close(fd);
	errno = saved;
}
