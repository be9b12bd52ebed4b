/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * endpoint - where packets come from and go to, as values: address + port, CIDR, port ranges.
 *
 * The only parser and the only printer of addresses in the toolkit. Nothing here asks the DNS.
 * IPv4-mapped IPv6 addresses become IPv4 addresses on input, so that one connection has one
 * spelling (our listeners are always of one family: IPV6_V6ONLY).
 */
#ifndef TPROXY_BASE_ENDPOINT_H
#define TPROXY_BASE_ENDPOINT_H

#include "base/report.h"
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* An address and a port. A zeroed one is unset (family AF_UNSPEC). The port is in host order. */
struct endpoint {
	sa_family_t family; /* AF_INET, AF_INET6, or AF_UNSPEC for none */
	uint16_t port;
	uint32_t scope; /* interface index of a link-local IPv6 address, else 0 */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} addr;
};

/* Any address that this toolkit takes from or passes to a socket call. */
union endpoint_sockaddr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_storage storage;
};

/* An address prefix; bits past the length are zero. Family AF_UNSPEC matches nothing. */
struct cidr {
	sa_family_t family;
	uint8_t length;
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} addr;
};

/* Ports first..last, inclusive. */
struct port_range {
	uint16_t first, last;
};

/* Growing lists; a zeroed one is empty. The owner calls endpoint_*_free(). */
struct endpoint_list {
	struct endpoint *at;
	size_t count;
};
struct cidr_list {
	struct cidr *at;
	size_t count;
};
struct port_list {
	struct port_range *at;
	size_t count;
};

/* `[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%0123456789abcde]:65535` and its \0. */
#define ENDPOINT_TEXT_MAX 80

/* What a bare PORT means: loopback of both families, or any address of both families. */
enum endpoint_bare { ENDPOINT_BARE_LOOPBACK, ENDPOINT_BARE_ANY };

/*
 * Parse one endpoint with an explicit address: `192.0.2.1:80`, `[2001:db8::1]:80`,
 * `[fe80::1%eth0]:80`. Port 0 is refused. Returns 0, or -1 with *why->detail saying what would be
 * right.
 */
int endpoint_parse(const char *text, struct endpoint *out, struct failure *why);

/*
 * Like endpoint_parse(), but also takes `PORT` and `*:PORT`, which stand for both families; appends
 * one or two endpoints (IPv4 first) to *list. ENOMEM is reported like any failure.
 */
int endpoint_parse_listener(const char *text, enum endpoint_bare bare, struct endpoint_list *list,
			    struct failure *why);

/* Parse a bare address without port or prefix; the port of *out is 0. */
int endpoint_parse_address(const char *text, struct endpoint *out, struct failure *why);

/* Parse `192.0.2.0/24`, `2001:db8::/32`, or an address (full length). Set host bits are refused,
 * and the message names them. */
int endpoint_parse_cidr(const char *text, struct cidr *out, struct failure *why);

/* `80,443,8000-8100`: appends, then sorts and merges the list. Ports 1..65535. */
int endpoint_parse_ports(const char *text, struct port_list *list, struct failure *why);

/* Its address alone as a prefix, of full length. */
struct cidr endpoint_host_cidr(const struct endpoint *e);

/* Append a copy. 0, or -1 with *why when out of memory. */
int endpoint_list_add(struct endpoint_list *list, const struct endpoint *e, struct failure *why);
int endpoint_cidr_add(struct cidr_list *list, const struct cidr *c, struct failure *why);

/* Sort by family, address, length; drop prefixes that another one covers and join adjacent
 * halves. */
void endpoint_cidr_merge(struct cidr_list *list);

void endpoint_list_free(struct endpoint_list *list);
void endpoint_cidr_free(struct cidr_list *list);

/* endpoint_ports_add() appends a range; endpoint_ports_merge() sorts the list and joins ranges that
 * overlap or adjoin. Merge once, after the last add: endpoint_parse_ports() merges on each call,
 * which is slow when each element is a list of its own. 0, or -1 with *why. */
int endpoint_ports_add(struct port_list *list, const struct port_range *range, struct failure *why);
void endpoint_ports_merge(struct port_list *list);
void endpoint_ports_free(struct port_list *list);

/* Text that endpoint_parse() reads; `*:80` for the IPv4 any address, `[::]:80` for the IPv6 one,
 * `-` for an unset endpoint. Returns buf. */
const char *endpoint_format(const struct endpoint *e, char buf[ENDPOINT_TEXT_MAX]);

/* The address alone, with %scope if it has one. Returns buf. */
const char *endpoint_format_address(const struct endpoint *e, char buf[ENDPOINT_TEXT_MAX]);

/* The name of the interface with that index, like if_indextoname(3); works in the sandbox too.
 * NULL: no such interface. */
char *endpoint_interface_name(unsigned index, char name[IF_NAMESIZE]);

/* From now on the indexes are those of this thread's present network namespace, whatever namespace
 * the thread that formats an endpoint is in. Call it once, while there is one thread. Returns 0, or
 * -1 with errno. */
int endpoint_pin_interfaces(void);
const char *endpoint_format_cidr(const struct cidr *c, char buf[ENDPOINT_TEXT_MAX]);

/* Convert from and to socket addresses. An unknown family or a short length gives an unset
 * endpoint. */
struct endpoint endpoint_from_sockaddr(const void *sa, socklen_t length);
socklen_t endpoint_to_sockaddr(const struct endpoint *e, union endpoint_sockaddr *out);

/* A socket's own address and its peer's; unset if it has none or is not a socket of our
 * families. */
struct endpoint endpoint_local_of(int fd);
struct endpoint endpoint_peer_of(int fd);

/* Same address and port (and scope); same address whatever the port; total order for sorting. */
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b);
int endpoint_compare(const struct endpoint *a, const struct endpoint *b);

/* Is the endpoint set; is its address 0.0.0.0 or ::; is it in 127/8 or ::1; is it multicast or
 * 255.255.255.255? */
bool endpoint_is_set(const struct endpoint *e);
bool endpoint_is_any(const struct endpoint *e);
bool endpoint_is_loopback(const struct endpoint *e);
bool endpoint_is_multicast(const struct endpoint *e);

/* Does the prefix contain the address; does any prefix of the list (an empty list contains
 * nothing)? */
bool endpoint_in_cidr(const struct endpoint *e, const struct cidr *c);
bool endpoint_in_cidrs(const struct endpoint *e, const struct cidr_list *list);
/* Does the list have a prefix of that family? */
bool endpoint_cidrs_have(const struct cidr_list *list, sa_family_t family);
/* endpoint_in_cidrs() for a list that endpoint_cidr_merge() has sorted: logarithmic in its
 * length. */
bool endpoint_in_merged(const struct endpoint *e, const struct cidr_list *list);
bool endpoint_port_in(uint16_t port, const struct port_list *list);

/* A well-mixed hash of address and port, for tables keyed by endpoints; seed against collisions. */
uint64_t endpoint_hash(const struct endpoint *e, uint64_t seed);

#endif
