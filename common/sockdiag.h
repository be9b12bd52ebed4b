/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockdiag - the kernel's own list of sockets (NETLINK_SOCK_DIAG): dump, look up, destroy.
 *
 * Facts: per-family dumps only (AF_UNSPEC fails); TIME_WAIT and SYN_RECV carry no socket options and
 * inode 0; the mark is told only with CAP_NET_ADMIN; a dump that was interrupted (NLM_F_DUMP_INTR) is
 * repeated. libnl-3 carries the messages; libnl-idiag lacks what is needed here.
 */
#ifndef TPROXY_SOCKDIAG_H
#define TPROXY_SOCKDIAG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "endpoint.h"
#include "report.h"

/* What the kernel says of the transparent flag. */
enum sockdiag_flag { SOCKDIAG_NO, SOCKDIAG_YES, SOCKDIAG_UNKNOWN };

/* One socket as the kernel describes it. */
struct sockdiag_socket {
	int family;   /* AF_INET, AF_INET6 */
	int protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	int state;    /* TCP_ESTABLISHED ... (netinet/tcp.h) */
	struct endpoint local, peer;
	uint32_t interface; /* bound device's index, 0 none */
	uint32_t mark;	    /* valid when has_mark */
	bool has_mark;
	enum sockdiag_flag transparent;
	uint64_t cookie;
	uint32_t inode; /* 0: no owner (TIME_WAIT, SYN_RECV, orphan) */
	uid_t uid;
	uint32_t rqueue, wqueue; /* bytes; of a listener: waiting connections and backlog */
};

/* What to dump. Zeroed lists everything of TCP in both families but for states (use ~0). */
struct sockdiag_filter {
	int family;	 /* AF_UNSPEC: both */
	int protocol;	 /* IPPROTO_TCP or IPPROTO_UDP */
	uint32_t states; /* bits 1 << TCP_* */
};

/* An open channel to the network namespace it was opened in. */
struct sockdiag;
struct sockdiag *sockdiag_open(struct failure *why);
void sockdiag_close(struct sockdiag *diag);

/* Called for each socket; a return other than 0 ends the dump and is returned by it. */
typedef int sockdiag_visitor(const struct sockdiag_socket *s, void *context);

/* Returns 0 when all have been seen, the visitor's non-zero value, or -1 with *why. */
int sockdiag_dump(struct sockdiag *diag, const struct sockdiag_filter *filter,
		  sockdiag_visitor *visit, void *context, struct failure *why);

/*
 * The kernel's own lookup for a packet from `source` to `destination` that came in at interface
 * (0: none): the established socket, else the listener. Returns 1 found, 0 none, -1 with *why.
 */
int sockdiag_lookup(struct sockdiag *diag, int protocol, const struct endpoint *source,
		    const struct endpoint *destination, uint32_t interface,
		    struct sockdiag_socket *out, struct failure *why);

/* End that socket with a reset to its peer (CAP_NET_ADMIN). 0; -1 with *why (ENOENT: already gone). */
int sockdiag_destroy(struct sockdiag *diag, const struct sockdiag_socket *s, struct failure *why);

/* Longest `name` and its end. */
#define SOCKDIAG_NAME_MAX 16

/* A process that holds a socket. */
struct sockdiag_owner {
	pid_t pid;
	int fd;
	char name[SOCKDIAG_NAME_MAX];
};

/*
 * Which processes hold which socket: a snapshot of /proc by inode, of the processes that this user
 * may look into. sockdiag_owner() returns the first holder of the inode or NULL.
 */
struct sockdiag_owners;
struct sockdiag_owners *sockdiag_owners_read(struct failure *why);
const struct sockdiag_owner *sockdiag_owner(const struct sockdiag_owners *owners, uint32_t inode);
void sockdiag_owners_free(struct sockdiag_owners *owners);

/* Who listens at that endpoint (exactly, or on any address with its port): for messages about
 * EADDRINUSE. Writes `nginx (pid 123)` or `another process`; returns buf. */
const char *sockdiag_describe_listener(int protocol, const struct endpoint *at, char *buf, size_t size);

/* `ESTAB`, `LISTEN`, ... as ss(8) prints them, and back (0: unknown). */
const char *sockdiag_state_name(int state);
int sockdiag_state_parse(const char *name);

#endif
