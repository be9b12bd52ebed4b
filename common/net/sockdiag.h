/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockdiag - the kernel's own list of sockets (NETLINK_SOCK_DIAG): dump, look up, destroy.
 *
 * Facts: only dumps of one family work (AF_UNSPEC fails); TIME_WAIT and SYN_RECV have no socket
 * options and inode 0; the mark is reported only with CAP_NET_ADMIN. A dump is not a snapshot:
 * inet_diag keeps no generation, so a socket that moves between hash chains meanwhile may be seen
 * twice or not at all. SOCK_BINDPORT_LOCK shows which side opened a connection: sk_clone_lock()
 * clears it in sockets that accept() returns, and bind() to a port sets it; only a filter can ask
 * for it (INET_DIAG_BC_AUTO). libnl-3 builds and parses the messages; libnl-idiag lacks what is
 * needed here.
 */
#ifndef TPROXY_NET_SOCKDIAG_H
#define TPROXY_NET_SOCKDIAG_H

#include "base/endpoint.h"
#include "base/report.h"
#include "net/sockfilter.h"
#include "net/tcpinfo.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What the kernel says about the transparent flag. */
enum sockdiag_flag { SOCKDIAG_NO, SOCKDIAG_YES, SOCKDIAG_UNKNOWN };

/* One socket as the kernel describes it. */
struct sockdiag_socket {
	int family;   /* AF_INET, AF_INET6; an AF_INET6 socket may have IPv4 endpoints (mapped) */
	int protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	int state;    /* TCP_ESTABLISHED ... (netinet/tcp.h) */
	struct endpoint local, peer;
	bool dual_stack;    /* an unconnected AF_INET6 socket that also takes IPv4 */
	uint32_t interface; /* bound device's index, 0 none */
	uint32_t mark;	    /* valid when has_mark */
	bool has_mark;
	enum sockdiag_flag transparent;
	bool late_port; /* IP_BIND_ADDRESS_NO_PORT: bound to an address, port chosen by connect() */
	uint64_t cookie;
	uint32_t inode; /* 0: no owner (TIME_WAIT, SYN_RECV, orphan) */
	uid_t uid;
	uint8_t retransmits; /* of the segment that has waited longest for its acknowledgement */
	uint32_t rqueue, wqueue; /* bytes; of a listener: waiting connections and backlog */
	struct tcpinfo
		tcp; /* of a TCP socket that was looked up, or dumped with `info`; else zeroed */
};

/* Bound sockets that are neither connected nor listening are listed as UNCONN, and requested by a
 * state of their own (TCPF_BOUND_INACTIVE, since Linux 6.8). */
#define SOCKDIAG_BOUND_INACTIVE (1u << 13)

/* What to dump. */
struct sockdiag_filter {
	int family;	 /* AF_UNSPEC: both */
	int protocol;	 /* IPPROTO_TCP or IPPROTO_UDP */
	uint32_t states; /* bits 1 << TCP_*; 0 matches nothing, ~0 every state */
	bool mixed;	 /* TCP, both families: connections in any order, at half the cost */
	bool bound;	 /* only those explicitly bound to a port: none that accept() returned */
	bool info;	 /* fill in `tcp` too */
	const struct sockfilter *only; /* NULL: no further condition (not with `bound`) */
};

/* An open channel to the network namespace in which it was opened. */
struct sockdiag;
struct sockdiag *sockdiag_open(struct failure *why);
void sockdiag_close(struct sockdiag *diag);

/* Called for each socket; a non-zero return ends the visit and the dump returns it. The visitor may
 * not use the same channel. */
typedef int sockdiag_visitor(const struct sockdiag_socket *s, void *context);

/* Parse a message that describes a socket of that protocol, from a dump or an event. False: it does
 * not. */
struct nlmsghdr;
bool sockdiag_parse(struct nlmsghdr *message, int protocol, struct sockdiag_socket *s);

/* Returns 0 when all have been visited, the visitor's non-zero value, or -1 with *why. */
int sockdiag_dump(struct sockdiag *diag, const struct sockdiag_filter *filter,
		  sockdiag_visitor *visit, void *context, struct failure *why);

/*
 * The kernel's own lookup for a packet from `source` to `destination` that came in at interface
 * (0: none): the established socket, else the listener. Returns 1 found, 0 none, -1 with *why.
 */
int sockdiag_lookup(struct sockdiag *diag, int protocol, const struct endpoint *source,
		    const struct endpoint *destination, uint32_t interface,
		    struct sockdiag_socket *out, struct failure *why);

/* The connected socket with these two ends, even if it is bound to an interface (for that the
 * kernel walks through all sockets). Returns 1 found, 0 none, -1 with *why. */
int sockdiag_find(struct sockdiag *diag, int protocol, const struct endpoint *local,
		  const struct endpoint *peer, struct sockdiag_socket *out, struct failure *why);

/* Close that socket with a reset to its peer (CAP_NET_ADMIN). 0; -1 with *why (ENOENT: already
 * gone). */
int sockdiag_destroy(struct sockdiag *diag, const struct sockdiag_socket *s, struct failure *why);

/* `ESTAB`, `LISTEN`, ... as ss(8) prints them, and back; the parser also takes ss's filter words
 * (`established`, `listening`), in upper or lower case. 0: unknown. */
const char *sockdiag_state_name(int state);
int sockdiag_state_parse(const char *name);

#endif
