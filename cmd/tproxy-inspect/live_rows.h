/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * live_rows - the rows of the live screen: connections, or clients or destinations with their
 * totals.
 */
#ifndef TPROXY_INSPECT_LIVE_ROWS_H
#define TPROXY_INSPECT_LIVE_ROWS_H

#include "tproxy-inspect/condition.h"
#include "tproxy-inspect/tracking.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum live_view { LIVE_CONNECTIONS, LIVE_CLIENTS, LIVE_DESTINATIONS, LIVE_VIEWS };
enum live_order {
	LIVE_BY_RATE,
	LIVE_BY_BYTES,
	LIVE_BY_IDLE,
	LIVE_BY_AGE,
	LIVE_BY_NAME,
	LIVE_ORDERS
};

/* One line of the list. A copy: what it shows stays while the screen is frozen. */
struct live_row {
	struct endpoint client, origdst; /* unset if the view does not distinguish it */
	struct endpoint upstream_local, upstream;
	unsigned connections;
	unsigned stuck_count;
	const char *state, *stuck; /* of a connection; stuck NULL: not stuck */
	double rate_up, rate_down;
	uint64_t bytes_up, bytes_down;
	uint64_t opened_us; /* of the oldest; 0: not known */
	uint32_t idle_ms;   /* of the busiest */
	uint64_t cookie;    /* of a connection */
	struct sockowner owner;
};

/* What to list. */
struct live_choice {
	enum live_view view;
	enum live_order order;
	bool reverse;
	const struct condition *only; /* NULL: all */
};

/* The list; zeroed it is empty. The owner calls live_rows_free(). */
struct live_rows {
	struct live_row *at;
	size_t count, room;
	double rate_up, rate_down; /* of all */
};

/* 0, or -1 with *why: no memory. */
int live_rows_read(struct live_rows *rows, const struct tracking *tracking,
		   const struct live_choice *choice, struct failure *why);
void live_rows_free(struct live_rows *rows);

/* The fields that the condition of a choice may use, as RECORD_BITs. */
uint64_t live_rows_fields(void);

/* Does the row include the connection? */
bool live_rows_has(const struct live_row *row, const struct tracked *c,
		   const struct live_choice *choice);

/* Are these the same line of that view, from different readings? */
bool live_rows_same(const struct live_row *a, const struct live_row *b);

#endif
