/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/relays.h"

#include "base/clock.h"
#include "net/relay_client.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_S 1

/* Strangers: users other than root and our own, who can listen at any number of such names. In all
 * of one question they take so much, the first time and later; and what they have taken, so many
 * times, those of them who have not answered before are not asked. */
#define STRANGERS_FIRST_MS 3000
#define STRANGERS_MS	   1000
#define STRANGERS_SHARE	   10

/* A relay that does not answer is left alone for this time; a stranger for twice as long each time,
 * up to that; and so long its flows count as open. */
#define RETRY_MS     30000
#define RETRY_MAX_MS (64 * RETRY_MS)
#define LOST_MS	     120000

struct entry {
	struct relay_client_listener at;
	uint32_t number;   /* of its name; 0: not one that a relay takes */
	uint64_t told_ms;  /* its last complete answer, or when it was found */
	uint64_t due_ms;   /* not to be asked before */
	uint64_t pause_ms; /* the last pause */
	bool told;	   /* the last question was answered completely */
	bool reported;	   /* that it does not answer */
	bool asked;	   /* in this question */
};

struct relays {
	struct entry *at; /* sorted by number and name */
	size_t count;
	bool listed; /* these are all that there are */
	bool again;  /* not the first question */
	uint64_t strangers_due_ms;
	bool strangers_reported;
};

struct asking {
	struct relays *relays;
	struct entry *relay; /* the one that answers */
	relays_visitor *visit;
	void *context;
	char netns[RELAYS_NETNS_MAX]; /* its */
	uint64_t strangers_ms;	      /* what strangers have taken so far */
	struct failure why;
	int result;
	bool why_own; /* *why is of one of ours */
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

/* A socket's cookie is a counter (sock_gen_cookie()); a relay's number has 26 bits. */
#define KEY	 (1ULL << 63)
#define KEY_BITS 37

static uint64_t key_of(const struct record *r, uint32_t relay)
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

static void take_flow(const struct record *r, uint32_t relay, struct relays_pair *pair)
{
	pair->key = key_of(r, relay);
	pair->relay = relay;
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
		take_flow(r, a->relay->number, &pair);
	if (pair.protocol == IPPROTO_UDP ? pair.relay && endpoint_is_set(&pair.client)
					 : pair.cookie && pair.upstream_cookie)
		a->visit(&pair, a->context);
	return 0;
}

/* ---- the relays ---- */

#define PID_MAX (1UL << 22) /* PID_MAX_LIMIT (linux/threads.h) */

/* `@tproxy-relay/PID` or `@tproxy-relay/PID.N`, N up to 9 (control.c): in one network namespace such
 * a name is one relay's, whatever pids look like here. Different names have different numbers. */
static uint32_t number_of(const char *name)
{
	const char *digits = strchr(name, '/') + 1;
	char *end;
	unsigned long pid = strtoul(digits, &end, 10);

	if (*digits == '0' || pid > PID_MAX)
		return 0;
	return (uint32_t)pid << 4 | (*end == '.' ? (uint32_t)(end[1] - '0') : 0);
}

static bool is_own(const struct entry *e)
{
	return e->at.known && relay_client_is_own(e->at.uid);
}

static int compare_numbers(const void *one, const void *other)
{
	const struct entry *a = one, *b = other;

	return (a->number > b->number) - (a->number < b->number);
}

static int compare_entries(const void *one, const void *other)
{
	const struct entry *a = one, *b = other;
	int order = compare_numbers(a, b);

	return order ? order : strcmp(a->at.name, b->at.name);
}

static struct entry *find_by(const struct relays *r, const struct entry *wanted,
			     int (*compare)(const void *one, const void *other))
{
	return r->count ? bsearch(wanted, r->at, r->count, sizeof(*r->at), compare) : NULL;
}

/* What is known of it already, if it is the same one. */
static const struct entry *find_known(const struct relays *r, const struct entry *wanted)
{
	const struct entry *e = find_by(r, wanted, compare_entries);

	return e && e->at.known == wanted->at.known && e->at.uid == wanted->at.uid ? e : NULL;
}

struct listing {
	const struct relays *before;
	struct relays now;
	size_t room;
};

static int add(const struct relay_client_listener *at, void *context)
{
	struct listing *l = context;
	struct entry e = { .at = *at, .number = number_of(at->name), .told_ms = clock_ms() };
	const struct entry *known = find_known(l->before, &e);

	if (l->now.count == l->room) {
		size_t room = l->room ? 2 * l->room : 16;
		struct entry *grown = realloc(l->now.at, room * sizeof(*grown));

		if (!grown)
			return ENOMEM;
		l->now.at = grown;
		l->room = room;
	}
	l->now.at[l->now.count] = known ? *known : e;
	l->now.at[l->now.count++].asked = false;
	return 0;
}

/* Those that are there now, with what is known of them. */
static int list_all(struct relays *r, struct failure *why)
{
	struct listing l = { .before = r };
	int err = relay_client_each(add, &l, why);

	r->listed = !err;
	if (err) {
		free(l.now.at);
		return err > 0 ? report_fail(why, err, "malloc", "list of relays") : err;
	}
	free(r->at);
	r->at = l.now.at;
	r->count = l.now.count;
	if (r->count)
		qsort(r->at, r->count, sizeof(*r->at), compare_entries);
	return 0;
}

/* Keep what is to be said: what was not said yet, rather of ours. */
static void note_failure(struct asking *a, struct entry *e, const struct failure *why)
{
	bool own = is_own(e);
	bool said = e->reported || (!own && a->relays->strangers_reported);

	e->reported = true;
	if (said || (a->why_own && !own))
		return;
	a->why = *why;
	a->why_own = own;
	a->result = -1;
}

static void leave_alone(struct entry *e)
{
	e->pause_ms = e->pause_ms && !is_own(e) ? 2 * e->pause_ms : RETRY_MS;
	if (e->pause_ms > RETRY_MAX_MS)
		e->pause_ms = RETRY_MAX_MS;
	e->due_ms = clock_ms() + e->pause_ms;
}

static void ask_one(struct asking *a, struct entry *e)
{
	struct failure why = { 0 };

	a->relay = e;
	e->told = relay_client_ask_within(&e->at, "connections", TIMEOUT_S, take, a, &why) == 0;
	if (!e->told) {
		leave_alone(e);
		note_failure(a, e, &why);
		return;
	}
	e->told_ms = clock_ms();
	e->pause_ms = 0;
	e->reported = false;
}

/* Any of them may be slow: that must not keep us from the others for long. */
static void ask_stranger(struct asking *a, struct entry *e)
{
	uint64_t since = clock_ms();
	struct failure why = { 0 };

	e->asked = true;
	if (a->strangers_ms < (a->relays->again ? STRANGERS_MS : STRANGERS_FIRST_MS)) {
		ask_one(a, e);
		a->strangers_ms += clock_ms() - since;
		return;
	}
	e->told = false;
	report_refuse(&why, "not asked: other users' have taken too long");
	report_about(&why, "%s", e->at.name);
	note_failure(a, e, &why);
}

static void ask_ours(struct asking *a)
{
	for (size_t i = 0; i < a->relays->count; i++) {
		struct entry *e = &a->relays->at[i];

		if (is_own(e) && clock_ms() >= e->due_ms)
			ask_one(a, e);
	}
}

/* Those who have answered the last time, and then those who have not. */
static void ask_strangers(struct asking *a)
{
	struct relays *r = a->relays;
	uint64_t now = clock_ms();

	for (size_t i = 0; i < r->count; i++)
		if (!is_own(&r->at[i]) && r->at[i].told)
			ask_stranger(a, &r->at[i]);
	for (size_t i = 0; i < r->count; i++) {
		struct entry *e = &r->at[i];

		if (!is_own(e) && !e->asked && now >= e->due_ms && now >= r->strangers_due_ms)
			ask_stranger(a, e);
	}
	if (a->strangers_ms > STRANGERS_MS / 10)
		r->strangers_due_ms = clock_ms() + STRANGERS_SHARE * a->strangers_ms;
}

int relays_each(struct relays *r, relays_visitor *visit, void *context, struct failure *why)
{
	struct asking a = { .relays = r, .visit = visit, .context = context };

	if (list_all(r, why) < 0)
		return -1;
	ask_ours(&a);
	ask_strangers(&a);
	r->again = true;
	r->strangers_reported |= a.result < 0 && !a.why_own;
	if (a.result < 0 && why)
		*why = a.why;
	return a.result;
}

bool relays_has_told(const struct relays *r, uint32_t relay)
{
	const struct entry wanted = { .number = relay }, *e = find_by(r, &wanted, compare_numbers);

	return r->listed && (!e || e->told || clock_ms() - e->told_ms > LOST_MS);
}

struct relays *relays_new(void)
{
	return calloc(1, sizeof(struct relays));
}

void relays_free(struct relays *r)
{
	if (r)
		free(r->at);
	free(r);
}
