/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/tell.h"

#include "process/confine.h"
#include "process/notify.h"
#include "socket/takeover.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* The first of each kind is a warning, the rest are shown with -v only: the counters have all. */
void tell_trouble(enum reason reason, const struct failure *why)
{
	static atomic_bool told[REASON_COUNT];
	char text[1024];

	report_text(why, text, sizeof(text));
	if (atomic_exchange(&told[reason], true))
		report_verbose(1, "%s (%s)", text, reason_name(reason));
	else
		report_warning("%s (%s; more of this kind only with -v)", text,
			       reason_name(reason));
}

void tell_unheard(const struct failure *why)
{
	char text[1024];

	report_warning("%s", report_text(why, text, sizeof(text)));
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* Reasons with a count of 0 are left out. */
void tell_stats(struct stats *f, void *context)
{
	char line[2048];
	int used = 0;

	report_error("%llu connection%s now (at most %llu), %llu of %llu threads accept",
		     (unsigned long long)f->at[STATS_CONNECTIONS], plural(f->at[STATS_CONNECTIONS]),
		     (unsigned long long)f->at[STATS_MAX],
		     (unsigned long long)f->at[STATS_ACCEPTING],
		     (unsigned long long)f->at[STATS_THREADS]);
	for (unsigned i = STATS_COUNTER; i < STATS_CONNECT && used < (int)sizeof(line); i++)
		if (f->at[i] || i < STATS_REASONS)
			used += snprintf(line + used, sizeof(line) - (size_t)used, " %s=%llu",
					 relay_stats_name(i), (unsigned long long)f->at[i]);
	if (f->at[STATS_MAX_FLOWS])
		report_error("%llu UDP flow%s now (at most %llu)",
			     (unsigned long long)f->at[STATS_FLOWS], plural(f->at[STATS_FLOWS]),
			     (unsigned long long)f->at[STATS_MAX_FLOWS]);
	report_error("counters:%s", line);
	if (f->at[STATS_RECORDS_LOST])
		report_error("%llu record%s lost: not written, or their reader is too slow",
			     (unsigned long long)f->at[STATS_RECORDS_LOST],
			     plural(f->at[STATS_RECORDS_LOST]));
}

static void notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void notify(const char *format, ...)
{
	struct failure why;
	char text[64];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (notify_send(text, &why) < 0)
		report_failure(&why, STATUS_DONE);
}

/* Any of its listeners; -1: it has none. */
static int any_listener(const struct relay *relay)
{
	const struct worker *w = &relay->workers[0];

	if (w->listeners.count)
		return w->listeners.at[0].fd;
	return w->udp_listeners.count ? w->udp_listeners.at[0].fd : -1;
}

/* The endpoints it listens on, as text; what does not fit is left out. */
struct places {
	char text[400];
	size_t length, count;
};

static void add_place(struct places *p, const struct endpoint *at, const char *protocol)
{
	char endpoint[ENDPOINT_TEXT_MAX];
	int added = snprintf(p->text + p->length, sizeof(p->text) - p->length, "%s%s%s",
			     p->count++ ? ", " : "", endpoint_format(at, endpoint), protocol);

	if (added > 0 && p->length + (size_t)added < sizeof(p->text))
		p->length += (size_t)added;
	p->text[p->length] = '\0';
}

static void add_listeners(struct places *p, const struct listeners *l, const char *protocol)
{
	for (size_t i = 0; i < l->count; i++)
		if (i == 0 || !endpoint_equal(&l->at[i].at, &l->at[i - 1].at))
			add_place(p, &l->at[i].at, protocol);
}

static void tell_listeners(const struct worker *w)
{
	struct places p = { .count = 0 };

	add_listeners(&p, &w->listeners, "");
	add_listeners(&p, &w->udp_listeners, " (UDP)");
	report_notice("listening on %s; SIGTERM or Ctrl-C ends it", p.text);
}

/* Tells a service manager that waits for the old relay's end to watch the new one. */
void tell_ready(const struct relay *relay)
{
	int fd = any_listener(relay);

	tell_listeners(&relay->workers[0]);
	if (relay->policy.netns)
		report_notice("connecting in network namespace %s", relay->policy.netns);
	report_verbose(1, "sandbox: %s", relay->sandbox ? confine_text() : "none");
	if (fd >= 0 && takeover_successor(fd) == getpid())
		notify("MAINPID=%d\nREADY=1", (int)getpid());
	else
		notify("READY=1");
	notify_ready(relay->ready_fd);
}

static void tell_drain(const struct relay *relay)
{
	uint64_t live = relay_connections(relay), seconds = (relay->drain_timeout + 999) / 1000;

	if (live)
		report_notice(
			"%llu connection%s may finish within %llu s; a second signal ends them",
			(unsigned long long)live, plural(live), (unsigned long long)seconds);
}

static pid_t successor_of(const struct relay *relay)
{
	int fd = any_listener(relay);
	pid_t successor = fd >= 0 ? takeover_successor(fd) : 0;

	return successor == getpid() ? 0 : successor;
}

enum relay_phase tell_first_phase(const struct relay *relay)
{
	return relay->lame_duck && !successor_of(relay) ? RELAY_LAME_DUCK : RELAY_DRAINING;
}

void tell_lame(const struct relay *relay)
{
	notify("STOPPING=1");
	report_notice("lame duck: connections are accepted for %llu s still; a second signal ends "
		      "that",
		      (unsigned long long)(relay->lame_duck + 999) / 1000);
}

/* If another relay continues, the service does not stop. */
bool tell_stopping(const struct relay *relay)
{
	pid_t successor = successor_of(relay);

	if (successor)
		report_verbose(1, "taken over by pid %d", (int)successor);
	else if (!relay->workers[0].is_lame)
		notify("STOPPING=1");
	tell_drain(relay);
	return successor;
}

void tell_work(const struct relay *relay)
{
	uint64_t carried = relay_count(relay, COUNTER_OPENED);

	report_notice("ended: %llu connection%s carried, %llu refused; %llu bytes up, %llu down",
		      (unsigned long long)carried, plural(carried),
		      (unsigned long long)relay_count(relay, COUNTER_REFUSED),
		      (unsigned long long)relay_count(relay, COUNTER_BYTES_UP),
		      (unsigned long long)relay_count(relay, COUNTER_BYTES_DOWN));
}

/* --inetd: report how the connection ended, with -v or if it was refused. */
int tell_end(const struct relay *relay)
{
	char client[ENDPOINT_TEXT_MAX];
	enum reason reason = REASON_NONE;

	for (int i = REASON_NONE + 1; i < REASON_COUNT; i++)
		if (relay_count(relay, COUNTER_REASONS + (unsigned)i))
			reason = (enum reason)i;
	endpoint_format(&relay->only->client, client);
	if (relay_count(relay, COUNTER_REFUSED))
		report_warning("%s: refused: %s", client, reason_name(reason));
	else
		report_verbose(1, "%s: %s", client, reason_name(reason));
	return reason == REASON_DONE ? STATUS_DONE : STATUS_NO;
}

void tell_lost(const struct record_losses *lost)
{
	char text[RECORD_LOSSES_TEXT];

	if (record_stream_losses_text(lost, text))
		report_warning("%s", text);
}

void tell_unwritable(const struct failure *why)
{
	char text[512];

	report_warning("%s", report_text(why, text, sizeof(text)));
}

void tell_waiting(uint64_t records, uint64_t ms)
{
	report_notice("%llu records wait for their reader, at most %llu s; a signal ends the wait",
		      (unsigned long long)records, (unsigned long long)(ms + 999) / 1000);
}
