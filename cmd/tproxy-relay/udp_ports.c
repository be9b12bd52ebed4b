/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_ports.h"

#include "socket/datagram.h"
#include "tproxy-relay/udp_icmp.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#define BUCKETS 128 /* a power of two */

struct port {
	struct port *next;	    /* of its bucket */
	struct port *older, *newer; /* by last use */
	int fd;
	int family;
	uint16_t number;
	uint8_t speaker, fit;
};

struct udp_ports {
	const struct mark *mark;
	void (*before_change)(void *context);
	void *context;
	unsigned count;
	struct port *oldest, *newest;
	struct port *buckets[BUCKETS];
};

struct udp_ports *udp_ports_new(const struct mark *mark, void (*before_change)(void *context),
				void *context, struct failure *why)
{
	struct udp_ports *p = calloc(1, sizeof(*p));

	if (!p) {
		report_fail(why, ENOMEM, "malloc", "sockets for ports");
		return NULL;
	}
	p->mark = mark;
	p->before_change = before_change;
	p->context = context;
	return p;
}

static struct port **bucket_of(struct udp_ports *p, int family, uint16_t number, unsigned speaker)
{
	unsigned hash = number ^ number >> 7 ^ (family == AF_INET6) << 5 ^ speaker << 6;

	return &p->buckets[hash & (BUCKETS - 1)];
}

static void unlink_age(struct udp_ports *p, struct port *one)
{
	*(one->older ? &one->older->newer : &p->oldest) = one->newer;
	*(one->newer ? &one->newer->older : &p->newest) = one->older;
}

static void link_age(struct udp_ports *p, struct port *one)
{
	one->older = p->newest;
	one->newer = NULL;
	*(p->newest ? &p->newest->newer : &p->oldest) = one;
	p->newest = one;
}

bool udp_ports_drop(struct udp_ports *p)
{
	struct port *one = p->oldest, **at;

	if (!one)
		return false;
	p->before_change(p->context);
	at = bucket_of(p, one->family, one->number, one->speaker);
	while (*at != one)
		at = &(*at)->next;
	*at = one->next;
	unlink_age(p, one);
	close(one->fd);
	free(one);
	p->count--;
	return true;
}

void udp_ports_free(struct udp_ports *p)
{
	if (!p)
		return;
	while (udp_ports_drop(p))
		;
	free(p);
}

void udp_ports_set_fit(int fd, int family, enum udp_fit fit)
{
	int v4 = fit == UDP_FIT_WHOLE ? IP_PMTUDISC_DO : IP_PMTUDISC_WANT;
	int v6 = fit == UDP_FIT_WHOLE ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_WANT;

	if (fit == UDP_FIT_ANY)
		return;
	if (family == AF_INET6)
		setsockopt(fd, SOL_IPV6, IPV6_MTU_DISCOVER, &v6, sizeof(v6));
	else
		setsockopt(fd, SOL_IP, IP_MTU_DISCOVER, &v4, sizeof(v4));
}

/* A new one; when no descriptor is left an old one makes room. */
static int open_port(struct udp_ports *p, const struct port *like, struct failure *why)
{
	const struct mark *mark = like->speaker == UDP_AS_CLIENT ? p->mark : NULL;
	int fd;

	if (p->count >= UDP_PORTS_MAX)
		udp_ports_drop(p);
	fd = datagram_open_port(like->family, like->number, mark, why);
	if (fd < 0 && (why->err == EMFILE || why->err == ENFILE) && udp_ports_drop(p))
		fd = datagram_open_port(like->family, like->number, mark, why);
	return fd;
}

static struct port *add(struct udp_ports *p, const struct port *like, struct failure *why)
{
	struct port *one = malloc(sizeof(*one)), **bucket;

	if (!one) {
		report_fail(why, ENOMEM, "malloc", "port %u", like->number);
		return NULL;
	}
	*one = *like;
	one->fd = open_port(p, like, why);
	if (one->fd < 0) {
		free(one);
		return NULL;
	}
	udp_icmp_listen(one->fd, one->family);
	bucket = bucket_of(p, one->family, one->number, one->speaker);
	one->next = *bucket;
	*bucket = one;
	link_age(p, one);
	p->count++;
	return one;
}

int udp_ports_get(struct udp_ports *p, int family, uint16_t port, enum udp_speaker speaker,
		  enum udp_fit fit, struct failure *why)
{
	struct port like = { .family = family, .number = port, .speaker = speaker };
	struct port *one = *bucket_of(p, family, port, speaker);

	while (one && (one->number != port || one->family != family || one->speaker != speaker))
		one = one->next;
	if (!one)
		one = add(p, &like, why);
	if (!one)
		return -1;
	if (one != p->newest) {
		unlink_age(p, one);
		link_age(p, one);
	}
	if (fit != UDP_FIT_ANY && fit != one->fit) {
		p->before_change(p->context);
		udp_ports_set_fit(one->fd, family, fit);
		one->fit = (uint8_t)fit;
	}
	return one->fd;
}
