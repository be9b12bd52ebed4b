/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/observe.h"

#include "base/clock.h"
#include "net/route.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* A packet is handled within microseconds; one of which nothing was heard for so long has been
 * lost, or waits in a queue. */
#define SILENCE_US 500000
#define TURN_MS	   100
/* At the end, what is left is read, but not for ever. */
#define LAST_TURNS 1000

struct observing {
	struct observation *o;
	struct packet_trace *trace;
	struct route *route;
	observe_meet *meet;
	void *context;
	int signals;
	uint64_t end_ms; /* monotonic */
	bool failed;	 /* meeting the first packet has, for this reason: */
	struct failure reason;
};

/* --- in words --------------------------------------------------------------------------------- */

static const char *format_end(const struct endpoint *e, char buf[ENDPOINT_TEXT_MAX])
{
	char address[ENDPOINT_TEXT_MAX];

	if (e->family && e->port)
		return endpoint_format(e, buf);
	if (!e->family && !e->port)
		return "any";
	if (!e->family)
		snprintf(buf, ENDPOINT_TEXT_MAX, "any:%u", e->port);
	else
		snprintf(buf, ENDPOINT_TEXT_MAX, e->family == AF_INET ? "%.50s:any" : "[%.50s]:any",
			 endpoint_format_address(e, address));
	return buf;
}

const char *observe_format(const struct packet_trace_tuple *t, char buf[OBSERVE_TUPLE_MAX])
{
	char client[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];

	snprintf(buf, OBSERVE_TUPLE_MAX, "%s %s -> %s", t->protocol == IPPROTO_UDP ? "UDP" : "TCP",
		 format_end(&t->client, client), format_end(&t->destination, destination));
	return buf;
}

static void say_waiting(const struct observing *w, uint64_t ms)
{
	char tuple[OBSERVE_TUPLE_MAX];

	report_notice("explain: waiting for packets of %s, for %llu.%llu s; SIGINT (^C) ends it",
		      observe_format(&w->o->fates.tuple, tuple), (unsigned long long)ms / 1000,
		      (unsigned long long)ms % 1000 / 100);
}

static void say_came(const struct observing *w)
{
	char tuple[OBSERVE_TUPLE_MAX];
	uint64_t at = clock_ms(), left = at < w->end_ms ? w->end_ms - at : 0;

	report_notice("explain: a packet came: %s; following this connection for %llu.%llu s",
		      observe_format(&w->o->fates.tuple, tuple), (unsigned long long)left / 1000,
		      (unsigned long long)left % 1000 / 100);
}

/* --- packets ---------------------------------------------------------------------------------- */

static bool is_opening(const struct trace_packet *p)
{
	return p->protocol != IPPROTO_TCP || (p->flags & (TH_SYN | TH_ACK)) == TH_SYN;
}

/* TCP between any two ends: answers look the same, so it begins with a SYN. */
static bool may_be_first(const struct packet_trace_tuple *t, const struct packet_trace_event *e)
{
	const struct trace_packet *p = &e->message.packet;

	if (!packet_trace_is_request(t, p) || (t->iif && t->iif != e->message.iif))
		return false;
	return !packet_trace_is_anything(t) || is_opening(p);
}

/* Does it come from outside with an address of this host? It is spoofed or went in a circle: no
 * question is about it, because the walk knows such a client only as the sender. */
static bool is_astray(const struct observing *w, const struct packet_trace_event *e)
{
	const struct route_question question = { .destination = e->message.packet.source };
	struct route_answer answer;
	char name[IF_NAMESIZE];

	if (e->hook != TRACE_PREROUTING || !if_indextoname(e->message.iif, name) ||
	    !strcmp(name, "lo"))
		return false;
	return !route_ask(w->route, &question, &answer, NULL) && answer.type == RTN_LOCAL;
}

/* From now on only this connection. */
static int meet_first(struct observing *w, const struct packet_trace_event *e)
{
	struct observation *o = w->o;
	struct packet_trace_tuple *tuple = &o->fates.tuple;

	o->came = true;
	o->opens = is_opening(&e->message.packet);
	o->iif = e->hook == TRACE_PREROUTING ? e->message.iif : 0;
	tuple->family = e->message.packet.source.family;
	tuple->client = e->message.packet.source;
	tuple->destination = e->message.packet.destination;
	say_came(w);
	if (o->exact)
		return 0;
	if (packet_trace_narrow(w->trace, tuple, &w->reason))
		return -1;
	return w->meet(o, w->context, &w->reason);
}

static void note(const struct packet_trace_event *e, void *context)
{
	struct observing *w = context;

	if (w->failed)
		return;
	if (!w->o->came && e->ours && e->begins && may_be_first(&w->o->fates.tuple, e) &&
	    (w->o->exact || !is_astray(w, e)))
		w->failed = meet_first(w, e) < 0;
	/* (If the question is exact, answers may come before.) */
	if (!w->failed && (w->o->came || w->o->exact))
		packet_fates_note(&w->o->fates, e, clock_us(), clock_wall_us());
}

static int read_reports(struct observing *w, struct failure *why)
{
	int result = packet_trace_read(w->trace, note, w, why);

	if (w->failed) {
		*why = w->reason;
		return -1;
	}
	w->o->missed |= result > 0;
	return result < 0 ? -1 : 0;
}

static int read_rest(struct observing *w, struct failure *why)
{
	struct pollfd p = { .fd = packet_trace_fd(w->trace), .events = POLLIN };

	for (int i = 0; i < LAST_TURNS && poll(&p, 1, 0) > 0; i++)
		if (read_reports(w, why))
			return -1;
	return 0;
}

static void read_reasons(struct observation *o)
{
	if (o->reasons)
		drop_reasons_read(o->reasons);
	for (unsigned i = 0; o->reasons && i < o->fates.gone; i++)
		drop_reasons_ended(o->reasons, o->fates.gone_us[i]);
	o->fates.gone = 0;
}

/* 1: go on; 0: it ends here; -1 with *why. */
static int turn(struct observing *w, struct failure *why)
{
	struct pollfd p[] = { { .fd = packet_trace_fd(w->trace), .events = POLLIN },
			      { .fd = w->signals, .events = POLLIN } };
	uint64_t at = clock_ms();
	int wait = at >= w->end_ms ? 0 : w->end_ms - at < TURN_MS ? (int)(w->end_ms - at) : TURN_MS;

	if (poll(p, 2, wait) < 0 && errno != EINTR)
		return report_fail(why, errno, "poll", "nftrace");
	if (read_reports(w, why))
		return -1;
	packet_fates_settle(&w->o->fates, clock_us(), SILENCE_US);
	read_reasons(w->o);
	w->o->interrupted = p[1].revents & POLLIN;
	return !w->o->interrupted && clock_ms() < w->end_ms;
}

static int watch(struct observing *w, uint64_t ms, struct failure *why)
{
	struct observation *o = w->o;
	uint64_t begin = clock_ms();
	int result = 1;

	w->end_ms = begin + ms;
	say_waiting(w, ms);
	while (result == 1)
		result = turn(w, why);
	o->ms = clock_ms() - begin;
	if (result < 0)
		return -1;
	o->counted = !packet_trace_count(w->trace, &o->counts, NULL);
	return read_rest(w, why);
}

/* --- signals ---------------------------------------------------------------------------------- */

static int take_signals(sigset_t *old, struct failure *why)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, old);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		report_fail(why, errno, "signalfd", "SIGINT, SIGTERM");
	return fd;
}

/* The signal that ended it is done with. */
static void give_back_signals(int fd, const sigset_t *old)
{
	struct signalfd_siginfo info;

	while (fd >= 0 && read(fd, &info, sizeof(info)) > 0)
		;
	if (fd >= 0)
		close(fd);
	sigprocmask(SIG_SETMASK, old, NULL);
}

/* It goes without them, too. */
static void open_reasons(struct observation *o)
{
	struct failure why = { 0 };
	char text[400];

	o->reasons = drop_reasons_open(o->fates.tuple.family, &why);
	if (!o->reasons)
		report_notice("explain: not seen: the kernel's own reasons for drops: %s",
			      report_text(&why, text, sizeof(text)));
}

int observe_packets(struct observation *o, uint64_t ms, observe_meet *meet, void *context,
		    struct failure *why)
{
	struct observing w = { .o = o, .meet = meet, .context = context };
	sigset_t old;
	int err = -1;

	open_reasons(o);
	w.signals = take_signals(&old, why);
	kernel_counters_read(&o->before);
	w.route = w.signals >= 0 ? route_open(why) : NULL;
	if (w.route)
		w.trace = packet_trace_open(&o->fates.tuple, why);
	if (w.trace)
		err = watch(&w, ms, why);
	packet_trace_close(w.trace);
	route_close(w.route);
	packet_fates_settle(&o->fates, clock_us(), 0);
	read_reasons(o);
	kernel_counters_read(&o->after);
	give_back_signals(w.signals, &old);
	return err;
}
