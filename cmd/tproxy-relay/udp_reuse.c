/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_reuse.h"

#include "base/container.h"
#include "socket/datagram.h"
#include "socket/transparent.h"
#include "tproxy-relay/udp_icmp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PORTS	   65536
#define SPARES_MAX 128 /* of a family: twice as many flows as one read of a listener may begin */
/* To choose a port the kernel walks all sockets that have it; to take a given one it walks those of
 * one address. */
#define SHARED_MAX 32
/* A port that the kernel cannot release, or that once had so many flows. It stays so: a port is
 * tried once. */
#define UNFIT UINT8_MAX

int udp_reuse_init(struct udp_reuse *r)
{
	r->flows = calloc(PORTS, sizeof(*r->flows));
	return r->flows ? 0 : -1;
}

void udp_reuse_free(struct udp_reuse *r)
{
	free(r->flows);
	r->flows = NULL;
}

static struct udp_host *host_of(struct loop *loop)
{
	return ((struct flow_ops *)loop_context(loop))->udp;
}

/* ---- which flows ---- */

bool udp_reuse_suits(const struct udp_host *host, const struct endpoint *client,
		     const struct endpoint *to)
{
	const struct udp_reuse *r = &host->reuse;
	uint16_t port = client->port;

	if (r->impossible || host->draining || host->udp->one_way || port < 1024 ||
	    host->settings->connect.source != SOURCE_CLIENT)
		return false;
	if (client->family != to->family || client->scope || to->scope)
		return false;
	return r->flows[port] < SHARED_MAX;
}

void udp_reuse_count(struct udp_host *host, const struct udp_flow *f, int change)
{
	uint8_t *flows = &host->reuse.flows[f->entry.client.port];

	if (*flows != UNFIT)
		*flows = (uint8_t)(*flows + change);
}

/* ---- spare slots ---- */

/* Something came for the flow before: too late for it, and in the way of the next one. */
static void handle_spare(struct loop *loop, struct loop_source *source, uint32_t events)
{
	loop_close(loop, source);
}

static struct udp_flow *take_oldest(struct udp_reuse *r, unsigned family)
{
	struct udp_flow *f = r->oldest[family];

	if (!f)
		return NULL;
	r->oldest[family] = f->next_spare;
	r->count[family]--;
	return f;
}

/* The oldest spare that has its socket still, or NULL. Those without one are freed. */
static struct udp_flow *find_oldest(struct udp_host *host, unsigned family)
{
	struct udp_flow *f;

	while ((f = host->reuse.oldest[family]) && f->side[FLOW_UPSTREAM].fd < 0)
		slab_put(&host->flows, take_oldest(&host->reuse, family));
	return f;
}

/* Have two whole turns begun since the socket was let go? Then the first of them is over: it has
 * reported all that the flow before had left in the socket. */
static bool is_ripe(const struct udp_host *host, const struct udp_flow *f)
{
	return loop_whole_turns(host->loop) - f->burst_tick >= 2;
}

/* A spare slot that has its socket still, and nothing in that. */
static struct udp_flow *take(struct udp_host *host, unsigned family)
{
	struct udp_flow *f = find_oldest(host, family);

	return f && is_ripe(host, f) ? take_oldest(&host->reuse, family) : NULL;
}

struct udp_flow *udp_reuse_slot(struct udp_host *host, const struct endpoint *client,
				const struct endpoint *to)
{
	unsigned family = client->family == AF_INET6;
	struct udp_flow *f = NULL;
	struct loop_source socket;

	if (udp_reuse_suits(host, client, to))
		f = take(host, family);
	if (f) {
		socket = f->side[FLOW_UPSTREAM];
		memset(f, 0, sizeof(*f));
		f->side[FLOW_UPSTREAM] = socket;
		f->second_hand = true;
	} else if ((f = slab_get(&host->flows))) {
		f->side[FLOW_UPSTREAM].fd = -1;
	}
	return f;
}

unsigned udp_reuse_spares(const struct udp_host *host)
{
	return host->reuse.count[0] + host->reuse.count[1];
}

bool udp_reuse_is_short(const struct udp_host *host, int family)
{
	return host->reuse.count[family == AF_INET6] < SPARES_MAX;
}

/* ---- their sockets ---- */

/* A new socket, for any flow of this family. */
static int open_socket(struct udp_host *host, const struct udp_flow *f)
{
	struct failure why;
	int fd = transparent_open_udp(&f->entry.client, &host->settings->connect, &why);

	if (fd < 0)
		return -1;
	datagram_want(fd, f->entry.client.family, UDP_LEG_DETAILS | DATAGRAM_DESTINATION);
	udp_icmp_listen(fd, f->entry.client.family);
	return fd;
}

/* The port cannot be had in this way: never try it again, see datagram_bind_loosely(). */
static int bind_socket(struct udp_host *host, const struct udp_flow *f, int fd)
{
	if (datagram_bind_loosely(fd, &f->entry.client) == 0)
		return 0;
	if (errno == ENOPROTOOPT)
		host->reuse.impossible = true;
	host->reuse.flows[f->entry.client.port] = UNFIT;
	return -1;
}

bool udp_reuse_connect(struct udp_host *host, struct udp_flow *f, const struct endpoint *to)
{
	struct loop_source *s = &f->side[FLOW_UPSTREAM];

	if (!udp_reuse_suits(host, &f->entry.client, to))
		return false;
	if (s->fd < 0)
		s->fd = open_socket(host, f);
	if (s->fd >= 0 && bind_socket(host, f, s->fd) == 0 && datagram_connect(s->fd, to) == 0) {
		f->reusable = true;
		return true;
	}
	loop_close(host->loop, s);
	return false;
}

/* The socket is as it was when it was new. An upstream that has not answered may yet send
 * errors. */
bool udp_reuse_is_as_new(const struct udp_flow *f)
{
	return f->reusable && f->entry.class != UDP_UNANSWERED && !f->promoted &&
	       !f->class[FLOW_UP] && !f->hops[FLOW_UP] && !(f->whole & 1 << FLOW_UP);
}

bool udp_reuse_let_go(struct udp_host *host, struct udp_flow *f)
{
	struct loop_source *s = &f->side[FLOW_UPSTREAM];

	if (host->draining || s->fd < 0 || !udp_reuse_is_as_new(f) ||
	    !udp_reuse_is_short(host, f->entry.client.family) || datagram_disconnect(s->fd) < 0)
		return false;
	host->reuse.count[f->entry.client.family == AF_INET6]++;
	f->spare = true;
	f->burst_tick = loop_whole_turns(host->loop);
	s->handler = handle_spare;
	return true;
}

void udp_reuse_put(struct udp_host *host, struct udp_flow *f)
{
	struct udp_reuse *r = &host->reuse;
	unsigned family = f->entry.client.family == AF_INET6;

	if (!f->spare) {
		slab_put(&host->flows, f);
		return;
	}
	f->next_spare = NULL;
	*(r->oldest[family] ? &r->newest[family]->next_spare : &r->oldest[family]) = f;
	r->newest[family] = f;
	if (host->draining)
		udp_reuse_drop_one(host);
}

static void release(struct loop *loop, struct loop_garbage *garbage)
{
	struct udp_host *host = host_of(loop);

	slab_put(&host->flows, container_of(garbage, struct udp_flow, garbage));
	host->ops->released(host);
}

/* An event of the socket may have been fetched already: the slot is freed after the batch. */
bool udp_reuse_drop_one(struct udp_host *host)
{
	struct udp_flow *f = NULL;

	for (unsigned family = 0; family < 2 && !f; family++)
		if (find_oldest(host, family))
			f = take_oldest(&host->reuse, family);
	if (!f)
		return false;
	loop_close(host->loop, &f->side[FLOW_UPSTREAM]);
	loop_discard(host->loop, &f->garbage, release);
	return true;
}

void udp_reuse_drop(struct udp_host *host)
{
	while (udp_reuse_drop_one(host))
		;
}
