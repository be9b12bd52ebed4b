/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "base/json_text.h"
#include "firewall/ct_use.h"
#include "intercept/nft_text.h"
#include "intercept/predicate.h"
#include "net/conntrack.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * What this check knows. Our rules keep servers' SYN-ACKs that the specification covers, that have
 * no socket here, and whose SYN did not come by here, whatever became of that (nft_text.c, put_ask).
 * So the client's SYN took another way: through another relay, whose connection then hangs, or past
 * all of them. A router that forwards other people's connections sees their SYNs, and a relay that
 * gave up, was restarted, or leaves a connection alone has seen them, too.
 *
 * There are moments in which this is as it should be: just after `up`, and when one of several
 * relays comes or goes. What is asked then is answered in less than RETRIES_SECONDS, even if nobody
 * takes the answer and the server repeats it: two moments that are further apart do not belong to
 * one event. Only ENOUGH such moments are told.
 *
 * What it cannot know: whether there are other relays; who it was if an address was translated
 * without connection tracking's knowledge; and whether somebody forges clients' SYNs, unless the
 * client refuses the answers through here. And a relay that gets the other direction
 * alone gets no answers, which check_routing_answers() tells.
 */

/* The last repetition of a SYN-ACK comes after 1 + 2 + 4 + 8 + 16 seconds (tcp_synack_retries). */
#define RETRIES_SECONDS 35

/* That many moments, at least. */
#define ENOUGH 3

struct astray {
	const struct intercept *spec;
	unsigned count;
	/* Seconds for which they are still kept; from is_lasting() on the oldest comes first. */
	json_int_t left[NFT_TEXT_ASTRAY_MAX];
	json_int_t newest;
	json_int_t kept;		/* seconds for which each is */
	struct endpoint server, client; /* of the newest */
};

static bool read_end(const json_t *tuple, size_t at, struct endpoint *end)
{
	const char *address = json_string_value(json_array_get(tuple, at));

	if (!address || endpoint_parse_address(address, end, NULL))
		return false;
	end->port = (in_port_t)json_integer_value(json_array_get(tuple, at + 1));
	return true;
}

static void read_element(struct astray *a, const json_t *element)
{
	const json_t *inner = json_object_get(element, "elem");
	const json_t *tuple = json_object_get(json_object_get(inner, "val"), "concat");
	json_int_t left = json_integer_value(json_object_get(inner, "expires"));
	struct endpoint server, client;

	/* The client may have refused it. */
	if (left <= NFT_TEXT_REFUSED_SECONDS)
		return;
	/* The specification that was asked about may be another one. */
	if (a->count == NFT_TEXT_ASTRAY_MAX || !read_end(tuple, 0, &server) ||
	    !read_end(tuple, 2, &client) || !predicate_matches(a->spec, &client, &server))
		return;
	if (!a->count || left > a->newest) {
		a->newest = left;
		a->server = server;
		a->client = client;
	}
	a->left[a->count++] = left;
}

/* The elements of a set of the instance; returns how many there are, or -1 if there is no such set.
 * a: NULL, or where to put them. */
static long read_set(struct doctor_context *x, const char *name, struct astray *a)
{
	char table[NFT_TEXT_TABLE_MAX];
	struct failure why = { 0 };
	json_t *list, *object, *element;
	size_t i, j;
	long count = -1;

	snprintf(table, sizeof(table), NFT_TEXT_PREFIX "%s", x->spec->name);
	list = nft_list_json(x->kernel->rules, "set", "inet", table, name, &why);
	json_array_foreach(list, i, object) {
		const json_t *set = json_object_get(object, "set");
		json_t *elements = json_object_get(set, "elem");

		if (!set)
			continue;
		count = (long)json_array_size(elements);
		if (!a)
			continue;
		a->kept = json_integer_value(json_object_get(set, "timeout"));
		json_array_foreach(elements, j, element)
			read_element(a, element);
	}
	json_decref(list);
	return count;
}

static void report_astray(struct doctor_context *x, const struct astray *a)
{
	char server[ENDPOINT_TEXT_MAX], client[ENDPOINT_TEXT_MAX];

	context_report(
		x, DOCTOR_WARN,
		"clients' SYNs go through another relay or past this host, and the answers come "
		"here. Beside other relays such connections hang: the routers before and behind "
		"them must choose the same relay for both directions "
		"(fib_multipath_hash_policy=3, fib_multipath_hash_fields=0x37, the same "
		"fib_multipath_hash_seed and the same next hops; tproxy-scale(7)), or relays use "
		"--source own. If this relay is the only one, clients have a way to servers "
		"around it, or somebody forges the clients' addresses",
		"",
		"SYN-ACKs for connections that were not opened through this host, the last one "
		"%lld s ago, the first one %lld s before: as %s -> %s",
		(long long)(a->kept - a->newest), (long long)(a->newest - a->left[0]),
		endpoint_format(&a->server, server), endpoint_format(&a->client, client));
}

static int compare(const void *a, const void *b)
{
	json_int_t x = *(const json_int_t *)a, y = *(const json_int_t *)b;

	return (x > y) - (x < y);
}

/* Were there ENOUGH moments, each RETRIES_SECONDS or more after the one before? */
static bool is_lasting(struct astray *a)
{
	json_int_t last = 0;
	unsigned moments = 0;

	qsort(a->left, a->count, sizeof(*a->left), compare);
	for (unsigned i = 0; i < a->count; i++) {
		if (moments && a->left[i] - last < RETRIES_SECONDS)
			continue;
		last = a->left[i];
		moments++;
	}
	return moments >= ENOUGH;
}

/* May an address be another one here than where the SYN was seen? With zones, our rules ask
 * connection tracking. */
static bool may_be_translated(const struct doctor_context *x)
{
	enum ct_use use;

	if (x->spec->zone != CONNTRACK_OFF)
		return false;
	if (ct_use_find(&use, NULL, NULL))
		return true;
	return use != CT_USE_NONE || (ct_use_may_be_hidden() && conntrack_is_used());
}

static void report_lasting(struct doctor_context *x, const struct astray *a)
{
	if (read_set(x, NFT_TEXT_UNASKED, NULL) > 0)
		context_ok(x, "unknown: more connections are opened than are remembered");
	else if (may_be_translated(x))
		context_ok(x, "unknown: addresses may be translated here");
	else
		report_astray(x, a);
}

void check_oneway_answers(struct doctor_context *x)
{
	static const char *const sets[] = { NFT_TEXT_ASTRAY "4", NFT_TEXT_ASTRAY "6" };
	bool looks = x->installed && context_wants(x, IPPROTO_TCP) && !x->spec->divert_only;
	bool known = false;

	for (int i = 0; looks && i < 2; i++) {
		struct astray a = { .spec = x->spec };

		if (read_set(x, sets[i], &a) < 0)
			continue;
		known = true;
		if (is_lasting(&a))
			report_lasting(x, &a);
	}
	if (known)
		context_ok(x, "no SYN-ACKs for connections that were opened elsewhere");
	context_ok(x, "unknown: no rule of ours looks for stray SYN-ACKs%s",
		   looks ? " (rules of an older version: `down`, then `up`)" : "");
}
