/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Three parts. The collector is a process that may read rules and ask relays, and never sees a
 * request. This process answers requests and may do nothing else: its server's threads speak HTTP,
 * and this thread's loop asks the collector for a snapshot when a request waits for one, takes it,
 * and publishes it.
 */
#include "tproxy-inspect/export.h"

#include "base/container.h"
#include "process/confine.h"
#include "process/descriptors.h"
#include "process/loop.h"
#include "process/notify.h"
#include "process/sandbox.h"
#include "socket/listeners.h"
#include "tproxy-inspect/export/collector.h"
#include "tproxy-inspect/export/server.h"
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>

#define SECOND 1000

struct export
{
	struct loop *loop;
	struct collector *collector;
	struct server *server;
	struct loop_source source; /* of the collector */
	struct loop_timer second;  /* for what is to be done once a second */
	struct loop_timer limit;   /* of the snapshot that is awaited */
	bool asked;
	struct failure why;
	int result;
};

/* ---- one snapshot after the other ---- */

static void fail(struct export *e)
{
	e->result = -1;
	loop_stop(e->loop);
}

static void ask(struct export *e)
{
	if (e->asked || !server_waits(e->server))
		return;
	e->asked = true;
	loop_arm(e->loop, &e->limit, COLLECTOR_LIMIT_MS);
	if (collector_ask(e->collector, &e->why) < 0)
		fail(e);
}

static void handle_collector(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct export *e = container_of(source, struct export, source);
	struct snapshot s;
	int result = collector_receive(e->collector, &s, &e->why);

	if (result < 0)
		fail(e);
	if (result <= 0)
		return;
	loop_disarm(loop, &e->limit);
	e->asked = false;
	server_publish(e->server, &s);
}

static void handle_limit(struct loop *loop, struct loop_timer *timer)
{
	struct export *e = container_of(timer, struct export, limit);

	report_refuse(&e->why, "tproxy-collect: no answer within %d s", COLLECTOR_LIMIT_MS / 1000);
	fail(e);
}

static void handle_second(struct loop *loop, struct loop_timer *timer)
{
	struct export *e = container_of(timer, struct export, second);

	server_expire(e->server);
	loop_arm(loop, timer, SECOND);
}

static void handle_wake(struct loop *loop, void *context)
{
	ask(context);
}

/* In a thread of the server. */
static void handle_wanted(void *context)
{
	loop_wake(((struct export *)context)->loop);
}

static void handle_signal(struct loop *loop, int signo, void *context)
{
	loop_stop(loop);
}

/* ---- start ---- */

static int open_listeners(const struct config *config, struct listeners *l, struct failure *why)
{
	static const struct transparent_listen_options plain = { .redirect = true };

	if (listeners_open(l, &plain, why) < 0) {
		report_hint(why, "choose another port for --listen, or end what listens there");
		return -1;
	}
	listeners_tell_left_out(l);
	listeners_prune(l);
	return 0;
}

static int open_loop(struct export *e, struct failure *why)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	loop_block_signals(signals);
	e->loop = loop_new(e, why);
	if (!e->loop)
		return -1;
	e->source = (struct loop_source){ .handler = handle_collector,
					  .fd = collector_fd(e->collector) };
	e->second.alarm = handle_second;
	e->limit.alarm = handle_limit;
	loop_on_wake(e->loop, handle_wake, e);
	loop_arm(e->loop, &e->second, SECOND);
	if (loop_watch(e->loop, &e->source, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "export");
	return loop_signals(e->loop, signals, handle_signal, e, why);
}

/* In this order: the last privileged act; threads, which inherit what is left; the sandbox for
 * all. */
static int give_up_rights(const struct config *config, struct failure *why)
{
	int keep = confine_capability();

	if (notify_open(why) < 0)
		report_failure(why, STATUS_DONE);
	if (privilege_drop(&config->user, &keep, keep >= 0, why) < 0 || privilege_seal(why) < 0)
		return -1;
	return config->no_sandbox ? 0 : confine_enter(-1, why);
}

static void tell_ready(const struct listeners *l)
{
	char text[2][ENDPOINT_TEXT_MAX] = { "", "" };

	for (size_t i = 0; i < l->count && i < 2; i++)
		endpoint_format(&l->at[i].at, text[i]);
	report_notice("http://%s/metrics and /healthz%s%s; SIGTERM or Ctrl-C ends it", text[0],
		      l->count > 1 ? ", also at " : "", text[1]);
	notify_send("READY=1", NULL);
}

/* main() closes stdout at the end, as of every command.
 * #syscalls http: dup */
static int serve(struct export *e, const struct config *config, struct listeners *l,
		 struct failure *why)
{
	e->collector = collector_new(config->doctor_interval, !config->no_sandbox, why);
	if (!e->collector || open_loop(e, why) < 0 || give_up_rights(config, why) < 0)
		return -1;
	e->server = server_new(l, handle_wanted, e, why);
	if (!e->server)
		return -1;
	if (!config->no_sandbox && sandbox_enter(SANDBOX_HTTP, why) < 0)
		return -1;
	tell_ready(l);
	if (loop_run(e->loop, why) < 0)
		return -1;
	notify_send("STOPPING=1", NULL);
	if (e->result < 0)
		*why = e->why;
	return e->result;
}

static int run(struct config *config, struct listeners *l, struct failure *why)
{
	struct export e = { .loop = NULL };
	struct failure stays_root = { 0 };
	char text[512];
	int result;

	if (open_listeners(config, l, why) < 0)
		return -1;
	privilege_choose_user(&config->user, &stays_root);
	if (stays_root.detail[0])
		report_notice("%s", report_text(&stays_root, text, sizeof(text)));
	if (!privilege_has(CAP_NET_ADMIN))
		report_warning(
			"without CAP_NET_ADMIN instances cannot be read: /healthz will say so");
	result = serve(&e, config, l, why);
	server_free(e.server);
	collector_free(e.collector);
	loop_free(e.loop);
	return result;
}

int export_run(const struct config *config, char **operands)
{
	struct config own = *config;
	struct listeners l = { .count = 0 };
	struct failure why = { 0 };
	int status = STATUS_DONE;

	if (listeners_add(&l, own.listen, ENDPOINT_BARE_LOOPBACK, &own.common, &why) < 0 ||
	    listeners_check(&l, &own.common, &why) < 0) {
		report_about(&why, "--listen %s", own.listen);
		status = report_failure(&why, STATUS_USAGE);
	} else if (descriptors_guard(&why) < 0 || run(&own, &l, &why) < 0) {
		status = report_failure(&why, STATUS_REFUSED);
	}
	listeners_close(&l);
	return status;
}
