/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/policy.h"
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/random.h>

void policy_init(struct policy *p)
{
	*p = (struct policy){ 0 };
	pthread_mutex_init(&p->lock, NULL);
	/* Clients choose their ports: without a secret they could choose the buckets too. */
	if (getrandom(&p->seed, sizeof(p->seed), GRND_NONBLOCK) < 0)
		p->seed = (uintptr_t)p;
}

void policy_free(struct policy *p)
{
	free(p->buckets);
	endpoint_list_free(&p->listeners);
	pthread_mutex_destroy(&p->lock);
}

/* ---- own upstream legs ---- */

static struct policy_leg **bucket_of(const struct policy *p, const struct endpoint *local,
				     const struct endpoint *peer)
{
	uint64_t hash = endpoint_hash(peer, endpoint_hash(local, p->seed));

	return &p->buckets[hash & (p->size - 1)];
}

/* Double the buckets. Without memory the table stays as it is: slower, still correct. */
static void grow(struct policy *p)
{
	struct policy_leg **old = p->buckets, **grown;
	size_t old_size = p->size;

	grown = calloc(old_size ? old_size * 2 : 64, sizeof(*grown));
	if (!grown)
		return;
	p->buckets = grown;
	p->size = old_size ? old_size * 2 : 64;
	for (size_t i = 0; i < old_size; i++) {
		while (old[i]) {
			struct policy_leg *leg = old[i];
			struct policy_leg **bucket = bucket_of(p, &leg->local, &leg->peer);

			old[i] = leg->next;
			leg->next = *bucket;
			*bucket = leg;
		}
	}
	free(old);
}

int policy_add_leg(struct policy *p, struct policy_leg *leg)
{
	struct policy_leg **bucket;

	pthread_mutex_lock(&p->lock);
	if (p->legs >= p->size)
		grow(p);
	leg->noted = p->size > 0;
	if (leg->noted) {
		bucket = bucket_of(p, &leg->local, &leg->peer);
		leg->next = *bucket;
		*bucket = leg;
		p->legs++;
	}
	pthread_mutex_unlock(&p->lock);
	return leg->noted ? 0 : -1;
}

void policy_remove_leg(struct policy *p, struct policy_leg *leg)
{
	struct policy_leg **at;

	if (!leg->noted)
		return;
	pthread_mutex_lock(&p->lock);
	for (at = bucket_of(p, &leg->local, &leg->peer); *at != leg;)
		at = &(*at)->next;
	*at = leg->next;
	p->legs--;
	pthread_mutex_unlock(&p->lock);
	leg->noted = false;
}

/*
 * The kernel frees the port of a connection that was reset before we hear of it (tcp_set_state() in
 * net/ipv4/tcp.c), and another program of this host may have it at once: that is no leg of ours.
 *
 * #syscalls upstream: getsockopt
 */
static bool is_alive(const struct policy_leg *leg)
{
	uint8_t state = 0; /* the first byte of struct tcp_info */
	socklen_t size = sizeof(state);

	return leg->fd < 0 || getsockopt(leg->fd, IPPROTO_TCP, TCP_INFO, &state, &size) < 0 ||
	       state != TCP_CLOSE;
}

static bool has_leg(struct policy *p, const struct endpoint *local, const struct endpoint *peer)
{
	const struct policy_leg *leg;

	if (!p->legs)
		return false;
	pthread_mutex_lock(&p->lock);
	for (leg = *bucket_of(p, local, peer); leg; leg = leg->next)
		if (endpoint_equal(&leg->local, local) && endpoint_equal(&leg->peer, peer) &&
		    is_alive(leg))
			break;
	pthread_mutex_unlock(&p->lock);
	return leg != NULL;
}

/* ---- judgement ---- */

bool policy_is_own_leg(struct policy *p, const struct transparent_connection *c)
{
	/* Each network namespace has a loopback of its own. */
	if (p->netns && endpoint_is_loopback(&c->client))
		return false;
	return has_leg(p, &c->client, c->origin == ORIGIN_NONE ? &c->local : &c->origdst);
}

bool policy_is_own_listener(const struct policy *p, const struct endpoint *e)
{
	for (size_t i = 0; i < p->listeners.count; i++)
		if (transparent_is_at(&p->listeners.at[i], e))
			return true;
	return false;
}

bool policy_occupies(const struct policy *p, const struct endpoint *client)
{
	for (size_t i = 0; i < p->listeners.count; i++) {
		const struct endpoint *l = &p->listeners.at[i];

		if (l->family == client->family && l->port == client->port && endpoint_is_any(l))
			return true;
	}
	return false;
}

const struct endpoint *policy_upstream(const struct policy *p, const struct endpoint *client,
				       const struct endpoint *origdst)
{
	bool v6 = client->family == AF_INET6;

	if (endpoint_is_set(&p->upstream[v6]))
		return &p->upstream[v6];
	return endpoint_is_set(&p->upstream[!v6]) ? &p->upstream[!v6] : origdst;
}

/* A client address that nobody has: of class E, and of the discard prefix (RFC 6666). */
static struct endpoint any_client(int family)
{
	struct endpoint e = { .family = (sa_family_t)family };

	if (family == AF_INET)
		e.addr.v4.s_addr = htonl(0xf0000001);
	else
		e.addr.v6.s6_addr[0] = e.addr.v6.s6_addr[15] = 1;
	return e;
}

/*
 * What such an upstream sends to the client's address is routed to the client, which does not know
 * the connection, and never reaches our socket; unless policy routing keeps it here.
 */
int policy_check_answers(struct policy *p, const struct endpoint *client,
			 const struct endpoint *upstream, struct failure *why)
{
	struct endpoint any = any_client(upstream->family), source;
	char text[ENDPOINT_TEXT_MAX];

	if (!p->local_addrs || !local_addrs_has(p->local_addrs, upstream))
		return 0;
	/* A link-local address may be ours on one link and a neighbour's on another. */
	if (upstream->scope && !transparent_is_local(upstream))
		return 0;
	source = transparent_source_of(endpoint_is_set(client) ? client : &any, p->connect);
	if (source.family != upstream->family || local_addrs_has(p->local_addrs, &source) ||
	    local_addrs_keep(p->local_addrs, upstream, &source))
		return 0;
	report_refuse(why,
		      "is on %s, and its answers to the client's address would not come back to "
		      "the relay: use --source own, or 127.0.0.1 and ::1 with `tproxy-setup up "
		      "%s%s%s--divert-only --local`",
		      p->netns ? "that host" : "this host", p->netns ? "--netns " : "",
		      p->netns ? p->netns : "", p->netns ? " " : "");
	return report_about(why, "%s", endpoint_format(upstream, text));
}

/* Each network namespace has links of its own: the scope of an address means another one there, or
 * none. */
static int check_scopes(const struct policy *p, const struct endpoint *client,
			const struct endpoint *to, struct failure *why)
{
	struct endpoint source = transparent_source_of(client, p->connect);
	const struct endpoint *scoped = to->scope ? to : &source;
	char text[ENDPOINT_TEXT_MAX];

	if (!p->netns || !scoped->scope)
		return 0;
	report_refuse(why, "is of a link that network namespace %s does not have%s", p->netns,
		      scoped == to ? "" : ": use --source own");
	return report_about(why, "%s", endpoint_format(scoped, text));
}

/* ---- what a PROXY header names ---- */

static bool is_link_local(const struct endpoint *e)
{
	if (e->family == AF_INET)
		return ntohl(e->addr.v4.s_addr) >> 16 == 0xa9fe;
	return e->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&e->addr.v6);
}

/*
 * The name for an address that means this host, or its link, and so means another host to the
 * writer of the header than to us; else NULL. *length is the length of the prefix that contains
 * only such addresses. 0, or -1 with *why: the lookup failed.
 */
static int special_kind(struct policy *p, const struct endpoint *e, const char **kind,
			unsigned *length, struct failure *why)
{
	bool v4 = e->family == AF_INET;
	int own = 1;

	*kind = "an address of this host";
	*length = v4 ? 32 : 128;
	if (endpoint_is_loopback(e)) {
		*length = v4 ? 8 : 128;
		*kind = "a loopback address";
	} else if (is_link_local(e)) {
		*length = v4 ? 16 : 10;
		*kind = "a link-local address";
	} else if (p->local_addrs) {
		own = local_addrs_end(p->local_addrs, e, p->connect->mark->value, why);
	}
	if (!own)
		*kind = NULL;
	return own < 0 ? -1 : 0;
}

/* Does --allow-dst name these specifically? `0.0.0.0/0' does not. */
static bool is_named(const struct policy *p, const struct endpoint *e, unsigned length)
{
	for (size_t i = 0; i < p->allow->count; i++)
		if (p->allow->at[i].cidr.length >= length && match_has(&p->allow->at[i], e))
			return true;
	return false;
}

/*
 * A peer that may send a header must not use it to reach services of this host, or services that
 * trust its loopback address; nor may the clients of a proxy that in turn accepts headers from
 * them.
 */
static enum reason check_destination(struct policy *p, const struct endpoint *to,
				     struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];
	const char *kind;
	unsigned length;

	if (special_kind(p, to, &kind, &length, why) < 0)
		return reason_of_failure(why);
	if (!kind || is_named(p, to, length))
		return REASON_NONE;
	report_refuse(why, "PROXY header: its destination %s is %s, and no --allow-dst names it",
		      endpoint_format(to, text), kind);
	return REASON_PROXY_ADDRESS;
}

static enum reason check_header(struct policy *p, const struct transparent_connection *c,
				const struct endpoint *to, struct failure *why)
{
	char client[ENDPOINT_TEXT_MAX];
	bool keeps = p->connect->source == SOURCE_CLIENT ||
		     p->connect->source == SOURCE_CLIENT_ADDR;
	enum reason reason = REASON_NONE;

	if (keeps && endpoint_is_loopback(&c->client)) {
		report_refuse(why, "PROXY header: its source is a loopback address, which cannot "
				   "be a client's: use --source own");
		reason = REASON_PROXY_ADDRESS;
	} else if (to == &c->origdst) {
		reason = check_destination(p, to, why);
	}
	if (reason != REASON_NONE)
		report_about(why, "%s", endpoint_format(&c->client, client));
	return reason;
}

/* ---- altogether ---- */

static void explain_hops(const struct transparent_connection *c, struct failure *why)
{
	char client[ENDPOINT_TEXT_MAX];

	report_refuse(why, "came with its last hop (TTL 1): proxies that lead to each other, or a "
			   "routing loop");
	report_about(why, "%s", endpoint_format(&c->client, client));
}

enum reason policy_judge(struct policy *p, const struct transparent_connection *c,
			 struct failure *why)
{
	const struct endpoint *to = policy_upstream(p, &c->client, &c->origdst);
	enum reason header;

	if (!endpoint_is_set(to))
		return REASON_DIRECT;
	if (policy_is_own_leg(p, c) || policy_is_own_listener(p, to))
		return REASON_LOOP;
	if (c->hops == 1) {
		explain_hops(c, why);
		return REASON_HOPS;
	}
	if (match_list_has(p->deny, to) || (p->allow->count && !match_list_has(p->allow, to)))
		return REASON_DENIED;
	if (check_scopes(p, &c->client, to, why) < 0)
		return REASON_SOURCE;
	header = c->origin == ORIGIN_PROXY ? check_header(p, c, to, why) : REASON_NONE;
	if (header != REASON_NONE)
		return header;
	return policy_check_answers(p, &c->client, to, why) < 0 ? REASON_SOURCE : REASON_NONE;
}
