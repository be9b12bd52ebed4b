/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/relays.h"

#include "base/clock.h"
#include "net/relay_client.h"
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_S	   1
#define STRANGERS_LIMIT_MS 3000

struct asking {
	relays_visitor *visit;
	void *context;
	char netns[RELAYS_NETNS_MAX]; /* of the relay that answers */
	uint64_t strangers_ms;	      /* what other users' relays have taken so far */
	struct failure why;
	int result;
};

static bool is_text(const struct record *r, enum record_field f, const char *wanted)
{
	const char *text = record_get_text(r, f);

	return text && strcmp(text, wanted) == 0;
}

static struct endpoint endpoint_of(const struct record *r, enum record_field f)
{
	return r->present & RECORD_BIT(f) ? r->value[f].endpoint : (struct endpoint){ 0 };
}

/* A socket's cookie is a counter (sock_gen_cookie()), and a pid has 22 bits. */
#define KEY	 (1ULL << 63)
#define KEY_BITS 41

static uint64_t key_of(const struct record *r, pid_t relay)
{
	return KEY | (uint64_t)relay << KEY_BITS |
	       (record_get_number(r, RECORD_ID) & ((1ULL << KEY_BITS) - 1));
}

/* Names of ours: whatever answers there may say anything. */
static const char *state_of(const struct record *r)
{
	static const char *const names[] = { "unanswered", "answered", "established" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (is_text(r, RECORD_STATE, names[i]))
			return names[i];
	return "unknown";
}

static void take_flow(const struct record *r, pid_t relay, struct relays_pair *pair)
{
	pair->key = key_of(r, relay);
	pair->client = endpoint_of(r, RECORD_CLIENT);
	pair->origdst = endpoint_of(r, RECORD_ORIGDST);
	pair->state = state_of(r);
	pair->idle_us = record_get_number(r, RECORD_IDLE_MS);
	pair->bytes_up = record_get_number(r, RECORD_BYTES_UP);
	pair->bytes_down = record_get_number(r, RECORD_BYTES_DOWN);
	pair->packets_up = record_get_number(r, RECORD_PACKETS_UP);
	pair->packets_down = record_get_number(r, RECORD_PACKETS_DOWN);
}

static int take(const struct record *r, const struct relay_client_peer *peer, void *context,
		struct failure *why)
{
	struct asking *a = context;
	const char *netns = record_get_text(r, RECORD_UPSTREAM_NETNS);
	struct relays_pair pair = {
		.protocol = is_text(r, RECORD_PROTO, "udp") ? IPPROTO_UDP : IPPROTO_TCP,
		.cookie = record_get_number(r, RECORD_COOKIE),
		.upstream_cookie = record_get_number(r, RECORD_UPSTREAM_COOKIE),
		.age_us = record_get_number(r, RECORD_DURATION_MS),
		.uid = peer->uid,
		.upstream_local = endpoint_of(r, RECORD_UPSTREAM_LOCAL),
		.upstream = endpoint_of(r, RECORD_UPSTREAM),
	};

	if (is_text(r, RECORD_TYPE, "relay"))
		snprintf(a->netns, sizeof(a->netns), "%s", netns ? netns : "");
	memcpy(pair.netns, a->netns, sizeof(pair.netns));
	if (pair.protocol == IPPROTO_UDP)
		take_flow(r, peer->pid, &pair);
	if (pair.protocol == IPPROTO_UDP ? endpoint_is_set(&pair.client)
					 : pair.cookie && pair.upstream_cookie)
		a->visit(&pair, a->context);
	return 0;
}

/* Any user can listen at any number of such names, and be slow at each: that must not keep us from
 * the others for long. */
static int ask(const struct relay_client_listener *at, void *context)
{
	struct asking *a = context;
	bool stranger = !at->known || !relay_client_is_own(at->uid);
	uint64_t since = clock_ms();

	if (stranger && a->strangers_ms >= STRANGERS_LIMIT_MS) {
		report_refuse(&a->why, "not asked: other users' have taken too long");
		a->result = report_about(&a->why, "%s", at->name);
		return 0;
	}
	if (relay_client_ask_within(at, "connections", TIMEOUT_S, take, a, &a->why) < 0)
		a->result = -1;
	if (stranger)
		a->strangers_ms += clock_ms() - since;
	return 0;
}

int relays_each(relays_visitor *visit, void *context, struct failure *why)
{
	struct asking a = { .visit = visit, .context = context };

	if (relay_client_each(ask, &a, &a.why) < 0)
		a.result = -1;
	if (a.result < 0 && why)
		*why = a.why;
	return a.result;
}
