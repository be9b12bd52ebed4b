/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/context.h"

#include "base/marks.h"
#include "net/listening.h"
#include <errno.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The port of examples when all ports are intercepted; the port that clients use in them. */
#define EXAMPLE_PORT	    80
#define EXAMPLE_CLIENT_PORT 40000

/* Addresses that nobody has (RFC 5737, RFC 3849), when no interface has a network for an
 * example. */
#define EXAMPLE_IPV4 "203.0.113.77"
#define EXAMPLE_IPV6 "2001:db8:ffff::77"

/* --- reporting -------------------------------------------------------------------------------- */

static void report(struct doctor_context *x, struct doctor_finding finding, bool up,
		   const char *evidence, va_list ap) __attribute__((format(printf, 4, 0)));
static void report(struct doctor_context *x, struct doctor_finding finding, bool up,
		   const char *evidence, va_list ap)
{
	char text[768];

	vsnprintf(text, sizeof(text), evidence, ap);
	finding.check = x->check;
	finding.evidence = text;
	x->count++;
	findings_add(&x->findings, &finding, up);
}

void context_report(struct doctor_context *x, enum doctor_severity severity, const char *why,
		    const char *fix, const char *evidence, ...)
{
	va_list ap;

	va_start(ap, evidence);
	report(x, (struct doctor_finding){ .severity = severity, .why = why, .fix = fix }, false,
	       evidence, ap);
	va_end(ap);
}

void context_report_up(struct doctor_context *x, enum doctor_severity severity, const char *why,
		       const char *first, const char *evidence, ...)
{
	va_list ap;

	va_start(ap, evidence);
	report(x, (struct doctor_finding){ .severity = severity, .why = why, .fix = first }, true,
	       evidence, ap);
	va_end(ap);
}

void context_ok(struct doctor_context *x, const char *evidence, ...)
{
	va_list ap;

	if (x->count)
		return;
	va_start(ap, evidence);
	report(x, (struct doctor_finding){ .severity = DOCTOR_OK, .why = "", .fix = "" }, false,
	       evidence, ap);
	va_end(ap);
}

/* The contents of a modified set are not the specification's. */
bool context_knows(const struct doctor_context *x)
{
	const struct nft_state *rules = &x->view->rules;

	for (unsigned i = 0; !x->asked && i < rules->parts; i++)
		if (!strncmp(rules->part[i].name, "set:", 4) &&
		    rules->part[i].verdict != PART_PRESENT)
			return false;
	return x->asked || x->installed;
}

/* --- what rules do to the example connections ------------------------------------------------- */

static void keep_step(const struct packet_path_step *at, void *context)
{
	struct context_steps *s = context;
	size_t room = s->room ? 2 * s->room : 64;
	struct packet_path_step *grown;

	if (s->count == s->room) {
		grown = s->failed ? NULL : realloc(s->at, room * sizeof(*grown));
		s->failed = !grown;
		if (!grown)
			return;
		s->at = grown;
		s->room = room;
	}
	s->at[s->count++] = *at;
}

void context_each_step(struct doctor_context *x, packet_path_judge *judge, void *context)
{
	struct context_steps *s = &x->steps;

	if (!s->known)
		packet_path_each(x->firewall, x->flow, x->flows, "", keep_step, s);
	s->known = true;
	if (s->failed)
		packet_path_each(x->firewall, x->flow, x->flows, "", judge, context);
	for (size_t i = 0; !s->failed && i < s->count; i++)
		judge(&s->at[i], context);
}

/* --- marks ------------------------------------------------------------------------------------ */

void context_take_mark(struct doctor_context *x, const struct mark *mark)
{
	if (x->marks < CONTEXT_MARKS_MAX)
		x->taken[x->marks++] = *mark;
}

void context_change_mark(struct doctor_context *x, struct mark *mark)
{
	marks_find_free(mark, x->taken, x->marks, mark);
	context_take_mark(x, mark);
}

static int take_rule_mark(const struct route_rule *rule, void *context)
{
	struct doctor_context *x = context;

	if (rule->mark.mask & x->spec->mark.mask)
		context_take_mark(x, &rule->mark);
	return 0;
}

static void take_marks(struct doctor_context *x)
{
	context_take_mark(x, &x->spec->mark);
	context_take_mark(x, &x->spec->upstream_mark);
	route_each_rule(x->kernel->route, AF_INET, take_rule_mark, x, NULL);
	route_each_rule(x->kernel->route, AF_INET6, take_rule_mark, x, NULL);
	for (unsigned i = 0; i < x->listeners; i++) {
		const struct mark mark = { x->listener[i].socket.mark, UINT32_MAX };

		if (x->listener[i].matches && x->listener[i].socket.has_mark && mark.value)
			context_take_mark(x, &mark);
	}
}

/* --- interfaces and example flows ------------------------------------------------------------- */

static bool is_ingress(const struct intercept *spec, const char *name)
{
	for (unsigned i = 0; i < spec->devices; i++) {
		const char *pattern = spec->device[i];
		size_t length = strcspn(pattern, "*");

		if (pattern[length] ? !strncmp(pattern, name, length) : !strcmp(pattern, name))
			return true;
	}
	return !spec->devices && strcmp(name, "lo");
}

static int add_device(const struct link *link, void *context)
{
	struct doctor_context *x = context;

	if (!strcmp(link->name, "lo"))
		x->lo = *link;
	if (is_ingress(x->spec, link->name) && x->devices < CONTEXT_DEVICES_MAX)
		x->device[x->devices++] = *link;
	return 0;
}

/* Addresses from getifaddrs() have room for any family. */
static struct endpoint address_of(const struct sockaddr *sa)
{
	return sa ? endpoint_from_sockaddr(sa, sizeof(struct sockaddr_in6))
		  : (struct endpoint){ 0 };
}

static bool is_own_address(const struct ifaddrs *all, const struct endpoint *e)
{
	for (; all; all = all->ifa_next) {
		struct endpoint own = address_of(all->ifa_addr);

		if (own.family == e->family && endpoint_same_address(&own, e))
			return true;
	}
	return false;
}

/* A host in the prefix other than this one; false: there is none. */
static bool host_in(const struct cidr *prefix, const struct ifaddrs *all, struct endpoint *out)
{
	uint8_t *last = (uint8_t *)&out->addr + (prefix->family == AF_INET ? 3 : 15);
	unsigned whole = prefix->family == AF_INET ? 32 : 128;
	uint8_t first;

	*out = (struct endpoint){ .family = prefix->family };
	memcpy(&out->addr, &prefix->addr, whole / 8);
	if (prefix->length == whole)
		return !is_own_address(all, out);
	first = *last;
	for (unsigned i = whole - prefix->length > 1 ? 1 : 0; i < 8; i++) {
		*last = (uint8_t)(first + i);
		if (endpoint_in_cidr(out, prefix) && !is_own_address(all, out))
			return true;
	}
	return false;
}

/* The network of an interface's address, as a prefix. */
static bool network_of(const struct ifaddrs *a, struct cidr *out)
{
	struct endpoint own = address_of(a->ifa_addr), mask = address_of(a->ifa_netmask);
	uint8_t *at = (uint8_t *)&own.addr, *bits = (uint8_t *)&mask.addr;

	if (!endpoint_is_set(&own) || mask.family != own.family || own.scope)
		return false;
	*out = (struct cidr){ .family = own.family };
	for (unsigned i = 0; i < (own.family == AF_INET ? 4 : 16); i++) {
		at[i] &= bits[i];
		out->length = (uint8_t)(out->length + __builtin_popcount(bits[i]));
	}
	memcpy(&out->addr, &own.addr, own.family == AF_INET ? 4 : 16);
	return true;
}

/* A neighbour on an interface that is (or is not, for !same) `device`. */
static bool neighbour(const struct ifaddrs *all, const struct link *device, bool same,
		      sa_family_t family, struct endpoint *out)
{
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		struct cidr network;

		if (!a->ifa_addr || a->ifa_addr->sa_family != family ||
		    !strcmp(a->ifa_name, "lo") || !strcmp(a->ifa_name, device->name) != same ||
		    !network_of(a, &network))
			continue;
		if (host_in(&network, all, out))
			return true;
	}
	return false;
}

/* Does the route back to that client use this interface? */
static bool is_behind(struct doctor_context *x, const struct endpoint *client,
		      const struct link *device)
{
	const struct route_question question = { .destination = *client };
	struct route_answer answer;

	return !route_ask(x->kernel->route, &question, &answer, NULL) &&
	       answer.oif == device->index;
}

static bool choose_client(struct doctor_context *x, const struct ifaddrs *all,
			  const struct link *device, sa_family_t family, struct endpoint *out)
{
	const struct cidr_list *src = &x->spec->src;

	for (size_t i = 0; i < src->count && i < CONTEXT_DEVICES_MAX; i++)
		if (src->at[i].family == family && host_in(&src->at[i], all, out) &&
		    is_behind(x, out, device))
			return true;
	/* A specification for that interface only means these clients, wherever they are routed. */
	for (size_t i = 0; x->spec->devices && i < src->count; i++)
		if (src->at[i].family == family && host_in(&src->at[i], all, out))
			return true;
	return !src->count && neighbour(all, device, true, family, out);
}

static void choose_destination(struct doctor_context *x, const struct ifaddrs *all,
			       const struct link *device, sa_family_t family, struct endpoint *out)
{
	const struct cidr_list *dst = &x->spec->dst;

	for (size_t i = 0; i < dst->count; i++)
		if (dst->at[i].family == family && host_in(&dst->at[i], all, out))
			return;
	if (!neighbour(all, device, false, family, out))
		endpoint_parse_address(family == AF_INET ? EXAMPLE_IPV4 : EXAMPLE_IPV6, out, NULL);
}

/* Find the interface through which the upstream leg leaves. */
static void find_upstream(struct doctor_context *x, struct packet_path_flow *flow)
{
	const struct route_question question = {
		.destination = flow->destination,
		.mark = x->spec->upstream_mark.value,
	};
	struct route_answer answer;

	flow->upstream = (struct link){ 0 };
	if (route_ask(x->kernel->route, &question, &answer, NULL) || !answer.oif ||
	    !if_indextoname(answer.oif, flow->upstream.name))
		return;
	flow->upstream.index = answer.oif;
}

static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP };

bool context_wants(const struct doctor_context *x, int protocol)
{
	return protocol == IPPROTO_TCP ? x->spec->tcp : x->spec->udp;
}

const struct endpoint *context_to(const struct doctor_context *x, sa_family_t family)
{
	return family == AF_INET ? &x->spec->to4 : &x->spec->to6;
}

/* Complete a flow that has its addresses, and add it once for each protocol. */
static void add_flow(struct doctor_context *x, struct packet_path_flow *flow)
{
	const struct intercept *spec = x->spec;

	flow->local = spec->local;
	flow->made = x->view->rules.handle;
	flow->mark = spec->mark;
	flow->upstream_mark = spec->upstream_mark.value;
	flow->client.port = EXAMPLE_CLIENT_PORT;
	flow->destination.port = spec->port.count ? spec->port.at[0].first : EXAMPLE_PORT;
	find_upstream(x, flow);
	for (size_t i = 0; i < sizeof(protocols); i++) {
		flow->protocol = protocols[i];
		if (context_wants(x, protocols[i]) && x->flows < CONTEXT_FLOWS_MAX)
			x->flow[x->flows++] = *flow;
	}
}

static void add_flow_of(struct doctor_context *x, const struct ifaddrs *all,
			const struct link *device, sa_family_t family)
{
	struct packet_path_flow flow = { .device = device };

	if (!choose_client(x, all, device, family, &flow.client))
		return;
	choose_destination(x, all, device, family, &flow.destination);
	add_flow(x, &flow);
}

/* Add a flow of this host, from the address that it uses towards that destination. */
static void add_own_flow(struct doctor_context *x, const struct ifaddrs *all, sa_family_t family)
{
	struct packet_path_flow flow = { .own = true, .device = &x->lo };

	choose_destination(x, all, &x->lo, family, &flow.destination);
	flow.destination.port = EXAMPLE_PORT;
	if (route_source(&flow.destination, &flow.client))
		add_flow(x, &flow);
}

static void find_flows(struct doctor_context *x, const struct ifaddrs *all)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };

	for (int f = 0; f < 2; f++) {
		if (!intercept_wants(x->spec, families[f]))
			continue;
		for (unsigned i = 0; i < x->devices; i++)
			add_flow_of(x, all, &x->device[i], families[f]);
		if (intercept_takes_own(x->spec))
			add_own_flow(x, all, families[f]);
	}
}

/* --- listeners -------------------------------------------------------------------------------- */

struct gathering {
	struct doctor_context *x;
	struct sockowner_list *owners;
};

static int add_listener(const struct sockdiag_socket *s, void *context)
{
	struct gathering *g = context;
	const struct endpoint *to[] = { &g->x->spec->to4, &g->x->spec->to6 };
	struct context_listener *l = &g->x->listener[g->x->listeners];

	if (g->x->listeners == CONTEXT_LISTENERS_MAX)
		return 0;
	*l = (struct context_listener){ .socket = *s };
	for (int i = 0; i < 2; i++) {
		if (!endpoint_is_set(to[i]) || s->local.port != to[i]->port)
			continue;
		if (listening_matches(s, to[i]))
			l->matches = true;
		else if (s->local.family == to[i]->family)
			l->missed = *to[i];
	}
	if (!l->matches && !endpoint_is_set(&l->missed))
		return 0;
	holder_find(g->owners, s->inode, s->uid, &l->by);
	g->x->listeners++;
	return 0;
}

static int find_listeners(struct doctor_context *x, struct failure *why)
{
	struct gathering g = { x, sockowner_read(NULL, NULL) };
	int err = 0;

	x->diag = sockdiag_open(why);
	for (size_t i = 0; x->diag && !err && i < sizeof(protocols); i++) {
		if (context_wants(x, protocols[i]))
			err = listening_each(x->diag, protocols[i], add_listener, &g, why);
	}
	sockowner_free(g.owners);
	return x->diag ? err : -1;
}

/* Set who sends the flows' other packets, once that is known. */
static void complete_flows(struct doctor_context *x)
{
	for (unsigned i = 0; i < x->flows; i++) {
		struct packet_path_flow *flow = &x->flow[i];

		flow->zones = x->spec->zone != CONNTRACK_OFF;
		for (unsigned j = 0; !flow->has_uid && j < x->listeners; j++) {
			const struct context_listener *l = &x->listener[j];
			struct mark mark;

			if (!l->matches || !l->by.state || l->socket.protocol != flow->protocol ||
			    l->socket.transparent == SOCKDIAG_NO)
				continue;
			flow->has_uid = true;
			if (holder_relay_mark(&l->by, &mark))
				flow->upstream_mark = mark.value;
			flow->uid = l->by.uid;
			flow->gid = l->by.gid;
		}
	}
}

int context_open(struct doctor_context *x, struct failure *why)
{
	struct ifaddrs *all = NULL;
	int err;

	x->firewall = firewall_read(x->kernel->rules, why);
	if (!x->firewall)
		return -1;
	if (getifaddrs(&all))
		return report_fail(why, errno, "getifaddrs", "interfaces");
	err = link_each(add_device, x, why);
	if (!err)
		find_flows(x, all);
	freeifaddrs(all);
	if (!err)
		err = find_listeners(x, why);
	if (!err) {
		take_marks(x);
		complete_flows(x);
	}
	return err;
}

void context_close(struct doctor_context *x)
{
	findings_free(&x->findings);
	free(x->steps.at);
	firewall_free(x->firewall);
	sockdiag_close(x->diag);
}
