/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/predicate.h"

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

/* Do two sorted lists share an address of that family? An empty list holds all. */
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

/* Is every prefix of that family in `inner` (all when empty) covered by `outer`? */
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
	/* What this host opens comes in by no interface. */
	if (!devices_meet(a, b) && !(a->local && b->local))
		return false;
	return (a->ipv4 && b->ipv4 && addresses_meet(a, b, AF_INET)) ||
	       (a->ipv6 && b->ipv6 && addresses_meet(a, b, AF_INET6));
}

bool predicate_matches(const struct intercept *spec, const struct endpoint *client,
		       const struct endpoint *destination)
{
	if (spec->divert_only || !intercept_wants(spec, destination->family))
		return false;
	if ((spec->src.count && !endpoint_in_cidrs(client, &spec->src)) ||
	    (spec->dst.count && !endpoint_in_cidrs(destination, &spec->dst)) ||
	    endpoint_in_cidrs(client, &spec->not_src) ||
	    endpoint_in_cidrs(destination, &spec->not_dst))
		return false;
	return port_taken(spec, destination->port);
}
