/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/udp_worker.h"

#include "base/container.h"
#include "base/recent.h"
#include "socket/datagram_batch.h"
#include "socket/takeover.h"
#include "tproxy-relay/udp_reuse.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSAL_MS    30000 /* how long further datagrams of a refused flow are not recorded */
#define READS_MAX     8	    /* full reads of a listener; then others get a turn */
#define DRAINED_MAX   16384 /* datagrams: no listener's buffer holds as many */
#define SETTLED_TICKS 3	    /* 500 to 750 ms */
#define SILENT_MS     2000  /* a flow that is silent this long may end with the relay */

struct udp_worker {
	struct udp_host host; /* first */
	struct udp_settings settings;
	struct listeners *listeners;
	struct loop_source *sources; /* one per listener */
	const struct cidr_list *accept_proxy;
	_Atomic uint64_t *ids;
	struct recent *refused;
	/* Set while there are flows, sockets of past ones, or listeners that another process
	 * reads. */
	struct loop_timer timer;
	struct loop_timer release; /* of the listeners, when draining */
	bool *claimed;		   /* by listener: it is ours to read */
	bool released;
	bool overdue; /* more flows have to end in the next turn */
};

static struct udp_worker *of_host(struct udp_host *host)
{
	return (struct udp_worker *)host;
}

struct udp_host *udp_worker_host(struct udp_worker *u)
{
	return &u->host;
}

bool udp_worker_is_busy(const struct udp_worker *u)
{
	return u->host.flows.used > udp_reuse_spares(&u->host) || !u->released;
}

/* ---- refused ---- */

static uint64_t fingerprint(const struct udp_worker *u, const struct transparent_connection *c)
{
	return endpoint_hash(
		&c->origdst,
		endpoint_hash(&c->local, endpoint_hash(&c->client, recent_seed(u->refused))));
}

/* The ICMP error for the client; none for a lack of resources, which is not the network's. */
static enum udp_icmp_kind kind_of(enum reason reason, const struct failure *why)
{
	switch (reason) {
	case REASON_DIRECT:
		return UDP_ICMP_PORT;
	case REASON_DENIED:
	case REASON_PROXY_ADDRESS:
		return UDP_ICMP_PROHIBITED;
	case REASON_LOOP:
	case REASON_SOURCE:
	case REASON_CLASH:
		return UDP_ICMP_HOST;
	case REASON_UPSTREAM_UNREACHABLE:
		return udp_icmp_kind_of(why->err);
	default:
		return UDP_ICMP_NONE;
	}
}

static void tell(struct udp_worker *u, const struct datagram *d, enum udp_icmp_kind kind)
{
	struct udp_icmp_error error = { .kind = kind };

	if (kind == UDP_ICMP_PORT)
		error.reporter = d->local;
	udp_icmp_tell(&u->host.icmp[FLOW_CLIENT], &u->host.icmp_allowance,
		      loop_now_us(u->host.loop), &error, &d->client, &d->local, d->length);
}

/* Record the refusal once, send the error each time. */
static void refuse(struct udp_worker *u, const struct udp_beginning *b, unsigned at,
		   enum reason reason, const struct failure *why)
{
	struct transparent_connection c;
	uint64_t now = loop_now(u->host.loop), refused;

	tell(u, b->d, kind_of(reason, why));
	udp_flow_describe(b, &c);
	refused = fingerprint(u, &c);
	if (recent_knows(u->refused, refused, now))
		return;
	recent_note(u->refused, refused, now, now + REFUSAL_MS);
	u->host.ops->refused(&u->host, &c, at, reason, why);
}

/* ---- beginning ---- */

static bool is_own_address(const struct udp_worker *u, const struct endpoint *e)
{
	struct local_addrs *known = u->host.policy->listener_addrs;

	return known ? local_addrs_has(known, e) : transparent_is_local(e);
}

/* The datagram's own ends show a loop, whatever its header says. */
static bool is_own_leg(const struct udp_worker *u, const struct udp_beginning *b)
{
	const struct udp_beginning plain = { .d = b->d };
	struct transparent_connection c;

	udp_flow_describe(&plain, &c);
	return policy_is_own_leg(u->host.policy, &c);
}

static enum reason judge(struct udp_worker *u, const struct udp_beginning *b, unsigned at,
			 struct failure *why)
{
	struct datagram *d = b->d;
	struct transparent_connection c;

	/* Control messages were cut off: without its destination the datagram cannot be handled. */
	if (!endpoint_is_set(&d->local) || d->cut)
		return REASON_NO_DESTINATION;
	datagram_judge(d, &u->listeners->at[at].at, is_own_address(u, &d->local));
	if (b->header && is_own_leg(u, b))
		return REASON_LOOP;
	udp_flow_describe(b, &c);
	return policy_judge(u->host.policy, &c, why);
}

/* An answered exchange that is silent may end early, for a new one that can use its socket. */
static void free_socket(struct udp_worker *u, const struct endpoint *client,
			const struct endpoint *to)
{
	struct udp_host *host = &u->host;
	struct udp_flow *over;

	if (!udp_reuse_suits(host, client, to) || !udp_reuse_is_short(host, client->family) ||
	    !host->ops->may_end(host))
		return;
	over = (struct udp_flow *)udp_table_expired(&host->table, UDP_ANSWERED,
						    loop_tick(host->loop), SETTLED_TICKS);
	if (over && udp_reuse_is_as_new(over))
		udp_flow_finish(host, over, REASON_DONE);
}

/* At the limit, end a flow that may be ended, if there is one. */
static bool make_room(struct udp_worker *u, const struct endpoint *client,
		      const struct endpoint *to)
{
	struct udp_table *table = &u->host.table;
	uint32_t silent = (uint32_t)(u->settings.unanswered_timeout / LOOP_TICK_MS);
	struct udp_entry *victim = NULL;

	if (table->count < table->max) {
		free_socket(u, client, to);
		return true;
	}
	victim = udp_table_victim(table, client, loop_tick(u->host.loop), silent);
	if (victim)
		udp_flow_finish(&u->host, (struct udp_flow *)victim, REASON_EVICTED);
	return victim;
}

static struct udp_flow *begin(struct udp_worker *u, const struct udp_beginning *b, unsigned at)
{
	struct failure why = { 0 };
	enum reason reason = judge(u, b, at, &why);
	const struct endpoint *to;
	struct transparent_connection c;
	struct udp_flow *f = NULL;

	udp_flow_describe(b, &c);
	to = policy_upstream(u->host.policy, &c.client, &c.origdst);
	if (reason == REASON_NONE && !make_room(u, &c.client, to))
		reason = REASON_AT_LIMIT;
	if (reason == REASON_NONE)
		f = udp_flow_start(&u->host, b, to, ++*u->ids, at, &reason, &why);
	if (!f)
		refuse(u, b, at, reason, &why);
	else if (!u->timer.prev)
		loop_arm(u->host.loop, &u->timer, LOOP_TICK_MS);
	return f;
}

/* ---- from the listeners ---- */

static void carry(struct udp_worker *u, const struct udp_beginning *b, unsigned at,
		  const void *payload)
{
	struct udp_flow *f = udp_flow_find(&u->host, b);

	if (!f)
		f = begin(u, b, at);
	if (f)
		udp_flow_up(&u->host, f, b->d, payload);
}

/* Read the header at the start of a datagram. Returns 0, or -1 with *why. */
static int read_header(const struct datagram *d, const char *payload,
		       struct proxyproto_header *header, struct failure *why)
{
	struct failure detail = { 0 };
	size_t wanted;
	int found = proxyproto_parse(payload, d->length, header, &wanted, &detail);

	if (found < 0)
		return report_refuse(why, "PROXY header: %s", detail.detail);
	if (!found)
		return report_refuse(why, "PROXY header: it is longer than the datagram");
	if (header->version != 2 || (header->has_addresses && header->protocol != IPPROTO_UDP))
		return report_refuse(why,
				     "PROXY header: it is not one of version 2 for a datagram");
	if (proxyproto_check(header, &detail) < 0)
		return report_refuse(why, "PROXY header: %s", detail.detail);
	return 0;
}

/* Take a datagram that begins with a PROXY header, as each from such a peer must. With a header
 * without addresses (of a health check) the datagram keeps its own. */
static void take_proxied(struct udp_worker *u, unsigned at, struct datagram *d, const char *payload)
{
	struct udp_beginning b = { .d = d };
	struct proxyproto_header header;
	struct failure why = { 0 };

	if (read_header(d, payload, &header, &why) < 0) {
		datagram_judge(d, &u->listeners->at[at].at, is_own_address(u, &d->local));
		refuse(u, &b, at, REASON_PROXY_HEADER, &why);
		return;
	}
	if (header.has_addresses)
		b.header = &header;
	d->length -= header.length;
	carry(u, &b, at, payload + header.length);
}

/* Each of several datagrams in one has its own header. */
static void take_all_proxied(struct udp_worker *u, unsigned at, const struct datagram *d,
			     const char *payload)
{
	size_t unit = d->segment ? d->segment : d->length, from = 0;
	struct datagram one = *d;

	one.segment = 0;
	do {
		one.length = d->length - from < unit ? d->length - from : unit;
		take_proxied(u, at, &one, payload + from);
		from += unit;
	} while (from < d->length);
}

static void take(struct udp_worker *u, unsigned at, struct datagram *d, const void *payload)
{
	const struct udp_beginning b = { .d = d };

	if (endpoint_in_cidrs(&d->client, u->accept_proxy))
		take_all_proxied(u, at, d, payload);
	else
		carry(u, &b, at, payload);
}

/* Read up to the given number of datagrams, while there are any. Returns how many. */
static unsigned read_listener(struct udp_worker *u, unsigned at, unsigned most)
{
	struct udp_host *host = &u->host;
	unsigned first, room, done = 0;
	int got;

	do {
		udp_flow_flush(host);
		room = datagram_batch_room(host->batch);
		got = datagram_batch_receive(host->batch, u->sources[at].fd, room, &first);
		host->handling++;
		for (int i = 0; i < got; i++)
			take(u, at, datagram_batch_at(host->batch, first + (unsigned)i),
			     datagram_batch_payload(host->batch, first + (unsigned)i));
		host->handling--;
		done += got > 0 ? (unsigned)got : 0;
	} while (got == (int)room && done < most);
	return done;
}

/* Of a listener that was taken over, the other relay reads until it lets go. */
static bool claim(struct udp_worker *u, unsigned at)
{
	struct loop_source *s = &u->sources[at];

	if (u->claimed[at] || s->fd < 0)
		return u->claimed[at];
	if (datagram_claim(s->fd) < 0 && (errno == EAGAIN || errno == EACCES))
		return false;
	u->claimed[at] = true;
	/* Switch from edge-triggered, with an event for each datagram, to level-triggered. */
	loop_watch(u->host.loop, s, EPOLLIN);
	return true;
}

static void handle_listener(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct udp_worker *u = of_host(((struct flow_ops *)loop_context(loop))->udp);

	if (!claim(u, (unsigned)(source - u->sources)))
		return;
	read_listener(u, (unsigned)(source - u->sources), READS_MAX * DATAGRAM_SLOTS);
}

/* ---- what flows ask of their host ---- */

static bool give_descriptor(struct udp_host *host)
{
	struct endpoint nobody = { 0 };
	struct udp_flow *victim;

	if (udp_reuse_drop_one(host))
		return true;
	victim = (struct udp_flow *)udp_table_victim(&host->table, &nobody, loop_tick(host->loop),
						     0);
	if (!victim)
		return false;
	udp_flow_finish(host, victim, REASON_EVICTED);
	loop_close(host->loop, &victim->side[FLOW_UPSTREAM]);
	return true;
}

static void drain_listener(struct udp_host *host, unsigned at)
{
	struct udp_worker *u = of_host(host);

	if (u->sources[at].fd >= 0 && u->claimed[at])
		read_listener(u, at, DRAINED_MAX);
}

static void take_stray(struct udp_host *host, unsigned at, struct datagram *d, const void *payload)
{
	take(of_host(host), at, d, payload);
}

static int listener_of(struct udp_host *host, unsigned at)
{
	return of_host(host)->sources[at].fd;
}

/* ---- life ---- */

static void expire(struct udp_worker *u)
{
	u->overdue = udp_flow_expire(&u->host);
	if (u->overdue)
		loop_wake(u->host.loop);
}

static void handle_tick(struct loop *loop, struct loop_timer *timer)
{
	struct udp_worker *u = container_of(timer, struct udp_worker, timer);
	bool all = true;

	for (unsigned i = 0; i < u->listeners->count; i++)
		all = claim(u, i) && all;
	expire(u);
	if (!u->host.table.count)
		udp_reuse_drop(&u->host);
	/* The sockets of flows that have just ended can be dropped from the next turn on. */
	if (u->host.table.count || udp_reuse_spares(&u->host) || (!all && !u->host.draining))
		loop_arm(loop, timer, LOOP_TICK_MS);
}

/*
 * Until the last read finds nothing. A flow that a datagram begins gets a socket at once, for what
 * comes then; but what came while the batch was being handled is in the listener, before that.
 */
static void empty_listener(struct udp_worker *u, unsigned at)
{
	unsigned done = 0, got = 1;

	if (u->sources[at].fd < 0 || !u->claimed[at])
		return;
	for (; got && done < DRAINED_MAX; done += got) {
		got = read_listener(u, at, DRAINED_MAX);
		/* Send before another relay handles what comes next. */
		udp_flow_flush(&u->host);
	}
}

static void empty_listeners(struct udp_worker *u)
{
	for (unsigned i = 0; i < u->listeners->count; i++)
		empty_listener(u, i);
}

/* Close them, so that another relay reads them. */
static void release_listeners(struct udp_worker *u)
{
	for (size_t i = 0; i < u->listeners->count; i++) {
		loop_forget(u->host.loop, &u->sources[i]);
		loop_close(u->host.loop, &u->sources[i]);
		u->listeners->at[i].fd = -1;
	}
	u->released = true;
	u->host.ops->released(&u->host);
}

/* No datagram that belongs to a flow is in flight to a listener any more. */
static void handle_release(struct loop *loop, struct loop_timer *timer)
{
	struct udp_worker *u = container_of(timer, struct udp_worker, release);

	empty_listeners(u);
	release_listeners(u);
}

static void set_host(struct udp_worker *u, const struct udp_worker_options *options)
{
	u->settings = options->udp;
	u->listeners = options->listeners;
	u->ids = options->ids;
	u->accept_proxy = options->accept_proxy;
	u->timer.alarm = handle_tick;
	u->release.alarm = handle_release;
	u->host.loop = options->loop;
	u->host.ops = options->ops;
	u->host.owner = options->owner;
	u->host.settings = options->settings;
	u->host.udp = &u->settings;
	u->host.policy = options->policy;
	u->host.alone = options->alone;
	u->host.icmp = options->icmp;
	u->host.elsewhere = options->elsewhere;
	u->host.raw = options->raw;
	u->host.spare = give_descriptor;
	u->host.drain_listener = drain_listener;
	u->host.stray = take_stray;
	u->host.listener = listener_of;
	slab_init(&u->host.flows, sizeof(struct udp_flow));
}

static int init(struct udp_worker *u, struct failure *why)
{
	struct udp_host *host = &u->host;

	if (udp_table_init(&host->table, u->settings.max) < 0 || udp_reuse_init(&host->reuse) < 0)
		return report_fail(why, errno, "malloc", "UDP flows");
	host->batch = datagram_batch_new(why);
	if (!host->batch || !(u->refused = recent_new(why)))
		return -1;
	host->queue = datagram_queue_new(udp_flow_failed, host, why);
	return host->queue ? 0 : -1;
}

struct udp_worker *udp_worker_new(const struct udp_worker_options *options, struct failure *why)
{
	struct udp_worker *u = calloc(1, sizeof(*u));

	if (!u) {
		report_fail(why, errno, "malloc", "UDP flows");
		return NULL;
	}
	set_host(u, options);
	if (init(u, why) == 0)
		return u;
	udp_worker_free(u);
	return NULL;
}

void udp_worker_free(struct udp_worker *u)
{
	if (!u)
		return;
	udp_table_free(&u->host.table);
	udp_reuse_free(&u->host.reuse);
	slab_free(&u->host.flows);
	datagram_batch_free(u->host.batch);
	datagram_queue_free(u->host.queue);
	recent_free(u->refused);
	free(u->sources);
	free(u->claimed);
	free(u);
}

int udp_worker_start(struct udp_worker *u, struct failure *why)
{
	const struct listeners *l = u->listeners;

	u->sources = calloc(l->count, sizeof(*u->sources));
	u->claimed = calloc(l->count, sizeof(*u->claimed));
	if (!u->sources || !u->claimed)
		return report_fail(why, errno, "malloc", "UDP listeners");
	for (size_t i = 0; i < l->count; i++) {
		u->sources[i] = (struct loop_source){ .handler = handle_listener,
						      .fd = l->at[i].fd };
		if (loop_watch(u->host.loop, &u->sources[i], EPOLLIN | EPOLLET) < 0)
			return report_fail(why, errno, "epoll_ctl", "UDP listeners");
		if (!claim(u, (unsigned)i) && !u->timer.prev)
			loop_arm(u->host.loop, &u->timer, LOOP_TICK_MS);
	}
	return 0;
}

static void shorten(uint64_t *ms)
{
	*ms = *ms < SILENT_MS ? *ms : SILENT_MS;
}

/*
 * Datagrams that the listeners hold, and those in flight to them, are still relayed: first the
 * flows that are not over get sockets of their own; the listeners are released a moment later. If
 * the flows are to end at once, the reset that follows does it all.
 */
void udp_worker_drain(struct udp_worker *u, bool at_once)
{
	u->host.draining = true;
	udp_reuse_drop(&u->host);
	shorten(&u->settings.unanswered_timeout);
	shorten(&u->settings.established_timeout);
	udp_flow_detach_all(&u->host, !at_once);
	if (!u->host.table.count)
		handle_release(u->host.loop, &u->release);
	else if (!at_once)
		loop_arm(u->host.loop, &u->release, LOOP_TICK_MS);
}

/* Has another relay a duplicate of our listeners? */
static bool has_successor(const struct udp_worker *u)
{
	pid_t successor;

	for (size_t i = 0; i < u->listeners->count; i++) {
		successor = u->sources[i].fd < 0 ? 0 : takeover_successor(u->sources[i].fd);
		if (successor && successor != getpid())
			return true;
	}
	return false;
}

/*
 * The listeners go to another relay, or nowhere, and with them what the flows receive next. For
 * another relay it waits there while the flows are handed back: so it is sent after everything that
 * we have received. Without one it would be lost there, so we read until the end.
 */
static void release_with_flows(struct udp_worker *u)
{
	loop_disarm(u->host.loop, &u->release);
	empty_listeners(u);
	if (has_successor(u))
		udp_flow_hand_back_all(&u->host);
	release_listeners(u);
}

void udp_worker_reset(struct udp_worker *u)
{
	/* First, because what a listener still holds may begin flows. */
	if (!u->released)
		release_with_flows(u);
	else
		udp_flow_hand_back_all(&u->host);
	for (struct udp_flow *f = slab_next(&u->host.flows, NULL);
	     f && u->host.ops->may_end(&u->host); f = slab_next(&u->host.flows, f))
		udp_flow_finish(&u->host, f, REASON_DRAINED);
}

void udp_worker_end_turn(struct udp_worker *u)
{
	if (u->overdue)
		expire(u);
	udp_flow_flush(&u->host);
}
