/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/live_rows.h"

#include "tproxy-inspect/pair_record.h"
#include "tproxy-inspect/relays.h"
#include "tproxy-inspect/socket_record.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reading {
	struct live_rows *rows;
	const struct live_choice *choice;
};

uint64_t live_rows_fields(void)
{
	return RECORD_BIT(RECORD_CLIENT) | RECORD_BIT(RECORD_ORIGDST) |
	       RECORD_BIT(RECORD_UPSTREAM) | RECORD_BIT(RECORD_UPSTREAM_LOCAL) |
	       RECORD_BIT(RECORD_STATE) | RECORD_BIT(RECORD_UPSTREAM_STATE) |
	       RECORD_BIT(RECORD_BYTES_UP) | RECORD_BIT(RECORD_BYTES_DOWN) |
	       RECORD_BIT(RECORD_IDLE_MS) | RECORD_BIT(RECORD_STUCK) | RECORD_BIT(RECORD_PID) |
	       RECORD_BIT(RECORD_PROG) | RECORD_BIT(RECORD_PAIRED_BY) | RECORD_BIT(RECORD_RTT_MS) |
	       RECORD_BIT(RECORD_UPSTREAM_RTT_MS) | RECORD_BIT(RECORD_RETRANS) |
	       RECORD_BIT(RECORD_UPSTREAM_RETRANS) | RECORD_BIT(RECORD_PROTO) |
	       RECORD_BIT(RECORD_PACKETS_UP) | RECORD_BIT(RECORD_PACKETS_DOWN);
}

static bool is_wanted(const struct tracked *c, const struct live_choice *choice)
{
	struct pairing_pair pair;
	struct record r;

	if (!choice->only)
		return true;
	pair = tracking_pair(c);
	pair_record_fill(&r, "connection", &pair);
	socket_record_owner(&r, c->owner.pid ? &c->owner : NULL);
	record_text(&r, RECORD_STUCK, pairing_stuck(&pair));
	return condition_holds(choice->only, &r);
}

static struct live_row make_row(const struct tracked *c, enum live_view view)
{
	struct pairing_pair pair = tracking_pair(c);
	const struct sockdiag_socket *any = pair.client ? pair.client : pair.upstream;
	struct live_row row = {
		.client = pair.client ? pair.client->peer : pair.upstream->local,
		.origdst = pair.client ? pair.client->local : pair.upstream->peer,
		.connections = 1,
		.state = c->flow ? c->flow->state : sockdiag_state_name(any->state),
		.stuck = pairing_stuck(&pair),
		.rate_up = c->rate_up,
		.rate_down = c->rate_down,
		.bytes_up = c->bytes_up,
		.bytes_down = c->bytes_down,
		.opened_us = c->opened_us,
		.idle_ms = pair_record_idle(&pair),
		.cookie = any->cookie,
		.owner = c->owner,
	};

	row.stuck_count = row.stuck != NULL;
	if (pair.upstream) {
		row.upstream_local = pair.upstream->local;
		row.upstream = pair.upstream->peer;
	}
	if (view == LIVE_CONNECTIONS)
		return row;
	row.upstream_local = row.upstream = (struct endpoint){ 0 };
	row.cookie = 0;
	row.state = row.stuck = NULL;
	if (view == LIVE_CLIENTS) {
		row.client.port = 0;
		row.origdst = (struct endpoint){ 0 };
	} else {
		row.client = (struct endpoint){ 0 };
	}
	return row;
}

bool live_rows_same(const struct live_row *a, const struct live_row *b)
{
	return a->cookie == b->cookie && endpoint_equal(&a->client, &b->client) &&
	       endpoint_equal(&a->origdst, &b->origdst);
}

bool live_rows_has(const struct live_row *row, const struct tracked *c,
		   const struct live_choice *choice)
{
	struct live_row of = make_row(c, choice->view);

	return live_rows_same(row, &of) && is_wanted(c, choice);
}

static int add(const struct tracked *c, void *context)
{
	struct reading *reading = context;
	struct live_rows *rows = reading->rows;

	if (!is_wanted(c, reading->choice))
		return 0;
	if (rows->count == rows->room) {
		size_t room = rows->room ? 2 * rows->room : 256;
		struct live_row *grown = realloc(rows->at, room * sizeof(*grown));

		if (!grown)
			return ENOMEM;
		rows->at = grown;
		rows->room = room;
	}
	rows->rate_up += c->rate_up;
	rows->rate_down += c->rate_down;
	rows->at[rows->count++] = make_row(c, reading->choice->view);
	return 0;
}

/* ---- the same client, or destination, is one row ---- */

static int compare_names(const struct live_row *a, const struct live_row *b)
{
	int order = endpoint_compare(&a->client, &b->client);

	return order ? order : endpoint_compare(&a->origdst, &b->origdst);
}

static int compare_keys(const void *one, const void *other)
{
	return compare_names(one, other);
}

static void join(struct live_row *into, const struct live_row *row)
{
	into->connections += row->connections;
	into->stuck_count += row->stuck_count;
	into->rate_up += row->rate_up;
	into->rate_down += row->rate_down;
	into->bytes_up += row->bytes_up;
	into->bytes_down += row->bytes_down;
	if (row->opened_us && (!into->opened_us || row->opened_us < into->opened_us))
		into->opened_us = row->opened_us;
	if (row->idle_ms < into->idle_ms)
		into->idle_ms = row->idle_ms;
}

static void join_equal(struct live_rows *rows)
{
	size_t kept = 0;

	if (!rows->count)
		return;
	qsort(rows->at, rows->count, sizeof(*rows->at), compare_keys);
	for (size_t i = 0; i < rows->count; i++)
		if (kept && live_rows_same(&rows->at[kept - 1], &rows->at[i]))
			join(&rows->at[kept - 1], &rows->at[i]);
		else
			rows->at[kept++] = rows->at[i];
	rows->count = kept;
}

/* ---- order ---- */

/* What is busiest, most, youngest first. */
static double weight(const struct live_row *row, enum live_order order)
{
	switch (order) {
	case LIVE_BY_RATE:
		return row->rate_up + row->rate_down;
	case LIVE_BY_BYTES:
		return (double)(row->bytes_up + row->bytes_down);
	case LIVE_BY_IDLE:
		return -(double)row->idle_ms;
	case LIVE_BY_AGE:
		return (double)row->opened_us;
	default:
		return 0;
	}
}

static int compare_rows(const void *one, const void *other, void *context)
{
	const struct live_choice *choice = context;
	double a = weight(one, choice->order), b = weight(other, choice->order);
	int order = a > b ? -1 : a < b ? 1 : compare_names(one, other);

	return choice->reverse ? -order : order;
}

int live_rows_read(struct live_rows *rows, const struct tracking *tracking,
		   const struct live_choice *choice, struct failure *why)
{
	struct reading reading = { .rows = rows, .choice = choice };

	rows->count = 0;
	rows->rate_up = rows->rate_down = 0;
	if (tracking_each(tracking, add, &reading))
		return report_fail(why, ENOMEM, "malloc", "list of connections");
	if (choice->view != LIVE_CONNECTIONS)
		join_equal(rows);
	if (rows->count)
		qsort_r(rows->at, rows->count, sizeof(*rows->at), compare_rows, (void *)choice);
	return 0;
}

void live_rows_free(struct live_rows *rows)
{
	free(rows->at);
	*rows = (struct live_rows){ 0 };
}
