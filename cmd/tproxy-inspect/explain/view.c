/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/view.h"

#include "base/defaults.h"
#include "net/onlink.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The port of a client without one: the first of these that is not in use towards the
 * destination. */
#define EXAMPLE_PORT  40000
#define EXAMPLE_TRIES 64

/* --- the packet ------------------------------------------------------------------------------- */

static int type_of(struct view *v, const struct endpoint *destination)
{
	const struct route_question question = { .destination = *destination };
	struct route_answer answer;

	return route_ask(v->kernel.route, &question, &answer, NULL) ? RTN_UNSPEC : answer.type;
}

struct link view_out(struct view *v, const struct endpoint *destination, uint32_t mark)
{
	const struct route_question question = { .destination = *destination, .mark = mark };
	struct route_answer answer;
	struct link out = { 0 };

	if (route_ask(v->kernel.route, &question, &answer, NULL) || !answer.oif ||
	    link_find(answer.oif, &out, NULL) != 1)
		return (struct link){ 0 };
	return out;
}

static int find_interface(struct view *v, const char *name, bool *usage, struct failure *why)
{
	unsigned index = if_nametoindex(name);

	if (index && link_find(index, &v->iif, why) == 1)
		return 0;
	*usage = true;
	report_refuse(why, "there is no such interface");
	return report_about(why, "--iif %s", name);
}

/* A neighbour's packets arrive on its own link, wherever answers to it are routed. */
static int choose_onlink(const struct link *link, void *context)
{
	struct view *v = context;

	if (!strcmp(link->name, "lo") || !onlink_has(&v->client, link->name))
		return 0;
	v->iif = *link;
	return 1;
}

/* By the route back to the client, unless an interface was given. */
static int choose_interface(struct view *v, const char *iif, bool *usage, struct failure *why)
{
	if (v->own) {
		*usage = iif != NULL;
		if (!iif)
			return find_interface(v, "lo", usage, why);
		report_refuse(why, "the client is this host, and what it sends comes in nowhere");
		return report_about(why, "--iif %s", iif);
	}
	if (iif)
		return find_interface(v, iif, usage, why);
	if (v->client.scope)
		return link_find(v->client.scope, &v->iif, why) < 0 ? -1 : 0;
	if (link_each(choose_onlink, v, why) < 0)
		return -1;
	if (!*v->iif.name)
		v->iif = view_out(v, &v->client, 0);
	return 0;
}

static bool is_connected(const struct sockdiag_socket *s)
{
	return s->peer.port && s->state != TCP_LISTEN;
}

/* The connection of these two ends that has a socket here. */
static int find_connection(struct view *v, struct failure *why)
{
	int found = sockdiag_lookup(v->diag, v->protocol, &v->client, &v->destination, v->iif.index,
				    &v->connection, why);

	v->established = found == 1 && is_connected(&v->connection) && !v->opens;
	return found < 0 ? -1 : 0;
}

static int choose_port(struct view *v, struct failure *why)
{
	int err = 0;

	if (v->client.port)
		return find_connection(v, why);
	v->example = true;
	for (unsigned i = 0; !err && i < EXAMPLE_TRIES; i++) {
		v->client.port = (uint16_t)(EXAMPLE_PORT + i);
		err = find_connection(v, why);
		if (!v->established)
			break;
	}
	v->established = false;
	return err;
}

static int read_packet(struct view *v, const struct view_question *q, bool *usage,
		       struct failure *why)
{
	int type;

	v->protocol = q->protocol;
	v->client = q->client;
	v->destination = q->destination;
	v->iif_asked = q->iif != NULL;
	v->opens = q->opens;
	if (q->client.family != q->destination.family) {
		*usage = true;
		return report_refuse(why, "CLIENT and DESTINATION are of different families");
	}
	v->own = type_of(v, &q->client) == RTN_LOCAL;
	type = type_of(v, &q->destination);
	v->here = type == RTN_LOCAL || type == RTN_BROADCAST || type == RTN_MULTICAST ||
		  type == RTN_ANYCAST;
	if (choose_interface(v, q->iif, usage, why))
		return -1;
	if (v->client.family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v->client.addr.v6))
		v->client.scope = v->iif.index;
	return choose_port(v, why);
}

/* --- rules ------------------------------------------------------------------------------------ */

static int add_name(const char *name, void *context)
{
	struct view *v = context;
	struct view_instance *grown = realloc(v->instance,
					      (v->instances + 1) * sizeof(*v->instance));

	if (!grown)
		return -1;
	v->instance = grown;
	v->instance[v->instances] = (struct view_instance){ 0 };
	snprintf(v->instance[v->instances++].name, sizeof(grown->name), "%s", name);
	return 0;
}

static int read_rules(struct view *v, struct failure *why)
{
	v->firewall = firewall_read_some(v->kernel.rules, why);
	if (!v->firewall || nft_each(v->kernel.rules, add_name, v, why))
		return -1;
	for (unsigned i = 0; i < v->instances; i++)
		if (instance_look(&v->kernel, v->instance[i].name, NULL, true, &v->instance[i].is,
				  why))
			return -1;
	return 0;
}

/* The table of the instance that may take the packet: it is not known yet whether one does. */
static uint64_t find_made(const struct view *v)
{
	for (unsigned i = 0; i < v->instances; i++)
		if (!v->own || v->instance[i].is.rules.spec.local)
			return v->instance[i].is.rules.handle;
	return 0;
}

/* Without the right to read rules the rest can still be reported. */
static int read_what_may(struct view *v, struct failure *why)
{
	v->kernel.rules = nft_open(&v->hidden);
	if (v->kernel.rules && !read_rules(v, &v->hidden))
		return 0;
	v->blind = true;
	if (v->hidden.err == EPERM || v->hidden.err == EACCES)
		return 0;
	*why = v->hidden;
	return -1;
}

/* --- life ------------------------------------------------------------------------------------- */

int view_open(struct view *v, const struct view_question *question, bool *usage,
	      struct failure *why)
{
	*v = (struct view){ 0 };
	*usage = false;
	v->kernel.route = route_open(why);
	v->diag = v->kernel.route ? sockdiag_open(why) : NULL;
	if (!v->diag || read_packet(v, question, usage, why))
		return -1;
	v->owners = sockowner_read(NULL, NULL);
	if (read_what_may(v, why))
		return -1;
	v->flow = (struct packet_path_flow){
		.protocol = (uint8_t)v->protocol,
		.own = v->own,
		.device = &v->iif,
		.client = v->client,
		.destination = v->destination,
		.made = find_made(v),
		.mark = DEFAULT_MARK,
		.upstream_mark = DEFAULT_UPSTREAM_MARK.value,
	};
	return 0;
}

void view_close(struct view *v)
{
	for (unsigned i = 0; i < v->instances; i++)
		instance_view_free(&v->instance[i].is);
	free(v->instance);
	steps_free(&v->steps);
	firewall_free(v->firewall);
	sockowner_free(v->owners);
	sockdiag_close(v->diag);
	instance_close(&v->kernel);
}
