/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/packet_trace.h"

#include "intercept/nft.h"
#include "intercept/nft_scan.h"
#include "intercept/nft_text.h"
#include "net/netgroup.h"
#include "net/netlink.h"
#include <errno.h>
#include <limits.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECEIVE_SIZE 16384 /* some dozen messages */
#define READS_MAX    64 /* in one call, so that a flood does not keep the caller from the clock */
#define TABLE_MAX    48
#define MATCH_MAX    320
#define RULES_MAX    4096

struct packet_trace {
	struct nft *nft; /* its socket owns the table */
	struct netlink *ask;
	int fd; /* of the messages */
	char table[TABLE_MAX];
	char buffer[RECEIVE_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static const char *const hooks[TRACE_HOOKS] = {
	[TRACE_PREROUTING] = "prerouting",   [TRACE_INPUT] = "input",
	[TRACE_FORWARD] = "forward",	     [TRACE_OUTPUT] = "output",
	[TRACE_POSTROUTING] = "postrouting",
};

#define COUNTERS 4
static const char *const counters[COUNTERS] = { "request", "answer", "upstream", "reply" };

const char *packet_trace_hook_name(enum packet_trace_hook hook)
{
	return hooks[hook];
}

/* --- which packets ---------------------------------------------------------------------------- */

static bool has(const struct endpoint *pattern, const struct endpoint *e)
{
	return (!pattern->family || endpoint_same_address(pattern, e)) &&
	       (!pattern->port || pattern->port == e->port);
}

static bool goes(const struct packet_trace_tuple *t, const struct endpoint *source,
		 const struct endpoint *destination, const struct trace_packet *p)
{
	return p->known && p->protocol == t->protocol &&
	       (!t->family || t->family == p->source.family) && has(source, &p->source) &&
	       has(destination, &p->destination);
}

/* The kernel does not say a scope in the packet; the interface does. */
static struct endpoint unscoped(const struct endpoint *e)
{
	struct endpoint copy = *e;

	copy.scope = 0;
	return copy;
}

bool packet_trace_is_anything(const struct packet_trace_tuple *t)
{
	return !t->client.family && !t->client.port && !t->destination.family &&
	       !t->destination.port;
}

bool packet_trace_is_destination(const struct packet_trace_tuple *t, const struct endpoint *e)
{
	const struct endpoint destination = unscoped(&t->destination);

	return has(&destination, e);
}

bool packet_trace_is_request(const struct packet_trace_tuple *t, const struct trace_packet *p)
{
	const struct endpoint client = unscoped(&t->client);
	const struct endpoint destination = unscoped(&t->destination);

	return goes(t, &client, &destination, p);
}

bool packet_trace_is_answer(const struct packet_trace_tuple *t, const struct trace_packet *p)
{
	const struct endpoint client = unscoped(&t->client);
	const struct endpoint destination = unscoped(&t->destination);

	return goes(t, &destination, &client, p);
}

/* --- rules ------------------------------------------------------------------------------------ */

/* `ip saddr 192.0.2.2 tcp sport 40000 `, or nothing for any; `which` is s or d. */
static int format_end(const struct endpoint *e, int protocol, char which, char *buf, size_t size)
{
	const struct endpoint plain = unscoped(e);
	char address[ENDPOINT_TEXT_MAX];
	int used = 0;

	buf[0] = '\0';
	if (e->family)
		used = snprintf(buf, size, "%s %caddr %s ", e->family == AF_INET ? "ip" : "ip6",
				which, endpoint_format_address(&plain, address));
	if (e->port)
		used += snprintf(buf + used, size - (size_t)used, "%s %cport %u ",
				 protocol == IPPROTO_UDP ? "udp" : "tcp", which, e->port);
	return used;
}

/* The rule that counts packets from `source` to `destination`, and traces them. */
static void format_rule(const struct packet_trace_tuple *t, bool answer, unsigned iif,
			const char *counter, char buf[MATCH_MAX])
{
	const struct endpoint *source = answer ? &t->destination : &t->client;
	const struct endpoint *destination = answer ? &t->client : &t->destination;
	size_t used = 0;

	if (iif)
		used = (size_t)snprintf(buf, MATCH_MAX, "iif %u ", iif);
	if (t->family)
		used += (size_t)snprintf(buf + used, MATCH_MAX - used, "meta nfproto %s ",
					 t->family == AF_INET ? "ipv4" : "ipv6");
	used += (size_t)snprintf(buf + used, MATCH_MAX - used, "meta l4proto %s ",
				 t->protocol == IPPROTO_UDP ? "udp" : "tcp");
	used += (size_t)format_end(source, t->protocol, 's', buf + used, MATCH_MAX - used);
	used += (size_t)format_end(destination, t->protocol, 'd', buf + used, MATCH_MAX - used);
	snprintf(buf + used, MATCH_MAX - used,
		 "counter name %s limit rate %u/second burst %u packets meta nftrace set 1",
		 counter, PACKET_TRACE_RATE, PACKET_TRACE_RATE);
}

/* The rules for the first chain of a hook. */
static size_t format_rules(const char *table, const struct packet_trace_tuple *t,
			   enum packet_trace_hook hook, char *buf, size_t size)
{
	bool arrives = hook == TRACE_PREROUTING;
	char request[MATCH_MAX], answer[MATCH_MAX];

	size_t used;

	format_rule(t, false, arrives ? t->iif : 0, arrives ? "request" : "upstream", request);
	format_rule(t, true, 0, arrives ? "answer" : "reply", answer);
	used = (size_t)snprintf(buf, size, "add rule inet %s %s-first %s\n", table, hooks[hook],
				request);
	if (!packet_trace_is_anything(t))
		used += (size_t)snprintf(buf + used, size - used, "add rule inet %s %s-first %s\n",
					 table, hooks[hook], answer);
	return used;
}

/* Chains with rules, and what they count. */
static size_t format_all_rules(const char *table, const struct packet_trace_tuple *t, char *buf,
			       size_t size)
{
	size_t used = format_rules(table, t, TRACE_PREROUTING, buf, size);

	return used + format_rules(table, t, TRACE_OUTPUT, buf + used, size - used);
}

/* At both ends of each hook: nobody runs before or after these. */
static size_t format_table(const char *table, char *buf, size_t size)
{
	size_t used = (size_t)snprintf(buf, size, "create table inet %s { flags owner; }\n", table);

	for (size_t i = 0; i < COUNTERS; i++)
		used += (size_t)snprintf(buf + used, size - used, "add counter inet %s %s\n", table,
					 counters[i]);
	for (size_t i = 0; i < TRACE_HOOKS; i++)
		used += (size_t)snprintf(
			buf + used, size - used,
			"add chain inet %s %s-first { type filter hook %s priority %d; }\n"
			"add chain inet %s %s-last { type filter hook %s priority %d; }\n",
			table, hooks[i], hooks[i], INT_MIN, table, hooks[i], hooks[i], INT_MAX);
	return used;
}

static int install(struct packet_trace *t, const struct packet_trace_tuple *tuple,
		   struct failure *why)
{
	char text[RULES_MAX];
	size_t used = format_table(t->table, text, sizeof(text));

	format_all_rules(t->table, tuple, text + used, sizeof(text) - used);
	return nft_load(t->nft, text, why);
}

int packet_trace_narrow(struct packet_trace *t, const struct packet_trace_tuple *tuple,
			struct failure *why)
{
	char text[RULES_MAX];
	size_t used = (size_t)snprintf(text, sizeof(text),
				       "flush chain inet %s prerouting-first\n"
				       "flush chain inet %s output-first\n",
				       t->table, t->table);

	for (size_t i = 0; i < COUNTERS; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "delete counter inet %s %s\nadd counter inet %s %s\n",
					 t->table, counters[i], t->table, counters[i]);

	format_all_rules(t->table, tuple, text + used, sizeof(text) - used);
	return nft_load(t->nft, text, why);
}

/* --- life ------------------------------------------------------------------------------------- */

struct packet_trace *packet_trace_open(const struct packet_trace_tuple *tuple, struct failure *why)
{
	struct packet_trace *t = calloc(1, sizeof(*t));

	if (!t) {
		report_fail(why, ENOMEM, "calloc", "nftrace");
		return NULL;
	}
	t->fd = -1;
	snprintf(t->table, sizeof(t->table), NFT_TEXT_TRACE_PREFIX "%ld", (long)getpid());
	t->nft = nft_open(why);
	t->ask = t->nft ? netlink_open(NETLINK_NETFILTER, why) : NULL;
	if (t->ask)
		t->fd = netgroup_open(NETLINK_NETFILTER, NETGROUP(NFNLGRP_NFTRACE), "nftrace", why);
	if (t->fd >= 0 && !install(t, tuple, why))
		return t;
	packet_trace_close(t);
	return NULL;
}

/* (The last packets that were traced may still be reported to others.) */
void packet_trace_close(struct packet_trace *t)
{
	if (!t)
		return;
	nft_close(t->nft);
	netlink_close(t->ask);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

int packet_trace_fd(const struct packet_trace *t)
{
	return t->fd;
}

/* --- counts ----------------------------------------------------------------------------------- */

static void note_count(const struct nft_scan_object *object, void *context)
{
	struct packet_trace_counts *c = context;

	if (object->kind != NFT_SCAN_COUNTER)
		return;
	if (!strcmp(object->name, "request"))
		c->request = object->packets;
	else if (!strcmp(object->name, "answer"))
		c->answer = object->packets;
	else if (!strcmp(object->name, "upstream"))
		c->upstream = object->packets;
	else if (!strcmp(object->name, "reply"))
		c->reply = object->packets;
}

static void forget_counts(void *context)
{
	*(struct packet_trace_counts *)context = (struct packet_trace_counts){ 0 };
}

int packet_trace_count(struct packet_trace *t, struct packet_trace_counts *counts,
		       struct failure *why)
{
	struct nft_scan_found found;

	forget_counts(counts);
	return nft_scan_table(t->ask, t->table, &found, note_count, forget_counts, counts, why);
}

/* --- messages --------------------------------------------------------------------------------- */

/* `prerouting-first`: which hook, and which end of it. */
static void place(struct packet_trace_event *e)
{
	const char *dash = strchr(e->message.chain, '-');
	size_t length = dash ? (size_t)(dash - e->message.chain) : 0;

	for (size_t i = 0; i < TRACE_HOOKS; i++)
		if (strlen(hooks[i]) == length && !strncmp(e->message.chain, hooks[i], length))
			e->hook = (enum packet_trace_hook)i;
	e->last = dash && !strcmp(dash, "-last");
	e->begins = e->message.handle != 0;
}

struct reading {
	const struct packet_trace *trace;
	packet_trace_visitor *visit;
	void *context;
};

static void take(void *datagram, size_t size, void *context)
{
	const struct reading *r = context;
	struct nlmsghdr *message = datagram;
	int length = (int)size;

	for (; nlmsg_ok(message, length); message = nlmsg_next(message, &length)) {
		struct packet_trace_event e = { 0 };

		if (!trace_message_parse(message, &e.message))
			continue;
		e.ours = !strcmp(e.message.table, r->trace->table);
		if (e.ours)
			place(&e);
		r->visit(&e, r->context);
	}
}

int packet_trace_read(struct packet_trace *t, packet_trace_visitor *visit, void *context,
		      struct failure *why)
{
	struct reading r = { t, visit, context };

	return netgroup_read(t->fd, t->buffer, sizeof(t->buffer), READS_MAX, take, &r, "nftrace",
			     why);
}
