/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/predicate.h"

#include "base/marks.h"
#include <stdio.h>
#include <string.h>

static bool same_prefix(const struct cidr *a, const struct cidr *b, unsigned length)
{
	const uint8_t *x = (const uint8_t *)&a->addr, *y = (const uint8_t *)&b->addr;
	unsigned rest = length % 8;

	if (memcmp(x, y, length / 8))
		return false;
	return !rest || !((x[length / 8] ^ y[length / 8]) >> (8 - rest));
}

static bool cidrs_meet(const struct cidr *a, const struct cidr *b)
{
	return a->family == b->family &&
	       same_prefix(a, b, a->length < b->length ? a->length : b->length);
}

/* Order of merged lists: by family, then address; prefixes of one list do not overlap. */
static bool comes_first(const struct cidr *a, const struct cidr *b)
{
	if (a->family != b->family)
		return a->family < b->family;
	return memcmp(&a->addr, &b->addr, a->family == AF_INET ? 4 : 16) < 0;
}

/* Do two sorted lists share an address of that family? An empty list contains all. */
static bool lists_meet(const struct cidr_list *a, const struct cidr_list *b, sa_family_t family)
{
	size_t i = 0, j = 0;

	if (!a->count || !b->count)
		return (!a->count || endpoint_cidrs_have(a, family)) &&
		       (!b->count || endpoint_cidrs_have(b, family));
	while (i < a->count && j < b->count) {
		if (a->at[i].family == family && cidrs_meet(&a->at[i], &b->at[j]))
			return true;
		if (comes_first(&a->at[i], &b->at[j]))
			i++;
		else
			j++;
	}
	return false;
}

static bool covers_all(const struct cidr_list *list, sa_family_t family)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->at[i].family == family && !list->at[i].length)
			return true;
	return false;
}

/* Does `outer` cover every prefix of that family in `inner` (all when empty)? */
static bool list_covers(const struct cidr_list *outer, const struct cidr_list *inner,
			sa_family_t family)
{
	size_t j = 0;

	if (!inner->count)
		return covers_all(outer, family);
	for (size_t i = 0; i < inner->count; i++) {
		const struct cidr *c = &inner->at[i];

		if (c->family != family)
			continue;
		while (j < outer->count && !cidrs_meet(&outer->at[j], c) &&
		       comes_first(&outer->at[j], c))
			j++;
		if (j == outer->count || !cidrs_meet(&outer->at[j], c) ||
		    outer->at[j].length > c->length)
			return false;
	}
	return true;
}

static bool port_taken(const struct intercept *spec, uint16_t port)
{
	return (!spec->port.count || endpoint_port_in(port, &spec->port)) &&
	       !endpoint_port_in(port, &spec->not_port);
}

static bool ports_meet(const struct intercept *a, const struct intercept *b)
{
	for (unsigned port = 1; port <= UINT16_MAX; port++)
		if (port_taken(a, (uint16_t)port) && port_taken(b, (uint16_t)port))
			return true;
	return false;
}

static bool device_meets(const char *a, const char *b)
{
	size_t x = strcspn(a, "*"), y = strcspn(b, "*");

	if (a[x] && b[y])
		return !strncmp(a, b, x < y ? x : y);
	if (a[x])
		return !strncmp(a, b, x);
	return b[y] ? !strncmp(a, b, y) : !strcmp(a, b);
}

static bool devices_meet(const struct intercept *a, const struct intercept *b)
{
	if (!a->devices || !b->devices)
		return true;
	for (unsigned i = 0; i < a->devices; i++)
		for (unsigned j = 0; j < b->devices; j++)
			if (device_meets(a->device[i], b->device[j]))
				return true;
	return false;
}

static bool addresses_meet(const struct intercept *a, const struct intercept *b, sa_family_t family)
{
	return lists_meet(&a->src, &b->src, family) && lists_meet(&a->dst, &b->dst, family) &&
	       !list_covers(&a->not_src, &b->src, family) &&
	       !list_covers(&b->not_src, &a->src, family) &&
	       !list_covers(&a->not_dst, &b->dst, family) &&
	       !list_covers(&b->not_dst, &a->dst, family);
}

bool predicate_overlaps(const struct intercept *a, const struct intercept *b)
{
	if (a->divert_only || b->divert_only || !((a->tcp && b->tcp) || (a->udp && b->udp)) ||
	    !ports_meet(a, b))
		return false;
	/* Connections that this host opens come in on no interface. */
	if (!devices_meet(a, b) && !(a->local && b->local))
		return false;
	return (a->ipv4 && b->ipv4 && addresses_meet(a, b, AF_INET)) ||
	       (a->ipv6 && b->ipv6 && addresses_meet(a, b, AF_INET6));
}

/* --- one packet ------------------------------------------------------------------------------- */

static bool device_takes(const struct intercept *spec, const char *name)
{
	for (unsigned i = 0; i < spec->devices; i++)
		if (device_meets(spec->device[i], name))
			return true;
	/* Packets that come in on lo were sent by this host. */
	return !spec->devices && strcmp(name, "lo");
}

static bool carries(const struct predicate_packet *p, const struct mark *mark)
{
	return p->marked && (p->mark & mark->mask) == mark->value;
}

static bool excluded_by_mark(const struct intercept *spec, const struct predicate_packet *p)
{
	for (unsigned i = 0; i < spec->not_marks; i++)
		if (carries(p, &spec->not_mark[i]))
			return true;
	return false;
}

static bool lacks_protocol(const struct intercept *spec, const struct predicate_packet *p)
{
	return (p->protocol == IPPROTO_TCP && !spec->tcp) ||
	       (p->protocol == IPPROTO_UDP && !spec->udp);
}

static enum predicate_term excluding_address(const struct intercept *spec,
					     const struct predicate_packet *p)
{
	if (spec->src.count && !endpoint_in_cidrs(&p->client, &spec->src))
		return PREDICATE_SRC;
	if (spec->dst.count && !endpoint_in_cidrs(&p->destination, &spec->dst))
		return PREDICATE_DST;
	if (endpoint_in_cidrs(&p->client, &spec->not_src))
		return PREDICATE_NOT_SRC;
	return endpoint_in_cidrs(&p->destination, &spec->not_dst) ? PREDICATE_NOT_DST
								  : PREDICATE_TAKES;
}

static enum predicate_term excluding_mark(const struct intercept *spec,
					  const struct predicate_packet *p)
{
	if (carries(p, &spec->mark))
		return PREDICATE_MARK;
	if (carries(p, &spec->upstream_mark))
		return PREDICATE_UPSTREAM;
	if (!p->own && p->iif && !device_takes(spec, p->iif))
		return PREDICATE_IIF;
	return excluded_by_mark(spec, p) ? PREDICATE_NOT_MARK : PREDICATE_TAKES;
}

static enum predicate_term excluding(const struct intercept *spec, const struct predicate_packet *p)
{
	uint16_t port = p->destination.port;
	enum predicate_term term;

	if (spec->divert_only)
		return PREDICATE_DIVERT_ONLY;
	if (!intercept_wants(spec, p->destination.family))
		return PREDICATE_FAMILY;
	if (lacks_protocol(spec, p))
		return PREDICATE_PROTOCOL;
	if (p->own && !spec->local)
		return PREDICATE_LOCAL;
	if (spec->port.count && !endpoint_port_in(port, &spec->port))
		return PREDICATE_PORT;
	if (endpoint_port_in(port, &spec->not_port))
		return PREDICATE_NOT_PORT;
	term = excluding_mark(spec, p);
	if (term != PREDICATE_TAKES)
		return term;
	if (p->here && !spec->include_own)
		return PREDICATE_HERE;
	return excluding_address(spec, p);
}

bool predicate_matches(const struct intercept *spec, const struct endpoint *client,
		       const struct endpoint *destination)
{
	const struct predicate_packet packet = { .client = *client, .destination = *destination };

	return excluding(spec, &packet) == PREDICATE_TAKES;
}

/* --- in words --------------------------------------------------------------------------------- */

#define LIST_TEXT_MAX 120

/* The prefix of the list that contains the address. */
static const char *holder_in(const struct cidr_list *list, const struct endpoint *e,
			     char buf[ENDPOINT_TEXT_MAX])
{
	buf[0] = '\0';
	for (size_t i = 0; i < list->count; i++)
		if (endpoint_in_cidr(e, &list->at[i]))
			return endpoint_format_cidr(&list->at[i], buf);
	return buf;
}

static void describe_devices(const struct intercept *spec, const char *iif,
			     char text[PREDICATE_TEXT_MAX])
{
	int used = snprintf(text, PREDICATE_TEXT_MAX, "came in by %s", iif);

	for (unsigned i = 0; i < spec->devices && used < PREDICATE_TEXT_MAX; i++)
		used += snprintf(text + used, PREDICATE_TEXT_MAX - (size_t)used, "%s%s",
				 i ? ", " : ", --iif ", spec->device[i]);
}

static void describe_mark(const char *option, const struct mark *mark, uint32_t value,
			  char text[PREDICATE_TEXT_MAX])
{
	char buf[QUANTITY_MARK_MAX];

	snprintf(text, PREDICATE_TEXT_MAX, "carries mark 0x%x, and our %s is %s", value, option,
		 quantity_format_mark(mark, buf));
}

static void describe_not_mark(const struct intercept *spec, const struct predicate_packet *p,
			      char text[PREDICATE_TEXT_MAX])
{
	char buf[QUANTITY_MARK_MAX] = "";

	for (unsigned i = 0; i < spec->not_marks; i++)
		if (carries(p, &spec->not_mark[i]))
			quantity_format_mark(&spec->not_mark[i], buf);
	snprintf(text, PREDICATE_TEXT_MAX, "carries mark 0x%x, which --not-mark %s excludes",
		 p->mark, buf);
}

static void describe_address(const struct intercept *spec, enum predicate_term term,
			     const struct predicate_packet *p, char text[PREDICATE_TEXT_MAX])
{
	bool source = term == PREDICATE_SRC || term == PREDICATE_NOT_SRC;
	bool listed = term == PREDICATE_SRC || term == PREDICATE_DST;
	const struct endpoint *e = source ? &p->client : &p->destination;
	enum intercept_list_id id = source   ? listed ? LIST_SRC : LIST_NOT_SRC
				    : listed ? LIST_DST
					     : LIST_NOT_DST;
	char list[LIST_TEXT_MAX], address[ENDPOINT_TEXT_MAX];

	endpoint_format_address(e, address);
	if (listed)
		snprintf(text, PREDICATE_TEXT_MAX, "%s %s is not in --%s %s",
			 source ? "client" : "destination", address, intercept_lists[id].name,
			 intercept_list_text(spec, id, list, sizeof(list)));
	else
		snprintf(text, PREDICATE_TEXT_MAX, "%s %s is excluded by --%s %s",
			 source ? "client" : "destination", address, intercept_lists[id].name,
			 holder_in(intercept_cidrs((struct intercept *)spec, id), e, list));
}

static void describe(const struct intercept *spec, enum predicate_term term,
		     const struct predicate_packet *p, char text[PREDICATE_TEXT_MAX])
{
	char list[LIST_TEXT_MAX];
	unsigned port = p->destination.port;
	bool four = p->destination.family == AF_INET;

	switch (term) {
	case PREDICATE_TAKES:
		text[0] = '\0';
		return;
	case PREDICATE_DIVERT_ONLY:
		snprintf(text, PREDICATE_TEXT_MAX, "--divert-only: it takes no new connection");
		return;
	case PREDICATE_FAMILY:
		snprintf(text, PREDICATE_TEXT_MAX, "%s: it takes %s alone", four ? "IPv4" : "IPv6",
			 four ? "IPv6" : "IPv4");
		return;
	case PREDICATE_PROTOCOL:
		snprintf(text, PREDICATE_TEXT_MAX, "%s: it takes %s alone",
			 p->protocol == IPPROTO_UDP ? "UDP" : "TCP", spec->tcp ? "TCP" : "UDP");
		return;
	case PREDICATE_LOCAL:
		snprintf(text, PREDICATE_TEXT_MAX,
			 "this host opens the connection itself, which takes --local");
		return;
	case PREDICATE_PORT:
		snprintf(text, PREDICATE_TEXT_MAX, "port %u is not among %s", port,
			 intercept_list_text(spec, LIST_PORT, list, sizeof(list)));
		return;
	case PREDICATE_NOT_PORT:
		snprintf(text, PREDICATE_TEXT_MAX, "port %u is excluded by --not-port %s", port,
			 intercept_list_text(spec, LIST_NOT_PORT, list, sizeof(list)));
		return;
	case PREDICATE_MARK:
		describe_mark("--mark", &spec->mark, p->mark, text);
		return;
	case PREDICATE_UPSTREAM:
		describe_mark("--upstream-mark", &spec->upstream_mark, p->mark, text);
		return;
	case PREDICATE_IIF:
		describe_devices(spec, p->iif, text);
		return;
	case PREDICATE_NOT_MARK:
		describe_not_mark(spec, p, text);
		return;
	case PREDICATE_HERE:
		snprintf(text, PREDICATE_TEXT_MAX,
			 "it is addressed to this host, which takes --include-own");
		return;
	default:
		describe_address(spec, term, p, text);
	}
}

enum predicate_term predicate_excludes(const struct intercept *spec,
				       const struct predicate_packet *packet,
				       char text[PREDICATE_TEXT_MAX])
{
	enum predicate_term term = excluding(spec, packet);

	if (text)
		describe(spec, term, packet, text);
	return term;
}

/* --- what would take it ----------------------------------------------------------------------- */

static bool add_host(struct cidr_list *list, const struct endpoint *e)
{
	const struct cidr c = endpoint_host_cidr(e);

	if (endpoint_cidr_add(list, &c, NULL) < 0)
		return false;
	endpoint_cidr_merge(list);
	return true;
}

static bool drop_prefix(struct cidr_list *list, const struct endpoint *e)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++)
		if (!endpoint_in_cidr(e, &list->at[i]))
			list->at[kept++] = list->at[i];
	list->count = kept;
	return true;
}

static bool add_port(struct port_list *list, uint16_t port)
{
	const struct port_range range = { port, port };

	if (endpoint_ports_add(list, &range, NULL) < 0)
		return false;
	endpoint_ports_merge(list);
	return true;
}

/* Ports on both sides of it are kept. */
static bool drop_port(struct port_list *list, uint16_t port)
{
	for (size_t i = 0; i < list->count; i++) {
		struct port_range *r = &list->at[i];
		const struct port_range above = { (uint16_t)(port + 1), r->last };

		if (port < r->first || port > r->last)
			continue;
		if (r->first == port && r->last == port)
			*r = list->at[--list->count];
		else if (r->first == port)
			r->first++;
		else
			r->last = (uint16_t)(port - 1);
		if (above.first <= above.last && above.first && r->last == port - 1 &&
		    endpoint_ports_add(list, &above, NULL) < 0)
			return false;
		break;
	}
	endpoint_ports_merge(list);
	return true;
}

/* The same port on the other family's loopback address: a relay of both families listens there. */
static bool admit_family(struct intercept *spec, sa_family_t family)
{
	struct endpoint *to = family == AF_INET ? &spec->to4 : &spec->to6;
	const struct endpoint *other = family == AF_INET ? &spec->to6 : &spec->to4;
	struct endpoint loopback = { .family = family, .port = other->port };

	if (!endpoint_is_set(other))
		return false;
	if (family == AF_INET)
		loopback.addr.v4.s_addr = htonl(INADDR_LOOPBACK);
	else
		loopback.addr.v6 = in6addr_loopback;
	*to = loopback;
	spec->ipv4 = spec->ipv6 = true;
	return true;
}

static bool admit_protocol(struct intercept *spec)
{
	spec->tcp = spec->udp = true;
	return true;
}

static bool admit_mark(struct intercept *spec, const struct predicate_packet *p)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < spec->not_marks; i++)
		if (!carries(p, &spec->not_mark[i]))
			spec->not_mark[kept++] = spec->not_mark[i];
	spec->not_marks = kept;
	return true;
}

static bool admit_local(struct intercept *spec)
{
	spec->local = true;
	return true;
}

static bool admit_own(struct intercept *spec)
{
	spec->include_own = true;
	return true;
}

/* A mark that differs from the packet's, and from our other one. */
static bool change_mark(struct mark *mark, const struct intercept *spec,
			const struct predicate_packet *p)
{
	const struct mark taken[] = { { p->mark, UINT32_MAX }, spec->mark, spec->upstream_mark };

	return marks_find_free(mark, taken, sizeof(taken) / sizeof(*taken), mark);
}

bool predicate_admit(struct intercept *spec, enum predicate_term term,
		     const struct predicate_packet *p)
{
	switch (term) {
	case PREDICATE_FAMILY:
		return admit_family(spec, p->destination.family);
	case PREDICATE_PROTOCOL:
		return admit_protocol(spec);
	case PREDICATE_LOCAL:
		return admit_local(spec);
	case PREDICATE_PORT:
		return add_port(&spec->port, p->destination.port);
	case PREDICATE_NOT_PORT:
		return drop_port(&spec->not_port, p->destination.port);
	case PREDICATE_MARK:
		return change_mark(&spec->mark, spec, p);
	case PREDICATE_UPSTREAM:
		return change_mark(&spec->upstream_mark, spec, p);
	case PREDICATE_IIF:
		return spec->devices && !intercept_add_device(spec, p->iif, NULL);
	case PREDICATE_NOT_MARK:
		return admit_mark(spec, p);
	case PREDICATE_HERE:
		return admit_own(spec);
	case PREDICATE_SRC:
		return add_host(&spec->src, &p->client);
	case PREDICATE_DST:
		return add_host(&spec->dst, &p->destination);
	case PREDICATE_NOT_SRC:
		return drop_prefix(&spec->not_src, &p->client);
	case PREDICATE_NOT_DST:
		return drop_prefix(&spec->not_dst, &p->destination);
	default:
		return false;
	}
}
