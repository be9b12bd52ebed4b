/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/endpoint.h"

#include "base/quantity.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TEXT_MAX 128 /* longer than any sensible endpoint, CIDR or port range */

static const uint8_t *bytes_of(const struct endpoint *e)
{
	return e->family == AF_INET ? (const uint8_t *)&e->addr.v4 : (const uint8_t *)&e->addr.v6;
}

static unsigned bits_of(sa_family_t family)
{
	return family == AF_INET ? 32 : 128;
}

/* One connection, one spelling: ::ffff:192.0.2.1 is 192.0.2.1. */
static void unmap(struct endpoint *e)
{
	struct in_addr v4;

	if (e->family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&e->addr.v6))
		return;
	memcpy(&v4, &e->addr.v6.s6_addr[12], sizeof(v4));
	memset(&e->addr, 0, sizeof(e->addr));
	e->family = AF_INET;
	e->scope = 0;
	e->addr.v4 = v4;
}

static int parse_port(const char *text, uint16_t *port, struct failure *why)
{
	uint64_t n;

	*port = 0;
	if (quantity_number(text, 1, 65535, &n, NULL) < 0)
		return report_refuse(why, "'%s' is not a port from 1 to 65535", text);
	*port = (uint16_t)n;
	return 0;
}

static int parse_scope(const char *name, struct endpoint *out, struct failure *why)
{
	if (!IN6_IS_ADDR_LINKLOCAL(&out->addr.v6) && !IN6_IS_ADDR_MC_LINKLOCAL(&out->addr.v6))
		return report_refuse(why, "only a link-local address takes %%%s", name);
	out->scope = if_nametoindex(name);
	if (!out->scope)
		return report_refuse(why, "no interface '%s'", name);
	return 0;
}

int endpoint_parse_address(const char *text, struct endpoint *out, struct failure *why)
{
	char host[TEXT_MAX], *scope;

	memset(out, 0, sizeof(*out));
	if (strlen(text) >= sizeof(host))
		return report_refuse(why, "not an IPv4 or IPv6 address");
	strcpy(host, text);
	scope = strchr(host, '%');
	if (scope)
		*scope++ = '\0';
	if (!scope && inet_pton(AF_INET, host, &out->addr.v4) == 1) {
		out->family = AF_INET;
		return 0;
	}
	if (inet_pton(AF_INET6, host, &out->addr.v6) != 1)
		return report_refuse(why, "'%s' is not an IPv4 or IPv6 address", text);
	out->family = AF_INET6;
	if (scope && parse_scope(scope, out, why) < 0)
		return -1;
	unmap(out);
	return 0;
}

/* Split `HOST:PORT` or `[HOST]:PORT` in place. Returns HOST and sets *port; NULL: not of that
 * form. */
static char *split_host_port(char *text, char **port)
{
	char *host = text, *colon;

	if (*text == '[') {
		char *end = strchr(text, ']');

		if (!end || end[1] != ':')
			return NULL;
		*end = '\0';
		*port = end + 2;
		return host + 1;
	}
	colon = strrchr(text, ':');
	if (!colon || strchr(text, ':') != colon)
		return NULL;
	*colon = '\0';
	*port = colon + 1;
	return host;
}

int endpoint_parse(const char *text, struct endpoint *out, struct failure *why)
{
	char copy[TEXT_MAX], *host, *port;
	bool bracketed = *text == '[';
	uint16_t number;

	if (strlen(text) >= sizeof(copy) || !(host = split_host_port(strcpy(copy, text), &port)))
		return report_refuse(why, "not an endpoint like 192.0.2.1:80 or [2001:db8::1]:80");
	if (parse_port(port, &number, why) < 0 || endpoint_parse_address(host, out, why) < 0)
		return -1;
	if (bracketed && strchr(host, ':') == NULL)
		return report_refuse(why, "brackets are for IPv6 addresses");
	out->port = number;
	return 0;
}

static int add_both(uint16_t port, bool any, struct endpoint_list *list, struct failure *why)
{
	struct endpoint v4 = { .family = AF_INET, .port = port };
	struct endpoint v6 = { .family = AF_INET6, .port = port };

	v4.addr.v4.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
	v6.addr.v6 = any ? in6addr_any : in6addr_loopback;
	return endpoint_list_add(list, &v4, why) < 0 ? -1 : endpoint_list_add(list, &v6, why);
}

int endpoint_parse_listener(const char *text, enum endpoint_bare bare, struct endpoint_list *list,
			    struct failure *why)
{
	struct endpoint e;
	uint16_t port;

	if (!strncmp(text, "*:", 2))
		return parse_port(text + 2, &port, why) < 0 ? -1 : add_both(port, true, list, why);
	if (*text && !text[strspn(text, "0123456789")])
		return parse_port(text, &port, why) < 0
			       ? -1
			       : add_both(port, bare == ENDPOINT_BARE_ANY, list, why);
	return endpoint_parse(text, &e, why) < 0 ? -1 : endpoint_list_add(list, &e, why);
}

/* Clear the bits past length; true if any were set. */
static bool clear_host_bits(uint8_t *bytes, unsigned length, unsigned bits)
{
	bool had = false;

	for (unsigned i = length; i < bits; i++) {
		uint8_t bit = (uint8_t)(0x80 >> (i % 8));

		had |= (bytes[i / 8] & bit) != 0;
		bytes[i / 8] &= (uint8_t)~bit;
	}
	return had;
}

int endpoint_parse_cidr(const char *text, struct cidr *out, struct failure *why)
{
	char copy[TEXT_MAX], net[ENDPOINT_TEXT_MAX], *slash;
	struct endpoint e;
	uint64_t length;

	if (strlen(text) >= sizeof(copy))
		return report_refuse(why, "not a prefix like 192.0.2.0/24 or 2001:db8::/32");
	slash = strchr(strcpy(copy, text), '/');
	if (slash)
		*slash++ = '\0';
	if (endpoint_parse_address(copy, &e, why) < 0)
		return -1;
	if (e.scope)
		return report_refuse(why, "a prefix takes no %%interface");
	length = bits_of(e.family);
	if (slash && quantity_number(slash, 0, length, &length, NULL) < 0)
		return report_refuse(why, "/%s is not a prefix length from 0 to %u", slash,
				     bits_of(e.family));
	*out = (struct cidr){ .family = e.family, .length = (uint8_t)length };
	memcpy(&out->addr, &e.addr, sizeof(out->addr));
	if (clear_host_bits((uint8_t *)&out->addr, out->length, bits_of(out->family)))
		return report_refuse(why, "has host bits set; the network is %s",
				     endpoint_format_cidr(out, net));
	return 0;
}

/* Make room for one more element of `size` bytes in a growing array; NULL: no memory. Doubles at
 * powers of two, so no capacity needs to be stored. */
static void *grown(void *at, size_t count, size_t size, struct failure *why)
{
	void *more;

	if (count & (count - 1))
		return at;
	more = reallocarray(at, count ? count * 2 : 1, size);
	if (!more)
		report_fail(why, ENOMEM, "malloc", "list of %zu", count);
	return more;
}

int endpoint_list_add(struct endpoint_list *list, const struct endpoint *e, struct failure *why)
{
	struct endpoint *at = grown(list->at, list->count, sizeof(*at), why);

	if (!at)
		return -1;
	list->at = at;
	at[list->count++] = *e;
	return 0;
}

int endpoint_cidr_add(struct cidr_list *list, const struct cidr *c, struct failure *why)
{
	struct cidr *at = grown(list->at, list->count, sizeof(*at), why);

	if (!at)
		return -1;
	list->at = at;
	at[list->count++] = *c;
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct port_range *x = a, *y = b;

	return (int)x->first - (int)y->first;
}

void endpoint_ports_merge(struct port_list *list)
{
	size_t kept = 0;

	if (!list->count)
		return;
	qsort(list->at, list->count, sizeof(*list->at), compare_ranges);
	for (size_t i = 1; i < list->count; i++) {
		struct port_range *last = &list->at[kept], *next = &list->at[i];

		if (next->first > last->last + 1)
			list->at[++kept] = *next;
		else if (next->last > last->last)
			last->last = next->last;
	}
	list->count = kept + 1;
}

int endpoint_ports_add(struct port_list *list, const struct port_range *range, struct failure *why)
{
	struct port_range *at = grown(list->at, list->count, sizeof(*at), why);

	if (!at)
		return -1;
	list->at = at;
	at[list->count++] = *range;
	return 0;
}

static int add_range(char *text, struct port_list *list, struct failure *why)
{
	struct port_range range;
	char *dash = strchr(text, '-');

	if (dash)
		*dash++ = '\0';
	if (parse_port(text, &range.first, why) < 0 ||
	    parse_port(dash ? dash : text, &range.last, why) < 0)
		return -1;
	if (range.last < range.first)
		return report_refuse(why, "range %u-%u runs backwards", range.first, range.last);
	return endpoint_ports_add(list, &range, why);
}

int endpoint_parse_ports(const char *text, struct port_list *list, struct failure *why)
{
	const char *p = text;

	for (;;) {
		size_t length = strcspn(p, ",");
		char one[TEXT_MAX];

		if (!length || length >= sizeof(one))
			return report_refuse(why, "not a port list like 80,443,8000-8100");
		memcpy(one, p, length);
		one[length] = '\0';
		if (add_range(one, list, why) < 0)
			return -1;
		if (!p[length])
			break;
		p += length + 1;
	}
	endpoint_ports_merge(list);
	return 0;
}

static int compare_cidrs(const void *a, const void *b)
{
	const struct cidr *x = a, *y = b;
	int order;

	if (x->family != y->family)
		return x->family == AF_INET ? -1 : 1;
	order = memcmp(&x->addr, &y->addr, bits_of(x->family) / 8);
	return order ? order : (int)x->length - (int)y->length;
}

static bool prefix_matches(const void *a, const void *b, unsigned length)
{
	const uint8_t *x = a, *y = b;
	uint8_t mask = (uint8_t)(0xff00 >> (length % 8));

	return !memcmp(x, y, length / 8) &&
	       (!(length % 8) || !((x[length / 8] ^ y[length / 8]) & mask));
}

static bool covers(const struct cidr *outer, const struct cidr *inner)
{
	return outer->family == inner->family && outer->length <= inner->length &&
	       prefix_matches(&outer->addr, &inner->addr, outer->length);
}

/* Two halves of one prefix: same length, and equal except for their last bit. */
static bool are_halves(const struct cidr *a, const struct cidr *b)
{
	return a->family == b->family && a->length == b->length && a->length &&
	       prefix_matches(&a->addr, &b->addr, a->length - 1U);
}

void endpoint_cidr_merge(struct cidr_list *list)
{
	size_t kept = 0;

	if (!list->count)
		return;
	qsort(list->at, list->count, sizeof(*list->at), compare_cidrs);
	for (size_t i = 1; i < list->count; i++) {
		if (covers(&list->at[kept], &list->at[i]))
			continue;
		list->at[++kept] = list->at[i];
		while (kept && are_halves(&list->at[kept - 1], &list->at[kept]))
			list->at[--kept].length--;
	}
	list->count = kept + 1;
}

void endpoint_list_free(struct endpoint_list *list)
{
	free(list->at);
	*list = (struct endpoint_list){ 0 };
}

void endpoint_cidr_free(struct cidr_list *list)
{
	free(list->at);
	*list = (struct cidr_list){ 0 };
}

void endpoint_ports_free(struct port_list *list)
{
	free(list->at);
	*list = (struct port_list){ 0 };
}

/* Append the number and \0; returns the position of the \0. (Otherwise inet_ntop(3) and printf(3)
 * take most of the time of a long list of sockets.) */
static char *put_number(char *at, unsigned n)
{
	char digits[10];
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + n % 10);
	while (n /= 10);
	while (count)
		*at++ = digits[--count];
	*at = '\0';
	return at;
}

static char *put_v4(char *at, const struct in_addr *address)
{
	const uint8_t *byte = (const uint8_t *)address;

	for (int i = 0; i < 4; i++) {
		at = put_number(at, byte[i]);
		*at++ = '.';
	}
	*--at = '\0';
	return at;
}

/* A socket of the network namespace that the indexes belong to; -1: that of this thread. */
static int interfaces = -1;

int endpoint_pin_interfaces(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	interfaces = fd;
	return 0;
}

/*
 * if_indextoname(3) does the same with a local socket, which the sandbox does not allow.
 * #syscalls tcp udp collect: socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0)
 * #syscalls tcp udp collect: ioctl(SIOCGIFNAME), close
 */
char *endpoint_interface_name(unsigned index, char name[IF_NAMESIZE])
{
	struct ifreq request = { .ifr_ifindex = (int)index };
	int fd = interfaces, found;

	if (fd < 0)
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	found = fd < 0 ? -1 : ioctl(fd, SIOCGIFNAME, &request);
	if (fd >= 0 && fd != interfaces)
		close(fd);
	return found < 0 ? NULL : memcpy(name, request.ifr_name, IF_NAMESIZE);
}

/* `2001:db8::1`, `fe80::1%eth0`. */
static char *put_v6(char *at, const struct endpoint *e)
{
	inet_ntop(AF_INET6, &e->addr, at, INET6_ADDRSTRLEN);
	at += strlen(at);
	if (!e->scope)
		return at;
	*at++ = '%';
	return endpoint_interface_name(e->scope, at) ? at + strlen(at) : put_number(at, e->scope);
}

const char *endpoint_format_address(const struct endpoint *e, char buf[ENDPOINT_TEXT_MAX])
{
	if (!endpoint_is_set(e))
		return strcpy(buf, "-");
	if (e->family == AF_INET)
		put_v4(buf, &e->addr.v4);
	else
		put_v6(buf, e);
	return buf;
}

const char *endpoint_format(const struct endpoint *e, char buf[ENDPOINT_TEXT_MAX])
{
	char *at = buf;

	if (!endpoint_is_set(e))
		return strcpy(buf, "-");
	if (e->family == AF_INET6) {
		*at++ = '[';
		at = put_v6(at, e);
		*at++ = ']';
	} else if (e->addr.v4.s_addr == htonl(INADDR_ANY)) {
		*at++ = '*';
	} else {
		at = put_v4(at, &e->addr.v4);
	}
	*at++ = ':';
	put_number(at, e->port);
	return buf;
}

const char *endpoint_format_cidr(const struct cidr *c, char buf[ENDPOINT_TEXT_MAX])
{
	size_t used;

	if (c->family == AF_UNSPEC)
		return strcpy(buf, "-");
	inet_ntop(c->family, &c->addr, buf, ENDPOINT_TEXT_MAX);
	used = strlen(buf);
	snprintf(buf + used, ENDPOINT_TEXT_MAX - used, "/%u", c->length);
	return buf;
}

struct endpoint endpoint_from_sockaddr(const void *sa, socklen_t length)
{
	struct endpoint e = { .family = AF_UNSPEC };
	union endpoint_sockaddr u = { 0 };

	memcpy(&u, sa, length < sizeof(u) ? length : sizeof(u));
	if (u.sa.sa_family == AF_INET && length >= sizeof(u.v4)) {
		e.family = AF_INET;
		e.port = ntohs(u.v4.sin_port);
		e.addr.v4 = u.v4.sin_addr;
	} else if (u.sa.sa_family == AF_INET6 && length >= sizeof(u.v6)) {
		e.family = AF_INET6;
		e.port = ntohs(u.v6.sin6_port);
		e.scope = u.v6.sin6_scope_id;
		e.addr.v6 = u.v6.sin6_addr;
		unmap(&e);
	}
	return e;
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e, union endpoint_sockaddr *out)
{
	memset(out, 0, sizeof(*out));
	if (e->family == AF_INET) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(e->port);
		out->v4.sin_addr = e->addr.v4;
		return sizeof(out->v4);
	}
	if (e->family == AF_INET6) {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons(e->port);
		out->v6.sin6_scope_id = e->scope;
		out->v6.sin6_addr = e->addr.v6;
		return sizeof(out->v6);
	}
	return 0;
}

static struct endpoint end_of(int fd, int (*which)(int, struct sockaddr *, socklen_t *))
{
	union endpoint_sockaddr address;
	socklen_t length = sizeof(address);

	if (which(fd, &address.sa, &length) < 0)
		return (struct endpoint){ 0 };
	return endpoint_from_sockaddr(&address, length);
}

/* #syscalls tcp udp: getsockname */
struct endpoint endpoint_local_of(int fd)
{
	return end_of(fd, getsockname);
}

/* #syscalls tcp udp: getpeername */
struct endpoint endpoint_peer_of(int fd)
{
	return end_of(fd, getpeername);
}

bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b)
{
	return a->family == b->family && a->scope == b->scope &&
	       (!endpoint_is_set(a) || !memcmp(bytes_of(a), bytes_of(b), bits_of(a->family) / 8));
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && endpoint_same_address(a, b);
}

int endpoint_compare(const struct endpoint *a, const struct endpoint *b)
{
	int order;

	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	order = endpoint_is_set(a) ? memcmp(bytes_of(a), bytes_of(b), bits_of(a->family) / 8) : 0;
	if (order)
		return order;
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return a->scope == b->scope ? 0 : a->scope < b->scope ? -1 : 1;
}

bool endpoint_is_set(const struct endpoint *e)
{
	return e->family == AF_INET || e->family == AF_INET6;
}

bool endpoint_is_any(const struct endpoint *e)
{
	if (e->family == AF_INET)
		return e->addr.v4.s_addr == htonl(INADDR_ANY);
	return e->family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&e->addr.v6);
}

bool endpoint_is_loopback(const struct endpoint *e)
{
	if (e->family == AF_INET)
		return ntohl(e->addr.v4.s_addr) >> 24 == 127;
	return e->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&e->addr.v6);
}

bool endpoint_is_multicast(const struct endpoint *e)
{
	if (e->family == AF_INET)
		return IN_MULTICAST(ntohl(e->addr.v4.s_addr)) ||
		       e->addr.v4.s_addr == htonl(INADDR_BROADCAST);
	return e->family == AF_INET6 && IN6_IS_ADDR_MULTICAST(&e->addr.v6);
}

bool endpoint_in_cidr(const struct endpoint *e, const struct cidr *c)
{
	return endpoint_is_set(e) && e->family == c->family &&
	       prefix_matches(bytes_of(e), &c->addr, c->length);
}

bool endpoint_in_cidrs(const struct endpoint *e, const struct cidr_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (endpoint_in_cidr(e, &list->at[i]))
			return true;
	return false;
}

bool endpoint_cidrs_have(const struct cidr_list *list, sa_family_t family)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->at[i].family == family)
			return true;
	return false;
}

struct cidr endpoint_host_cidr(const struct endpoint *e)
{
	struct cidr host = { .family = e->family, .length = (uint8_t)bits_of(e->family) };

	memcpy(&host.addr, bytes_of(e), host.length / 8);
	return host;
}

bool endpoint_in_merged(const struct endpoint *e, const struct cidr_list *list)
{
	size_t first = 0, end = list->count;
	struct cidr host;

	if (!endpoint_is_set(e))
		return false;
	host = endpoint_host_cidr(e);
	/* The prefixes are disjoint: only the last one that begins at or before the address can
	 * contain it. */
	while (first < end) {
		size_t middle = first + (end - first) / 2;

		if (compare_cidrs(&list->at[middle], &host) <= 0)
			first = middle + 1;
		else
			end = middle;
	}
	return first > 0 && endpoint_in_cidr(e, &list->at[first - 1]);
}

bool endpoint_port_in(uint16_t port, const struct port_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (port >= list->at[i].first && port <= list->at[i].last)
			return true;
	return false;
}

uint64_t endpoint_hash(const struct endpoint *e, uint64_t seed)
{
	uint64_t h = seed ^ 0x9e3779b97f4a7c15ULL, word;
	size_t length = endpoint_is_set(e) ? bits_of(e->family) / 8 : 0;

	for (size_t i = 0; i < length; i += sizeof(word)) {
		word = 0;
		memcpy(&word, bytes_of(e) + i,
		       length - i < sizeof(word) ? length - i : sizeof(word));
		h = (h ^ word) * 0xff51afd7ed558ccdULL;
		h ^= h >> 32;
	}
	h = (h ^ e->port ^ (uint64_t)e->scope << 16) * 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 29;
}
