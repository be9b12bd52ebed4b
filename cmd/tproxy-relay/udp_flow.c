/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Up: datagrams of a short flow come in the listener's batch, those of a promoted flow in a batch
 * of its own. They are queued to the upstream socket. Down: datagrams from the upstream socket are
 * queued to the flow's own client socket, or, as long as it has none, to a raw socket that sends in
 * the server's name. The queue is sent when the slots of the batch are needed again, at the latest
 * at the end of the loop's turn. Nothing is copied, nothing is kept: what a socket does not take is
 * lost, as in any router.
 *
 * Promotion keeps the order of a flow's datagrams. Up: once its socket is connected the kernel
 * delivers new datagrams to it; older ones are in the listener's queue. So before the socket is
 * first read, the listener is read until everything that it held then has been seen: whatever the
 * same processor put into the socket came later. Down: the queue sends in the order in which it was
 * filled, whatever the socket.
 *
 * Between bind() and connect() a socket may receive datagrams of others. So each datagram that is
 * read is compared with the flow's other end, and a stray is handled as if it had gone to the
 * listener.
 */
#include "tproxy-relay/udp_flow.h"

#include "base/container.h"
#include "net/translation.h"
#include "socket/datagram_batch.h"
#include "tproxy-relay/udp_reuse.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BURST_MAX     8 /* datagrams within a second that promote a flow */
#define BURST_TICKS   (1000 / LOOP_TICK_MS)
#define EXCHANGE_US   2000000 /* later answers do not belong to one exchange */
#define ANSWERED_MS   3000    /* an answered exchange is over after this much silence */
#define SETTLED_MS    500     /* the same, while the relay waits for it to end */
#define SHORT_READ    4	      /* datagrams read at once from a short flow's upstream */
#define PROMOTED_READ 32
#define READS_MAX     4		/* reads of one promoted flow; then others get a turn */
#define FEW	      2		/* datagrams, as most flows have */
#define SMALL	      1200	/* bytes: every path takes that as one packet (RFC 8200, 5) */
#define READS_OUT     64	/* the same, of a flow that ends */
#define NESTED_MAX    8		/* batches begun, none of them worked off */
#define ENDS_US	      5000	/* time to end expired flows; then others get a turn */
#define ENDS_AT_ONCE  256	/* flows ended between two calls of may_go_on() */
#define PARTING_MAX   1024	/* flows handed back together: their records have room */
#define BUFFER_BYTES  (1 << 20) /* of a promoted flow's sockets, if permitted */

static_assert(sizeof(struct udp_flow) <= 232, "an idle flow is small");
static_assert(REASON_COUNT <= 64, "struct udp_flow has six bits for a reason");

static void hand_back(struct udp_host *host, struct udp_flow *f);
static bool end_together(struct udp_host *host);
static void handle_client(struct loop *loop, struct loop_source *source, uint32_t events);
static void handle_upstream(struct loop *loop, struct loop_source *source, uint32_t events);

static struct udp_host *host_of(struct loop *loop)
{
	return ((struct flow_ops *)loop_context(loop))->udp;
}

static bool has_leg(const struct udp_flow *f)
{
	return !f->closed && f->extra && f->extra->leg.noted;
}

struct endpoint udp_flow_origdst(const struct udp_flow *f)
{
	return f->origin == ORIGIN_NONE ? (struct endpoint){ 0 } : f->entry.origdst;
}

struct endpoint udp_flow_upstream_local(const struct udp_flow *f)
{
	return has_leg(f) ? f->extra->leg.local : f->entry.client;
}

struct endpoint udp_flow_upstream(const struct udp_host *host, const struct udp_flow *f)
{
	struct endpoint origdst = udp_flow_origdst(f);

	return has_leg(f) ? f->extra->leg.peer
			  : *policy_upstream(host->policy, &f->entry.client, &origdst);
}

const struct endpoint *udp_flow_upstream_source(const struct udp_flow *f)
{
	return !f->closed && f->extra && endpoint_is_set(&f->extra->seen) ? &f->extra->seen : NULL;
}

uint64_t udp_flow_cookie(const struct udp_flow *f, enum flow_end end)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);

	if (f->side[end].fd < 0 ||
	    getsockopt(f->side[end].fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0)
		return 0;
	return cookie;
}

const char *udp_flow_state_name(const struct udp_flow *f)
{
	static const char *const names[UDP_CLASSES] = { "unanswered", "answered", "established" };

	return f->closed ? "closed" : names[f->entry.class];
}

void udp_flow_flush(struct udp_host *host)
{
	datagram_queue_flush(host->queue);
	datagram_batch_reset(host->batch);
}

/* ---- the end ---- */

static void release(struct loop *loop, struct loop_garbage *garbage)
{
	struct udp_host *host = host_of(loop);

	udp_reuse_put(host, container_of(garbage, struct udp_flow, garbage));
	host->ops->released(host);
}

/* The client-side ends, as they are in packets. */
static const struct endpoint *peer_of(const struct udp_flow *f)
{
	return f->entry.via ? &f->extra->peer : &f->entry.client;
}

static const struct endpoint *near_of(const struct udp_flow *f)
{
	return f->entry.via ? &f->extra->near : &f->entry.origdst;
}

static size_t header_length(const struct udp_flow *f)
{
	return f->extra ? f->extra->header_length : 0;
}

static void drop_extra(struct udp_host *host, struct udp_flow *f)
{
	if (f->extra)
		policy_remove_leg(host->policy, &f->extra->leg);
	free(f->extra);
	f->extra = NULL;
}

static int make_extra(struct udp_flow *f)
{
	if (!f->extra)
		f->extra = calloc(1, sizeof(*f->extra));
	return f->extra ? 0 : -1;
}

/* Conntrack learns the flow with its first datagram: until then its NAT is unknown. */
static void expect_translation(struct udp_host *host, struct udp_flow *f)
{
	if (!host->settings->translation ||
	    !translation_is_possible(host->settings->translation, f->entry.client.family,
				     loop_now(host->loop)))
		return;
	f->unasked = true;
	f->kept = f->kept == KEPT_NO ? KEPT_NO : KEPT_UNKNOWN;
}

/* Learn how NAT changed the upstream leg's source. Asked once, while the entry certainly exists. */
static void learn_source(struct udp_host *host, struct udp_flow *f)
{
	const struct endpoint local = udp_flow_upstream_local(f);
	const struct endpoint upstream = udp_flow_upstream(host, f);
	struct endpoint seen = local;
	enum translation_verdict verdict;

	if (!f->unasked)
		return;
	f->unasked = false;
	verdict = translation_source(host->settings->translation, IPPROTO_UDP, &local, &upstream,
				     loop_now(host->loop), &seen);
	if (verdict == TRANSLATION_UNKNOWN)
		return;
	f->kept = (uint8_t)transparent_kept_by(&f->entry.client, &seen) & 3;
	if (verdict == TRANSLATION_DONE && make_extra(f) == 0)
		f->extra->seen = seen;
}

void udp_flow_finish(struct udp_host *host, struct udp_flow *f, enum reason reason)
{
	if (f->closed)
		return;
	if (host->draining && !f->destroyed) /* the client's next datagram begins another flow */
		hand_back(host, f);
	if (f->closed)
		return;
	datagram_queue_flush(host->queue); /* it may hold datagrams of this flow */
	f->reason = (uint8_t)reason & 63;
	learn_source(host, f);
	host->ops->finished(host, f);
	udp_table_remove(&host->table, &f->entry);
	udp_reuse_count(host, f, -1);
	drop_extra(host, f); /* before its port is another's */
	loop_close(host->loop, &f->side[FLOW_CLIENT]);
	if (!udp_reuse_let_go(host, f))
		loop_close(host->loop, &f->side[FLOW_UPSTREAM]);
	f->closed = true;
	loop_discard(host->loop, &f->garbage, release);
}

static uint64_t answered_timeout(const struct udp_host *host)
{
	uint64_t most = host->draining ? SETTLED_MS : ANSWERED_MS;

	return host->udp->unanswered_timeout < most ? host->udp->unanswered_timeout : most;
}

/* How long a flow of that class may be silent, in ticks, and the reason for its end. */
static uint32_t timeout_of(const struct udp_host *host, enum udp_class class, enum reason *reason)
{
	uint64_t ms = host->udp->unanswered_timeout;

	*reason = REASON_UPSTREAM_TIMEOUT;
	if (class == UDP_ANSWERED) {
		*reason = REASON_DONE;
		ms = answered_timeout(host);
	} else if (class == UDP_ESTABLISHED) {
		*reason = REASON_IDLE;
		ms = host->udp->established_timeout;
	}
	return (uint32_t)((ms + LOOP_TICK_MS - 1) / LOOP_TICK_MS);
}

static enum reason reason_when_over(const struct udp_host *host, const struct udp_flow *f)
{
	enum reason reason;

	timeout_of(host, f->entry.class, &reason);
	return f->one_way ? REASON_IDLE : reason;
}

/* End the flow of that class that expired first, if any has. */
static bool expire_one(struct udp_host *host, enum udp_class class)
{
	enum reason reason;
	uint32_t ticks = timeout_of(host, class, &reason);
	struct udp_flow *f = (struct udp_flow *)udp_table_expired(&host->table, class,
								  loop_tick(host->loop), ticks);

	if (!f)
		return false;
	udp_flow_finish(host, f, reason_when_over(host, f));
	return true;
}

/* May more flows end in this turn? If not, *later says whether they may in the next one. */
static bool may_go_on(struct udp_host *host, uint64_t begin, bool *later)
{
	loop_update_clock(host->loop);
	*later = host->ops->may_end(host);
	return *later && loop_now_us(host->loop) - begin < ENDS_US;
}

bool udp_flow_expire(struct udp_host *host)
{
	uint64_t begin = loop_now_us(host->loop);
	unsigned ended = 0;
	bool later = false;

	if (host->draining)
		return end_together(host);
	for (enum udp_class class = 0; class < UDP_CLASSES; class ++)
		while (expire_one(host, class))
			if (++ended % ENDS_AT_ONCE == 0 && !may_go_on(host, begin, &later))
				return later;
	return false;
}

/* ---- what both directions do ---- */

/*
 * #syscalls upstream_udp: setsockopt(SOL_IP, IP_TOS), setsockopt(SOL_IPV6, IPV6_TCLASS)
 * #syscalls upstream_udp: setsockopt(SOL_IP, IP_TTL), setsockopt(SOL_IPV6, IPV6_UNICAST_HOPS)
 */
static void set_option(int fd, int family, int v4, int v6, int value)
{
	setsockopt(fd, family == AF_INET6 ? SOL_IPV6 : SOL_IP, family == AF_INET6 ? v6 : v4, &value,
		   sizeof(value));
}

/* What came as one packet must leave as one: if it does not fit, its sender gets an error, as from
 * a router. If no error can be sent, the datagram is fragmented. */
static enum udp_fit fit_of(const struct udp_host *host, const struct udp_flow *f,
			   const struct datagram *d)
{
	size_t length = (d->segment ? d->segment : d->length) + header_length(f);

	if (length <= SMALL || host->icmp[FLOW_CLIENT].fd[d->client.family == AF_INET6] < 0)
		return UDP_FIT_ANY;
	return d->fragmented ? UDP_FIT_FRAGMENTS : UDP_FIT_WHOLE;
}

static bool is_set_to(const struct udp_flow *f, int dir, const struct datagram *d, enum udp_fit fit)
{
	bool whole = f->whole & 1 << dir;

	return f->class[dir] == d->class && f->hops[dir] == (uint8_t)(d->hops - 1) &&
	       (fit == UDP_FIT_ANY || whole == (fit == UDP_FIT_WHOLE));
}

/* Set the socket for this direction to send as the datagram came: with its class, and one hop less.
 * What is queued there already is sent first. */
static void set_manner(struct udp_host *host, struct udp_flow *f, int dir, int fd, int family,
		       const struct datagram *d)
{
	uint8_t hops = (uint8_t)(d->hops - 1);
	enum udp_fit fit = fit_of(host, f, d);

	if (is_set_to(f, dir, d, fit))
		return;
	datagram_queue_flush(host->queue);
	if (f->class[dir] != d->class)
		set_option(fd, family, IP_TOS, IPV6_TCLASS, d->class);
	if (f->hops[dir] != hops)
		set_option(fd, family, IP_TTL, IPV6_UNICAST_HOPS, hops);
	udp_raw_set_fit(fd, family, fit);
	f->class[dir] = d->class;
	f->hops[dir] = hops;
	if (fit != UDP_FIT_ANY)
		f->whole = (uint8_t)((f->whole & ~(1 << dir)) | (fit == UDP_FIT_WHOLE) << dir) & 3;
}

/* Is it cheaper to pass the settings with the datagram than to set them on the socket? */
static bool is_for_few(const struct udp_host *host, const struct udp_flow *f, int dir,
		       const struct datagram *d)
{
	enum udp_fit fit = fit_of(host, f, d);

	return f->packets[dir] <= FEW && fit == UDP_FIT_ANY && !is_set_to(f, dir, d, fit);
}

static unsigned packets_of(const struct datagram *d)
{
	return d->segment ? (unsigned)((d->length + d->segment - 1) / d->segment) : 1;
}

static void count(struct udp_flow *f, int dir, const struct datagram *d)
{
	f->packets[dir] += packets_of(d);
	f->bytes[dir] += d->length;
}

/* Has the datagram no hop left? This ends legs that come back to us, by whatever path. */
static bool is_spent(const struct datagram *d)
{
	return d->hops == 1;
}

static void put(struct udp_host *host, struct udp_flow *f, int dir, struct datagram_out *out,
		const struct datagram *d, const void *payload)
{
	out->payload = payload;
	out->length = d->length;
	out->segment = d->segment;
	out->single = f->single & (1 << dir);
	out->owner = f;
	datagram_queue_put(host->queue, out);
}

/* Pass with the datagram what set_manner() sets on the socket. */
static void set_message(struct datagram_out *out, const struct datagram *d)
{
	out->class = d->class;
	out->hops = (uint8_t)(d->hops - 1);
}

/* ---- promotion ---- */

#define PROMOTED_DETAILS (UDP_LEG_DETAILS | DATAGRAM_SEGMENTS)

/* The kernel reports the destination when a datagram is read. So a socket that another flow had
 * before (udp_reuse.h) goes on reporting it: that flow's datagrams may still be in the queue, and
 * only their destination tells them from this one's. */
static void prepare_for_many(const struct udp_flow *f, int family)
{
	int upstream = f->side[FLOW_UPSTREAM].fd;

	datagram_set_buffers(upstream, BUFFER_BYTES);
	datagram_want(upstream, family, DATAGRAM_SEGMENTS);
	if (!f->second_hand)
		datagram_spare(upstream, family, DATAGRAM_DESTINATION);
}

/*
 * Give the flow a socket of its own on the client's side. A direct flow gets none if other
 * listeners share the endpoint: before it is connected, the socket would receive their datagrams.
 * Nor does a flow from a proxy, which may send for other clients from the same port, nor one that is
 * being handed back: that socket would take the client's datagrams from whoever has them next.
 */
static void promote(struct udp_host *host, struct udp_flow *f)
{
	struct loop_source *s = &f->side[FLOW_CLIENT];

	f->unfit = true;
	if (f->handed_client || host->elsewhere || f->entry.via || (f->direct && !host->alone))
		return;
	s->fd = datagram_open_pair(&f->entry.origdst, &f->entry.client, PROMOTED_DETAILS, NULL);
	if (s->fd < 0)
		return;
	udp_icmp_listen(s->fd, f->entry.client.family);
	if (loop_watch(host->loop, s, EPOLLIN) < 0) {
		loop_close(host->loop, s);
		return;
	}
	datagram_set_buffers(s->fd, BUFFER_BYTES);
	if (!f->one_way)
		prepare_for_many(f, udp_flow_upstream(host, f).family);
	f->promoted = true;
	f->class[FLOW_DOWN] = f->hops[FLOW_DOWN] = 0;
}

/* Without raw sockets the answers of a direct flow need the listener, or a socket of its own. */
static bool needs_socket(const struct udp_host *host, const struct udp_flow *f, bool go_on)
{
	return !f->promoted && !f->unfit &&
	       (go_on || !udp_raw_has(host->raw, UDP_AS_SERVER, peer_of(f)->family));
}

void udp_flow_detach_all(struct udp_host *host, bool go_on)
{
	while (end_together(host))
		;
	for (struct udp_flow *f = slab_next(&host->flows, NULL); f; f = slab_next(&host->flows, f))
		if (!f->closed && needs_socket(host, f, go_on))
			promote(host, f);
}

static void count_burst(struct udp_host *host, struct udp_flow *f, const struct datagram *d)
{
	uint32_t now = loop_tick(host->loop);
	unsigned burst;

	if (f->unfit)
		return;
	if (now - f->burst_tick >= BURST_TICKS) {
		f->burst_tick = now;
		f->burst = 0;
	}
	burst = f->burst + packets_of(d);
	f->burst = (uint8_t)(burst < BURST_MAX ? burst : BURST_MAX);
	if (burst >= BURST_MAX)
		promote(host, f);
}

/* ---- errors ---- */

/* An error sent to one side in the name of its counterpart is reported by that counterpart. */
static void name_reporter(struct udp_icmp_error *error, const struct endpoint *far,
			  const struct endpoint *near)
{
	if (endpoint_same_address(&error->reporter, far))
		error->reporter = *near;
}

static void tell_client(struct udp_host *host, const struct udp_flow *f,
			struct udp_icmp_error *error, size_t length)
{
	struct endpoint upstream = udp_flow_upstream(host, f);

	name_reporter(error, &upstream, near_of(f));
	if (error->mtu > header_length(f))
		error->mtu -= (uint32_t)header_length(f);
	udp_icmp_tell(&host->icmp[FLOW_CLIENT], &host->icmp_allowance, loop_now_us(host->loop),
		      error, peer_of(f), near_of(f), length);
}

static void tell_upstream(struct udp_host *host, const struct udp_flow *f,
			  struct udp_icmp_error *error, size_t length)
{
	struct endpoint upstream = udp_flow_upstream(host, f), own = udp_flow_upstream_local(f);

	name_reporter(error, peer_of(f), &own);
	udp_icmp_tell(&host->icmp[FLOW_UPSTREAM], &host->icmp_allowance, loop_now_us(host->loop),
		      error, &upstream, &own, length);
}

/* A datagram has no hop left. */
static void tell_expired(struct udp_host *host, const struct udp_flow *f, int dir,
			 const struct datagram *d)
{
	struct udp_icmp_error error = { .kind = UDP_ICMP_EXPIRED };

	(dir == FLOW_UP ? tell_client : tell_upstream)(host, f, &error, d->length);
}

/* End a flow whose upstream has never answered, and never will, as the network reports. */
static void give_up(struct udp_host *host, struct udp_flow *f, enum udp_icmp_kind kind)
{
	switch (kind) {
	case UDP_ICMP_PORT:
		udp_flow_finish(host, f, REASON_UPSTREAM_REFUSED);
		break;
	case UDP_ICMP_HOST:
	case UDP_ICMP_NET:
	case UDP_ICMP_PROHIBITED:
		udp_flow_finish(host, f, REASON_UPSTREAM_UNREACHABLE);
		break;
	case UDP_ICMP_NONE:
	case UDP_ICMP_TOO_BIG:
	case UDP_ICMP_EXPIRED:
		break;
	}
}

/* Pass errors about the datagrams that left on this side to the other side. */
static void pass_errors(struct udp_host *host, struct udp_flow *f, enum flow_end end)
{
	struct udp_icmp_error error;

	f->reusable = f->reusable && end != FLOW_UPSTREAM;
	while (!f->closed && udp_icmp_take(f->side[end].fd, &error)) {
		if (end == FLOW_CLIENT) {
			tell_upstream(host, f, &error, 0);
			continue;
		}
		tell_client(host, f, &error, 0);
		if (f->entry.class == UDP_UNANSWERED)
			give_up(host, f, error.kind);
	}
}

/* The administrator has ended the flow (udp_abort() of net/ipv4/udp.c): its socket is disconnected,
 * and a send or a read has got the error, once. */
static void note_destroyed(struct udp_flow *f)
{
	f->destroyed = true;
	f->reusable = false;
}

/* ---- up ---- */

static void put_up(struct udp_host *host, struct udp_flow *f, const struct datagram *d,
		   const void *payload)
{
	struct endpoint upstream = udp_flow_upstream(host, f);
	struct datagram_out out = { .fd = f->side[FLOW_UPSTREAM].fd };

	if (header_length(f)) {
		out.header = f->extra->header;
		out.header_length = f->extra->header_length;
	}
	if (f->one_way) {
		out.fd = udp_raw_socket(host->raw, host->queue, f->entry.client.family,
					UDP_AS_CLIENT, fit_of(host, f, d));
		out.raw = true;
		out.to = &upstream;
		out.from = &f->entry.client;
		set_message(&out, d);
	} else if (is_for_few(host, f, FLOW_UP, d)) {
		out.family = upstream.family;
		set_message(&out, d);
	} else {
		set_manner(host, f, FLOW_UP, out.fd, upstream.family, d);
	}
	if (out.fd >= 0)
		put(host, f, FLOW_UP, &out, d, payload);
}

void udp_flow_up(struct udp_host *host, struct udp_flow *f, const struct datagram *d,
		 const void *payload)
{
	enum udp_class class = f->entry.class == UDP_ANSWERED ? UDP_ESTABLISHED : f->entry.class;

	udp_table_touch(&host->table, &f->entry, loop_tick(host->loop), class);
	if (is_spent(d)) {
		tell_expired(host, f, FLOW_UP, d);
		return;
	}
	if (f->destroyed) { /* the next one begins a new flow */
		udp_flow_finish(host, f, REASON_DESTROYED);
		return;
	}
	count(f, FLOW_UP, d);
	put_up(host, f, d, payload);
	count_burst(host, f, d);
}

/* ---- down ---- */

static enum udp_class class_after_answer(const struct udp_host *host, const struct udp_flow *f)
{
	if (f->entry.class == UDP_UNANSWERED)
		return UDP_ANSWERED;
	if (loop_now_us(host->loop) - f->opened_us > EXCHANGE_US)
		return UDP_ESTABLISHED;
	return f->entry.class;
}

/* What sends in the name of the server without privilege: the flow's own socket once it is handed
 * back, when the listener may be closed; else, for a direct flow, the listener. */
static int socket_with_port(struct udp_host *host, const struct udp_flow *f)
{
	int own = f->side[FLOW_CLIENT].fd;

	return own >= 0 ? own : host->listener(host, f->listener);
}

static void put_down(struct udp_host *host, struct udp_flow *f, const struct datagram *d,
		     const void *payload)
{
	struct datagram_out out = { .fd = f->side[FLOW_CLIENT].fd };

	if (f->promoted) {
		set_manner(host, f, FLOW_DOWN, out.fd, f->entry.client.family, d);
	} else {
		out.raw = udp_raw_has(host->raw, UDP_AS_SERVER, peer_of(f)->family);
		out.fd = out.raw ? udp_raw_socket(host->raw, host->queue, peer_of(f)->family,
						  UDP_AS_SERVER, fit_of(host, f, d))
				 : socket_with_port(host, f);
		out.to = peer_of(f);
		out.from = near_of(f);
		set_message(&out, d);
	}
	if (out.fd >= 0)
		put(host, f, FLOW_DOWN, &out, d, payload);
}

static void carry_down(struct udp_host *host, struct udp_flow *f, const struct datagram *d,
		       const void *payload)
{
	udp_table_touch(&host->table, &f->entry, loop_tick(host->loop),
			class_after_answer(host, f));
	if (is_spent(d)) {
		tell_expired(host, f, FLOW_DOWN, d);
		return;
	}
	count(f, FLOW_DOWN, d);
	put_down(host, f, d, payload);
	count_burst(host, f, d);
	if (f->unasked)
		learn_source(host, f);
}

/* ---- sockets of its own ---- */

static void take_up(struct udp_host *host, struct udp_flow *f, unsigned slot)
{
	struct datagram *d = datagram_batch_at(host->batch, slot);
	const void *payload = datagram_batch_payload(host->batch, slot);

	if (!f->closed && endpoint_equal(&d->client, &f->entry.client)) {
		udp_flow_up(host, f, d, payload);
		return;
	}
	d->local = f->entry.origdst;
	host->stray(host, f->listener, d, payload);
}

/* What the upstream socket received from others before it was connected is no answer; nor what was
 * for the flow that had the socket before. */
static bool is_answer(const struct udp_host *host, const struct udp_flow *f,
		      const struct datagram *d)
{
	struct endpoint upstream = udp_flow_upstream(host, f);

	return endpoint_equal(&d->client, &upstream) &&
	       (!endpoint_is_set(&d->local) || endpoint_equal(&d->local, &f->entry.client));
}

static void take_down(struct udp_host *host, struct udp_flow *f, unsigned slot)
{
	const struct datagram *d = datagram_batch_at(host->batch, slot);

	if (!f->closed && is_answer(host, f, d))
		carry_down(host, f, d, datagram_batch_payload(host->batch, slot));
}

/* Read once. Returns the number of datagrams; 0: none, or an error, which has been handled. */
static int read_side(struct udp_host *host, struct udp_flow *f, enum flow_end end, unsigned most)
{
	unsigned first;
	int got;

	if (datagram_batch_room(host->batch) < most)
		udp_flow_flush(host);
	got = datagram_batch_receive(host->batch, f->side[end].fd, most, &first);
	if (got < 0 && errno == ECONNABORTED) {
		note_destroyed(f);
		udp_flow_finish(host, f, REASON_DESTROYED);
	} else if (got < 0) {
		pass_errors(host, f, end);
	}
	host->handling++;
	for (int i = 0; i < got; i++) {
		if (end == FLOW_CLIENT)
			take_up(host, f, first + (unsigned)i);
		else
			take_down(host, f, first + (unsigned)i);
	}
	host->handling--;
	return got;
}

static void read_all(struct udp_host *host, struct udp_flow *f, enum flow_end end)
{
	unsigned most = f->promoted ? PROMOTED_READ : SHORT_READ;

	for (int n = 0; n < READS_MAX && !f->closed; n++)
		if (read_side(host, f, end, most) < (int)most)
			return;
}

static void handle_client(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct udp_flow *f = container_of(source, struct udp_flow, side[FLOW_CLIENT]);
	struct udp_host *host = host_of(loop);

	if (!f->joined) {
		host->drain_listener(host, f->listener);
		f->joined = true;
	}
	if (events & EPOLLERR)
		pass_errors(host, f, FLOW_CLIENT);
	read_all(host, f, FLOW_CLIENT);
}

static void handle_upstream(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct udp_flow *f = container_of(source, struct udp_flow, side[FLOW_UPSTREAM]);
	struct udp_host *host = host_of(loop);

	if (events & EPOLLERR)
		pass_errors(host, f, FLOW_UPSTREAM);
	read_all(host, f, FLOW_UPSTREAM);
}

/* Nobody watches a raw socket: its errors are read when it refuses to send. They are about this
 * datagram. */
static void pass_raw_errors(struct udp_host *host, const struct udp_flow *f,
			    const struct datagram_out *out)
{
	struct udp_icmp_error error;

	while (udp_icmp_take(out->fd, &error))
		(f->one_way ? tell_client : tell_upstream)(host, f, &error, out->length);
}

static bool is_of_segments(int error)
{
	return error == EINVAL || error == EMSGSIZE || error == EIO || error == EOPNOTSUPP;
}

/* The last read finds the socket empty, and nothing is left to send. */
static void read_to_end(struct udp_host *host, struct udp_flow *f, enum flow_end end)
{
	for (int n = 0; n < READS_OUT && !f->closed; n++) {
		int got = read_side(host, f, end, PROMOTED_READ);

		udp_flow_flush(host);
		if (got == 0) /* behind an error there may be more */
			break;
	}
}

/*
 * Relay everything that a socket holds. Whoever ends the flow may be in the middle of a batch, whose
 * slots are not to be overwritten: then this reads into others. (What it reads may begin a flow, for
 * which another one ends, and so on: a few deep, this is for no good.)
 */
static void read_out(struct udp_host *host, struct udp_flow *f, enum flow_end end)
{
	struct datagram_batch *outer = host->batch;
	struct failure why;

	if (f->closed || f->side[end].fd < 0)
		return;
	if (!host->handling) {
		read_to_end(host, f, end);
		return;
	}
	if (host->handling > NESTED_MAX || !(host->batch = datagram_batch_new(&why))) {
		host->batch = outer;
		return;
	}
	read_to_end(host, f, end);
	datagram_batch_free(host->batch);
	host->batch = outer;
}

/*
 * Nothing more is delivered to that side's socket, apart from what has got it already. One whose end
 * is an address of this host must not be unconnected: it would take what is for the other relay. So
 * it is connected to itself, from where nothing comes.
 */
static int stop_deliveries(const struct udp_flow *f, enum flow_end end)
{
	int fd = f->side[end].fd;

	return end == FLOW_CLIENT && f->direct ? datagram_connect(fd, &f->entry.origdst)
					       : datagram_disconnect(fd);
}

/*
 * Stop the kernel's deliveries to that side, and relay what it has delivered. The kernel cannot do
 * both in one step. So the side is emptied before, too, and no other system call comes between its
 * last read and the end of deliveries: only what arrives in that moment is sent afterwards.
 */
static void let_go(struct udp_host *host, struct udp_flow *f, enum flow_end end)
{
	if (f->side[end].fd < 0)
		return;
	read_out(host, f, end);
	if (f->closed || stop_deliveries(f, end) < 0)
		return;
	read_out(host, f, end);
}

/* The client's next datagrams go to the listener. */
static void hand_back_client(struct udp_host *host, struct udp_flow *f)
{
	if (f->closed || f->handed_client)
		return;
	let_go(host, f, FLOW_CLIENT);
	f->handed_client = true;
	f->promoted = false; /* other answers are sent without that connection */
}

/*
 * Its next datagrams go to another relay, or take the path that they would without one. What was on
 * its way to a socket when deliveries to it were stopped may be in there by now: so each is read
 * once more, the client's as long as there is an upstream to send that to.
 */
static void hand_back(struct udp_host *host, struct udp_flow *f)
{
	hand_back_client(host, f);
	if (f->closed)
		return;
	if (f->handed) {
		read_out(host, f, FLOW_UPSTREAM);
		return;
	}
	read_out(host, f, FLOW_CLIENT);
	if (!f->closed)
		let_go(host, f, FLOW_UPSTREAM);
	f->handed = true;
}

/* Was it silent for as long as its class allows? */
static bool is_over(const struct udp_host *host, const struct udp_flow *f)
{
	enum reason reason;

	return loop_tick(host->loop) - f->entry.active >= timeout_of(host, f->entry.class, &reason);
}

static bool is_any_over(const struct udp_host *host)
{
	enum reason reason;

	for (enum udp_class class = 0; class < UDP_CLASSES; class ++)
		if (udp_table_expired(&host->table, class, loop_tick(host->loop),
				      timeout_of(host, class, &reason)))
			return true;
	return false;
}

/* Hand the clients' sides of flows back: of all, or of those that are over. Returns how many. */
static unsigned hand_back_clients(struct udp_host *host, bool all, unsigned most)
{
	unsigned count = 0;
	struct udp_flow *f;

	for (f = slab_next(&host->flows, NULL); f && count < most; f = slab_next(&host->flows, f)) {
		if (f->closed || f->handed_client || (!all && !is_over(host, f)))
			continue;
		hand_back_client(host, f);
		count++;
	}
	return count;
}

/* Then the rest of these. Before each step that reads a side for the last time, what is on its way
 * to that side arrives; the upstreams' is read by whoever comes next. */
static void hand_back_rest(struct udp_host *host)
{
	datagram_settle();
	for (struct udp_flow *f = slab_next(&host->flows, NULL); f; f = slab_next(&host->flows, f))
		if (f->handed_client)
			hand_back(host, f);
	datagram_settle();
}

/* End flows that are over while the host is draining. Returns whether there are more that may. */
static bool end_together(struct udp_host *host)
{
	unsigned count;

	if (!is_any_over(host) || !host->ops->may_end(host))
		return false;
	count = hand_back_clients(host, false, PARTING_MAX);
	if (!count)
		return false;
	hand_back_rest(host);
	for (struct udp_flow *f = slab_next(&host->flows, NULL); f; f = slab_next(&host->flows, f))
		if (f->handed)
			udp_flow_finish(host, f, reason_when_over(host, f));
	return count == PARTING_MAX && host->ops->may_end(host);
}

void udp_flow_hand_back_all(struct udp_host *host)
{
	struct udp_flow *f;

	if (!hand_back_clients(host, true, UINT_MAX))
		return;
	hand_back_rest(host);
	for (f = slab_next(&host->flows, NULL); f; f = slab_next(&host->flows, f))
		hand_back(host, f);
}

/* For a flow's own sockets epoll reports errors, unless the send has taken the last one. A full
 * buffer is not one to pass on. */
bool udp_flow_failed(void *context, const struct datagram_out *out, int error)
{
	struct udp_host *host = context;
	struct udp_flow *f = out->owner;
	int dir = f->one_way || out->fd == f->side[FLOW_UPSTREAM].fd ? FLOW_UP : FLOW_DOWN;

	if (out->segment) {
		if (is_of_segments(error))
			f->single |= (uint8_t)(1 << dir) & 3;
		return false;
	}
	if (out->raw)
		pass_raw_errors(host, f, out);
	else if (f && (error == ECONNABORTED || error == EDESTADDRREQ))
		note_destroyed(f);
	return !out->raw && error != EAGAIN && error != ENOBUFS;
}

/* ---- the beginning ---- */

static int connect_upstream(struct udp_host *host, struct udp_flow *f, const struct endpoint *to,
			    const struct transparent_connect_options *how, struct failure *why)
{
	enum transparent_kept kept;
	int fd = transparent_connect_udp(&f->entry.client, to, how, &kept, why);

	f->side[FLOW_UPSTREAM].fd = fd;
	f->kept = fd < 0 ? KEPT_NO : (uint8_t)kept & 3;
	return fd < 0 ? -1 : 0;
}

/* Does the client hold its port where upstream legs are? Each network namespace has a loopback of
 * its own, which every local_addrs has. */
static bool is_at_home(const struct udp_host *host, const struct endpoint *client)
{
	if (host->elsewhere && endpoint_is_loopback(client))
		return false;
	return local_addrs_has(host->policy->local_addrs, client);
}

/* A client on this very host holds its port itself, and gets the answers anyway. */
static bool is_one_way(const struct udp_host *host, const struct udp_flow *f)
{
	return host->udp->one_way || (host->settings->connect.source == SOURCE_CLIENT &&
				      is_at_home(host, &f->entry.client));
}

static int open_upstream(struct udp_host *host, struct udp_flow *f, const struct endpoint *to,
			 struct failure *why)
{
	struct transparent_connect_options how = host->settings->connect;
	int result;

	f->one_way = is_one_way(host, f);
	if (f->one_way && !udp_raw_has(host->raw, UDP_AS_CLIENT, f->entry.client.family)) {
		report_fail(why, EPERM, "socket(SOCK_RAW)", "a client's port without its socket");
		return -1;
	}
	if (f->one_way) {
		loop_close(host->loop, &f->side[FLOW_UPSTREAM]); /* of a slot that had one */
		f->kept = KEPT_ADDR_PORT;
		return 0;
	}
	if (udp_reuse_connect(host, f, to)) {
		f->kept = KEPT_ADDR_PORT;
		return 0;
	}
	result = connect_upstream(host, f, to, &how, why);

	if (result < 0 && reason_of_failure(why) == REASON_DESCRIPTORS && host->spare(host))
		result = connect_upstream(host, f, to, &how, why);
	if (result < 0 && reason_of_failure(why) == REASON_CLASH && host->settings->new_port &&
	    how.source == SOURCE_CLIENT) {
		how.source = SOURCE_CLIENT_ADDR;
		result = connect_upstream(host, f, to, &how, why);
	}
	if (result == 0) {
		datagram_want(f->side[FLOW_UPSTREAM].fd, to->family, UDP_LEG_DETAILS);
		udp_icmp_listen(f->side[FLOW_UPSTREAM].fd, to->family);
	}
	return result;
}

/* Record the upstream leg if its ends are not those of the datagrams. */
static int note_leg(struct udp_host *host, struct udp_flow *f, const struct endpoint *to)
{
	struct policy_leg *leg;

	if (f->origin == ORIGIN_TPROXY && f->kept == KEPT_ADDR_PORT &&
	    endpoint_equal(to, &f->entry.origdst))
		return 0;
	if (make_extra(f) < 0)
		return -1;
	leg = &f->extra->leg;
	leg->peer = *to;
	leg->fd = -1;
	leg->local = f->one_way ? f->entry.client : endpoint_local_of(f->side[FLOW_UPSTREAM].fd);
	return endpoint_is_set(&leg->local) ? policy_add_leg(host->policy, leg) : -1;
}

/* ---- PROXY headers ---- */

size_t udp_flow_unique_id(const struct udp_host *host, const struct udp_flow *f,
			  uint8_t id[PROXYPROTO_ID_MAX])
{
	if (f->extra && f->extra->id_length) {
		memcpy(id, f->extra->id, f->extra->id_length);
		return f->extra->id_length;
	}
	if (host->settings->send_proxy < 2)
		return 0;
	return (size_t)snprintf((char *)id, PROXYPROTO_ID_MAX, "%016" PRIx64 "-%" PRIu64,
				host->settings->unique_ids, f->id);
}

/* Keep what the PROXY header of its first datagram said. */
static int keep_header(struct udp_flow *f, const struct udp_beginning *b)
{
	if (!b->header)
		return 0;
	if (make_extra(f) < 0)
		return -1;
	f->extra->peer = b->d->client;
	f->extra->near = b->d->local;
	f->extra->id_length = b->header->id_length;
	memcpy(f->extra->id, b->header->id, b->header->id_length);
	return 0;
}

/* Make the header for each datagram to the upstream. */
static int make_header(struct udp_host *host, struct udp_flow *f)
{
	struct proxyproto_header header = {
		.version = host->settings->send_proxy,
		.protocol = IPPROTO_UDP,
		.source = f->entry.client,
		.destination = f->entry.origdst,
	};

	if (!header.version)
		return 0;
	if (make_extra(f) < 0)
		return -1;
	header.has_addresses = header.destination.family == header.source.family;
	header.id_length = udp_flow_unique_id(host, f, header.id);
	f->extra->header_length = proxyproto_write(&header, f->extra->header);
	return 0;
}

/* ---- all of the beginning ---- */

/* Not 0 for a flow from a proxy; different for each pair of ends of the proxy's datagrams. */
static uint64_t via_of(const struct udp_host *host, const struct udp_beginning *b)
{
	if (!b->header)
		return 0;
	return endpoint_hash(&b->d->local, endpoint_hash(&b->d->client, host->table.seed)) | 1;
}

void udp_flow_describe(const struct udp_beginning *b, struct transparent_connection *out)
{
	*out = (struct transparent_connection){
		.fd = -1,
		.client = b->header ? b->header->source : b->d->client,
		.local = b->d->local,
		.origdst = b->header ? b->header->destination : b->d->origdst,
		.origin = b->header ? ORIGIN_PROXY : b->d->origin,
	};
}

static struct udp_flow *make(struct udp_host *host, const struct udp_beginning *b,
			     const struct endpoint *to)
{
	struct transparent_connection c;
	struct udp_flow *f;

	udp_flow_describe(b, &c);
	f = udp_reuse_slot(host, &c.client, to);
	if (!f)
		return NULL;
	f->entry.client = c.client;
	f->entry.origdst = b->header ? c.origdst : c.local;
	f->entry.via = via_of(host, b);
	f->origin = (uint8_t)c.origin & 7;
	f->direct = b->d->origin == ORIGIN_NONE;
	f->side[FLOW_CLIENT] = (struct loop_source){ .handler = handle_client, .fd = -1 };
	f->side[FLOW_UPSTREAM].handler = handle_upstream;
	f->opened_us = loop_now_us(host->loop);
	f->burst_tick = loop_tick(host->loop);
	return f;
}

/* Undo a flow that could not be set up. */
static struct udp_flow *unmake(struct udp_host *host, struct udp_flow *f)
{
	loop_close(host->loop, &f->side[FLOW_UPSTREAM]);
	drop_extra(host, f);
	slab_put(&host->flows, f);
	return NULL;
}

/* Everything that can fail for lack of memory. */
static int enter(struct udp_host *host, struct udp_flow *f, const struct udp_beginning *b,
		 const struct endpoint *to)
{
	if (keep_header(f, b) < 0 || make_header(host, f) < 0 || note_leg(host, f, to) < 0)
		return -1;
	if (!f->one_way && loop_watch(host->loop, &f->side[FLOW_UPSTREAM], EPOLLIN) < 0)
		return -1;
	if (udp_table_add(&host->table, &f->entry, loop_tick(host->loop)) < 0)
		return -1;
	udp_reuse_count(host, f, 1);
	return 0;
}

struct udp_flow *udp_flow_start(struct udp_host *host, const struct udp_beginning *b,
				const struct endpoint *to, uint64_t id, unsigned listener,
				enum reason *reason, struct failure *why)
{
	struct udp_flow *f = make(host, b, to);

	*reason = REASON_MEMORY;
	if (!f)
		return NULL;
	f->id = id;
	f->listener = (uint16_t)listener;
	if (open_upstream(host, f, to, why) < 0) {
		*reason = reason_of_failure(why);
		return unmake(host, f);
	}
	if (enter(host, f, b, to) < 0)
		return unmake(host, f);
	/* Without raw sockets only a socket of its own can send answers, and soon there will be no
	 * listener. */
	if (host->draining ||
	    (!f->direct && !udp_raw_has(host->raw, UDP_AS_SERVER, peer_of(f)->family)))
		promote(host, f);
	*reason = REASON_NONE;
	expect_translation(host, f);
	host->ops->opened(host, f);
	return f;
}

struct udp_flow *udp_flow_find(struct udp_host *host, const struct udp_beginning *b)
{
	const struct endpoint *client = b->header ? &b->header->source : &b->d->client;
	const struct endpoint *origdst = b->header ? &b->header->destination : &b->d->local;

	return (struct udp_flow *)udp_table_find(&host->table, client, origdst, via_of(host, b));
}

struct udp_flow *udp_flow_next(const struct udp_host *host, const struct udp_flow *f)
{
	return slab_next(&host->flows, f);
}
