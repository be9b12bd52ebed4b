/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/answer.h"

#include "base/container.h"
#include "base/record.h"
#include "tproxy-relay/conn_log.h"
#include "tproxy-relay/tell.h"
#include "tproxy-relay/udp_flow.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_SIZE (64 * 1024) /* of a list, sent before the next is made */

/* ---- text ---- */

static void append(struct answer *a, const char *text, size_t length)
{
	if (a->used + length > a->room) {
		size_t room = (a->used + length) * 2;
		char *grown = realloc(a->text, room);

		if (!grown) {
			a->failed = true;
			return;
		}
		a->text = grown;
		a->room = room;
	}
	memcpy(a->text + a->used, text, length);
	a->used += length;
}

static void put(struct answer *a, const struct record *r)
{
	char line[RECORD_LINE_MAX];

	append(a, line, record_print_json(r, line));
	a->records++;
}

void answer_clear(struct answer *a)
{
	free(a->text);
	a->text = NULL;
	a->sent = a->used = a->room = 0;
	a->more = a->failed = false;
}

/* The first record: which relay answers. */
static void put_head(struct answer *a)
{
	struct record r;

	record_begin(&r, "relay");
	record_number(&r, RECORD_PID, (uint64_t)getpid());
	record_text(&r, RECORD_PROG, "tproxy-relay");
	record_text(&r, RECORD_STATE, relay_phase_name(a->relay->phase));
	record_text(&r, RECORD_VERSION, TPROXY_VERSION);
	record_text(&r, RECORD_UPSTREAM_NETNS, a->relay->policy.netns);
	put(a, &r);
	a->records = 0;
}

/* The last record: the number of records between the two. */
static void put_end(struct answer *a)
{
	uint64_t count = a->records;
	struct record r;

	record_begin(&r, "end");
	record_number(&r, RECORD_COUNT, count);
	put(a, &r);
	a->more = false;
}

static void put_refusal(struct answer *a, const char *why)
{
	struct record r;

	record_begin(&r, "error");
	record_text(&r, RECORD_EVIDENCE, why);
	put(a, &r);
	a->records = 0;
}

void answer_refuse(struct answer *a, const char *why)
{
	put_head(a);
	put_refusal(a, why);
	put_end(a);
}

/* ---- connections ---- */

static bool is_full(const struct answer *a)
{
	return a->used >= PIECE_SIZE || a->failed;
}

/* Known in ticks; a flow may begin late in its first tick. */
static void put_idle(struct record *r, const struct worker *w, uint32_t active, uint64_t opened_us)
{
	uint64_t ticks = (uint32_t)(loop_tick(w->host.loop) - active);
	uint64_t idle = ticks * LOOP_TICK_MS * 1000, age = loop_now_us(w->host.loop) - opened_us;

	record_microseconds(r, RECORD_IDLE_MS, idle < age ? idle : age);
}

static void put_flow(struct answer *a, const struct worker *w, const struct flow *f)
{
	struct conn_log_texts texts;
	struct record r;

	if (f->state == FLOW_CLOSED)
		return;
	conn_log_describe_flow(&w->log, f, NULL, &r, &texts);
	record_text(&r, RECORD_STATE, flow_state_name(f));
	put_idle(&r, w, f->active, f->opened_us);
	put(a, &r);
}

/* A connection whose PROXY header is awaited. */
static void put_pending(struct answer *a, const struct worker *w, const struct pending *p)
{
	struct record r;

	if (p->wait.source.dead)
		return;
	conn_log_describe(&w->log, &p->connection, p->listener, NULL, &r);
	record_text(&r, RECORD_STATE, "proxy-header");
	put(a, &r);
}

static void put_udp_flow(struct answer *a, const struct worker *w, const struct udp_flow *f)
{
	struct conn_log_texts texts;
	struct record r;

	if (f->closed)
		return;
	conn_log_describe_udp_flow(&w->log, f, NULL, &r, &texts);
	record_text(&r, RECORD_STATE, udp_flow_state_name(f));
	put_idle(&r, w, f->entry.active, f->opened_us);
	put(a, &r);
}

/* Put the next object of the list and return it; NULL: there is none. The slab copes if the one
 * before has been freed since. */
static const void *put_next(struct answer *a, const struct worker *w)
{
	const void *next;

	switch (a->cursor.list) {
	case ANSWER_FLOWS:
		next = slab_next(&w->host.flows, a->cursor.after);
		if (next)
			put_flow(a, w, next);
		return next;
	case ANSWER_PENDINGS:
		next = slab_next(&w->pendings, a->cursor.after);
		if (next)
			put_pending(a, w, next);
		return next;
	case ANSWER_UDP_FLOWS:
		next = w->host.udp ? udp_flow_next(w->host.udp, a->cursor.after) : NULL;
		if (next)
			put_udp_flow(a, w, next);
		return next;
	}
	return NULL;
}

/* True when all of this worker's connections are listed; else the next piece continues with it. */
static bool list_worker(struct worker *w, void *context)
{
	struct answer *a = context;

	while (!is_full(a)) {
		a->cursor.after = put_next(a, w);
		if (a->cursor.after)
			continue;
		if (a->cursor.list == ANSWER_UDP_FLOWS) {
			a->cursor.list = ANSWER_FLOWS;
			return true;
		}
		a->cursor.list++;
	}
	return false;
}

static void end_piece(void *context)
{
	struct answer *a = context;

	a->busy = false;
	if (relay_visit_is_over(a->relay, &a->visit))
		put_end(a);
	a->ready(a);
}

static void list_connections(struct answer *a)
{
	a->busy = a->more = true;
	a->cursor = (struct answer_cursor){ .list = ANSWER_FLOWS };
	a->visit = (struct relay_visit){ .visit = list_worker, .done = end_piece, .context = a };
	relay_for_each_worker(a->relay, &a->visit);
}

void answer_continue(struct answer *a)
{
	a->sent = a->used = 0;
	a->busy = true;
	relay_resume_visit(a->relay, &a->visit);
}

/* ---- counters ---- */

static void put_counter(struct answer *a, const char *name, uint64_t count)
{
	struct record r;

	record_begin(&r, "counter");
	record_text(&r, RECORD_CHECK, name);
	record_number(&r, RECORD_COUNT, count);
	put(a, &r);
}

static void end_counters(struct stats *stats, void *context)
{
	struct answer *a = context;

	a->busy = false;
	for (unsigned i = 0; i < STATS_COUNT; i++)
		if (relay_stats_name(i))
			put_counter(a, relay_stats_name(i), stats->at[i]);
	put_end(a);
	a->ready(a);
}

static void list_counters(struct answer *a)
{
	a->busy = stats_collect(&a->stats, a->relay, end_counters, a);
}

/* ---- drain ---- */

/* Report how many connections are left, the same however often the command is sent. */
static void tell_left(struct answer *a)
{
	put_counter(a, "connections", relay_connections(a->relay));
	put_end(a);
}

static void begin_drain(struct answer *a)
{
	relay_end(a->relay, RELAY_DRAINING);
}

static void begin_lame_duck(struct answer *a)
{
	if (a->relay->lame_duck)
		relay_end(a->relay, tell_first_phase(a->relay));
}

/* Nothing has begun if there is no time for it: a caller who expects that connections are still
 * accepted must not find them refused. */
static void tell_lame_duck(struct answer *a)
{
	if (a->relay->lame_duck)
		put_counter(a, "connections", relay_connections(a->relay));
	else
		put_refusal(a, "it was started without --lame-duck; drain ends it");
	put_end(a);
}

/* ---- policy ---- */

/* The option that forbids this destination, as it is typed; "": neither of the two. */
static void describe_denial(const struct policy *p, const struct endpoint *to, char *buf,
			    size_t size)
{
	const struct match *denied = match_list_find(p->deny, to);
	char text[ENDPOINT_TEXT_MAX + 64];

	if (denied)
		snprintf(buf, size, "--deny-dst %s", match_format(denied, text, sizeof(text)));
	else
		snprintf(buf, size, "no --allow-dst names it");
}

static void put_judgement(struct answer *a, const struct transparent_connection *c)
{
	struct policy *p = &a->relay->policy;
	const struct endpoint *to = policy_upstream(p, &c->client, &c->origdst);
	struct endpoint source = transparent_source_of(&c->client, p->connect);
	struct failure why = { 0 };
	enum reason reason = policy_judge(p, c, &why);
	char evidence[512] = "";
	struct record r;

	if (reason == REASON_NONE && policy_occupies(p, &c->client) &&
	    p->connect->source == SOURCE_CLIENT) {
		reason = REASON_CLASH;
		snprintf(evidence, sizeof(evidence),
			 "the client's port is the listener's, on any address");
	} else if (reason == REASON_DENIED) {
		describe_denial(p, to, evidence, sizeof(evidence));
	} else if (reason != REASON_NONE) {
		report_text(&why, evidence, sizeof(evidence));
	} else if (endpoint_in_cidrs(&c->client, a->relay->accept_proxy)) {
		snprintf(evidence, sizeof(evidence),
			 "refused unless it begins with a PROXY header (--accept-proxy)");
	}
	record_begin(&r, "policy");
	record_endpoint(&r, RECORD_CLIENT, &c->client);
	record_endpoint(&r, RECORD_ORIGDST, &c->origdst);
	if (source.family && !source.port)
		source.port = c->client.port;
	record_endpoint(&r, RECORD_UPSTREAM_LOCAL, &source);
	record_endpoint(&r, RECORD_UPSTREAM, to);
	if (reason != REASON_NONE)
		record_text(&r, RECORD_REASON, reason_name(reason));
	record_text(&r, RECORD_EVIDENCE, evidence);
	put(a, &r);
}

/* Would a connection with these two ends, intercepted by tproxy, be carried? Nothing is opened. */
static void judge(struct answer *a)
{
	struct transparent_connection c = { .fd = -1, .origin = ORIGIN_TPROXY };
	char words[ANSWER_ARGUMENTS_MAX], *rest = NULL, *client, *destination;

	snprintf(words, sizeof(words), "%s", a->arguments);
	client = strtok_r(words, " ", &rest);
	destination = strtok_r(NULL, " ", &rest);
	if (client && destination && !strtok_r(NULL, " ", &rest) &&
	    !endpoint_parse(client, &c.client, NULL) &&
	    !endpoint_parse(destination, &c.origdst, NULL) && c.client.family == c.origdst.family) {
		c.local = c.origdst;
		put_judgement(a, &c);
	} else {
		put_refusal(a, "policy: CLIENT and DESTINATION, ADDRESS:PORT each");
	}
	put_end(a);
}

/* ---- commands ---- */

static const struct command {
	const char *name;
	void (*act)(struct answer *a); /* before the first record; or NULL */
	void (*tell)(struct answer *a);
} commands[] = {
	{ "connections", NULL, list_connections },
	{ "counters", NULL, list_counters },
	{ "drain", begin_drain, tell_left },
	{ "lame-duck", begin_lame_duck, tell_lame_duck },
	{ "policy", NULL, judge },
};

void answer_begin(struct answer *a, const char *command)
{
	size_t length = strcspn(command, " ");

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strlen(commands[i].name) != length ||
		    strncmp(command, commands[i].name, length) != 0 ||
		    (command[length] && commands[i].tell != judge))
			continue;
		snprintf(a->arguments, sizeof(a->arguments), "%s", command + length);
		if (commands[i].act)
			commands[i].act(a);
		put_head(a);
		commands[i].tell(a);
		return;
	}
	answer_refuse(a,
		      "unknown command: there are connections, counters, drain, lame-duck, policy");
}
