/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/watch.h"

#include "base/clock.h"
#include "base/record_table.h"
#include "tproxy-inspect/condition.h"
#include "tproxy-inspect/live.h"
#include "tproxy-inspect/pair_record.h"
#include "tproxy-inspect/socket_record.h"
#include "tproxy-inspect/tracking.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static const enum record_field watch_columns[] = {
	RECORD_TIME,	 RECORD_EVENT,	    RECORD_CLIENT,	RECORD_ORIGDST,	  RECORD_UPSTREAM,
	RECORD_BYTES_UP, RECORD_BYTES_DOWN, RECORD_DURATION_MS, RECORD_PAIRED_BY,
};
#define MORE                                                                                       \
	(RECORD_BIT(RECORD_PROTO) | RECORD_BIT(RECORD_STATE) | RECORD_BIT(RECORD_UPSTREAM_STATE) | \
	 RECORD_BIT(RECORD_UPSTREAM_LOCAL) | RECORD_BIT(RECORD_RTT_MS) |                           \
	 RECORD_BIT(RECORD_UPSTREAM_RTT_MS) | RECORD_BIT(RECORD_RETRANS) |                         \
	 RECORD_BIT(RECORD_UPSTREAM_RETRANS) | RECORD_BIT(RECORD_COOKIE) |                         \
	 RECORD_BIT(RECORD_UPSTREAM_COOKIE) | RECORD_BIT(RECORD_PID) | RECORD_BIT(RECORD_PROG) |   \
	 RECORD_BIT(RECORD_EVIDENCE) | RECORD_BIT(RECORD_PACKETS_UP) |                             \
	 RECORD_BIT(RECORD_PACKETS_DOWN))

/* Whoever reads stdout may be gone; it is looked at so often. */
#define READER_MS 1000

struct watching {
	struct filter filter;
	struct record_table table;
	struct condition *until;
	struct tracking *tracking;
	uint64_t deadline_us; /* 0: none */
	bool held;	      /* `until` */
};

static void put(struct watching *w, const struct record *r)
{
	if (w->held)
		return; /* what comes behind it is nothing to a script */
	record_table_put(&w->table, r);
	w->held = w->until && condition_holds(w->until, r);
}

static void put_resync(struct watching *w)
{
	static const char text[] = "the kernel's events came faster than they were read: some "
				   "closes come late, and short connections may be missing";
	struct record r;

	record_begin(&r, "connection");
	record_time_now(&r);
	record_text(&r, RECORD_EVENT, "resync");
	record_text(&r, RECORD_EVIDENCE, text);
	put(w, &r);
	report_warning("watch: %s", text);
}

static void put_age(struct record *r, const struct tracked *c)
{
	if (c->opened_us)
		record_duration(r, clock_us() - c->opened_us);
}

static void listen_events(enum tracking_event event, const struct tracked *c, void *context)
{
	struct watching *w = context;
	struct pairing_pair pair;
	struct record r;

	if (event == TRACKING_RESYNC) {
		put_resync(w);
		return;
	}
	pair = tracking_pair(c);
	pair_record_fill(&r, "connection", &pair);
	record_time_now(&r);
	record_text(&r, RECORD_EVENT, event == TRACKING_OPEN ? "open" : "close");
	socket_record_owner(&r, c->owner.pid ? &c->owner : NULL);
	put_age(&r, c);
	put(w, &r);
}

/* Until the next turn, the deadline, or the reader is looked at. */
static int wait_ms(const struct watching *w)
{
	int wait = tracking_wait_ms(w->tracking);
	uint64_t now = clock_us();

	if (wait > READER_MS)
		wait = READER_MS;
	if (!w->deadline_us)
		return wait;
	if (w->deadline_us <= now)
		return 0;
	return (w->deadline_us - now + 999) / 1000 < (uint64_t)wait
		       ? (int)((w->deadline_us - now + 999) / 1000)
		       : wait;
}

static bool is_time_up(const struct watching *w)
{
	return w->deadline_us && clock_us() >= w->deadline_us;
}

/* 1: go on; 0: nobody reads any more; -1 with *why. */
static int turn(struct watching *w, struct failure *why)
{
	struct pollfd p[] = { { .fd = tracking_fd(w->tracking), .events = POLLIN },
			      { .fd = STDOUT_FILENO } };

	if (poll(p, 2, wait_ms(w)) < 0 && errno != EINTR)
		return report_fail(why, errno, "poll", "watch");
	if (tracking_turn(w->tracking, why))
		return -1;
	record_table_flush(&w->table);
	return !ferror(stdout) && !(p[1].revents & POLLERR);
}

static int go_on(struct watching *w, struct failure *why)
{
	int result = 1;

	report_notice(
		"watch: open connections: %lu; those that open or close from now on are shown",
		tracking_count(w->tracking));
	while (result == 1 && !w->held && !is_time_up(w))
		result = turn(w, why);
	return result;
}

static bool wants_owners(const struct record_table *t)
{
	return t->json || record_table_has(t, RECORD_PID) || record_table_has(t, RECORD_PROG);
}

static int watch(const struct config *config, struct watching *w, struct failure *why)
{
	int result = -1;

	w->tracking = tracking_new(&w->filter, wants_owners(&w->table), listen_events, w, why);
	if (config->timeout)
		w->deadline_us = clock_us() + config->timeout * 1000;
	if (w->tracking)
		result = go_on(w, why);
	record_table_end(&w->table);
	tracking_free(w->tracking);
	if (result < 0)
		return report_failure(why, why->err == ESRCH ? STATUS_NO : STATUS_REFUSED);
	if (!w->until || w->held)
		return STATUS_DONE;
	report_notice("watch: --until did not come");
	return STATUS_NO;
}

int watch_run(const struct config *config, char **operands)
{
	struct watching w = { .filter = config->filter };
	struct failure why = { 0 };
	bool screen = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !config->style.json &&
		      !config->style.columns && !config->until;
	int status = screen ? live_run(config) : -1;

	if (status >= 0)
		return status;
	if (record_table_init(&w.table, &config->style, watch_columns,
			      sizeof(watch_columns) / sizeof(*watch_columns), MORE, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	if (config->until &&
	    !(w.until = condition_parse(config->until, w.table.columns.known, &why))) {
		report_about(&why, "--until %s", config->until);
		return report_failure(&why, STATUS_USAGE);
	}
	record_table_fit(&w.table);
	status = watch(config, &w, &why);
	condition_free(w.until);
	return status;
}
