/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Every worker has its own listeners on the same endpoints (SO_REUSEPORT: the kernel spreads
 * connections over them) or shares inherited ones (EPOLLEXCLUSIVE: one worker wakes for each).
 * Otherwise handling a connection shares only two counters.
 *
 * A connection is accepted only while a spare descriptor is held: if its client side takes the last
 * one, the spare makes room for its upstream, and nobody is refused for lack of it.
 *
 * At --max, or without a free descriptor, a worker takes its listeners out of the poll set: the
 * next connections wait in the kernel's queue, and nobody spins. Releasing a connection wakes the
 * paused workers. A worker first marks itself paused and then checks the limit once more, so that
 * it cannot miss a release just before.
 */
#include "tproxy-relay/worker.h"
#include "base/container.h"
#include "tproxy-relay/udp_reuse.h"
#include "tproxy-relay/udp_worker.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_MAX 16
#define RETRY_MS    1000

static struct worker *worker_of(struct loop *loop)
{
	return loop_context(loop);
}

/* ---- nothing left to do ---- */

/* The worker has nothing left to do. It stays, for visits and signals, until that holds for all
 * workers. */
void worker_be_over(struct worker *w)
{
	if (w->over)
		return;
	w->over = true;
	if (--w->relay->busy == 0)
		relay_wake(w->relay);
}

static void end_if_over(struct worker *w)
{
	if ((w->draining || w->relay->only) && !w->host.flows.used && !w->pendings.used &&
	    !(w->udp && udp_worker_is_busy(w->udp)))
		worker_be_over(w);
}

/* ---- accepting ---- */

static void watch_listeners(struct worker *w, bool on)
{
	uint32_t shared = w->relay->shared_listeners ? EPOLLEXCLUSIVE : 0;

	for (size_t i = 0; i < w->listeners.count; i++) {
		struct loop_source *s = &w->sources[i];

		/* Taken out of the set rather than muted: EPOLLEXCLUSIVE cannot be modified. */
		if (s->fd < 0 || s->watched == on)
			continue;
		if (!on)
			loop_forget(w->host.loop, s);
		else if (loop_watch(w->host.loop, s, EPOLLIN | shared) < 0)
			loop_arm(w->host.loop, &w->retry, RETRY_MS);
	}
}

/* Close a pipe, or a UDP socket, that is kept only to save time. False: there is none. */
static bool drop_unused(struct worker *w)
{
	return pipes_drop(&w->host.tools.pipes) || (w->host.udp && udp_reuse_drop_one(w->host.udp));
}

/* Hold a spare descriptor (again). False: there is none.
 * #syscalls control: fcntl(F_DUPFD_CLOEXEC) */
static bool hold_spare(struct worker *w)
{
	while (w->spare < 0) {
		w->spare = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
		if (w->spare < 0 && !drop_unused(w))
			return false;
	}
	return true;
}

static bool give_spare(struct flow_ops *host)
{
	struct worker *w = (struct worker *)host;

	if (drop_unused(w))
		return true;
	if (w->spare < 0)
		return false;
	close(w->spare);
	w->spare = -1;
	return true;
}

static void resume(struct worker *w)
{
	if (!w->paused || w->draining)
		return;
	if (!hold_spare(w)) {
		loop_arm(w->host.loop, &w->retry, RETRY_MS);
		return;
	}
	w->paused = false;
	w->relay->paused--;
	watch_listeners(w, true);
}

static void pause_accepting(struct worker *w, enum relay_stats_counter cause)
{
	counters_add(&w->counters, cause, 1);
	if (w->paused || w->draining)
		return;
	w->paused = true;
	w->relay->paused++;
	watch_listeners(w, false);
	if (cause == COUNTER_AT_LIMIT && w->relay->live < w->relay->max)
		resume(w);
	/* Another process may hold the descriptors or the memory, and release them without our
	 * notice. */
	if (cause == COUNTER_NO_DESCRIPTOR)
		loop_arm(w->host.loop, &w->retry, RETRY_MS);
}

static void handle_retry(struct loop *loop, struct loop_timer *timer)
{
	struct worker *w = worker_of(loop);

	resume(w);
	if (!w->draining && !w->paused)
		watch_listeners(w, true);
}

static void wake_paused(struct relay *relay)
{
	for (unsigned i = 0; i < relay->count; i++)
		if (relay->workers[i].paused)
			loop_wake(relay->workers[i].host.loop);
}

/* A connection is gone, and its descriptors with it. */
static void leave(struct worker *w)
{
	w->relay->live--;
	if (w->relay->paused) {
		resume(w);
		wake_paused(w->relay);
	}
}

static bool enter(struct worker *w)
{
	if (w->relay->live++ < w->relay->max)
		return true;
	w->relay->live--;
	return false;
}

static void refuse(struct worker *w, const struct transparent_connection *c, unsigned at,
		   enum reason reason)
{
	counters_add(&w->counters, COUNTER_REFUSED, 1);
	counters_add(&w->counters, COUNTER_REASONS + reason, 1);
	conn_log_refusal(&w->log, c, at, reason);
	transparent_reset(c->fd);
	leave(w);
}

/* The destination is known: judge the connection and start a flow. */
static void admit(struct worker *w, const struct transparent_connection *c,
		  const struct proxyproto_header *header, unsigned at)
{
	struct relay *relay = w->relay;
	struct failure why = { 0 };
	enum reason reason = policy_judge(&relay->policy, c, &why);
	struct flow *f;

	if (reason != REASON_NONE) {
		if (*why.detail)
			relay->trouble(reason, &why);
		refuse(w, c, at, reason);
		return;
	}
	f = flow_start(&w->host, c, header,
		       policy_upstream(&relay->policy, &c->client, &c->origdst), ++relay->next_id,
		       at, &why);
	if (!f) {
		refuse(w, c, at, REASON_MEMORY);
		reason = REASON_MEMORY;
	} else {
		reason = f->reason;
	}
	if (reason != REASON_NONE && why.err)
		relay->trouble(reason, &why);
	if (!hold_spare(w))
		pause_accepting(w, COUNTER_NO_DESCRIPTOR);
}

/* ---- PROXY headers ---- */

static void release_pending(struct loop *loop, struct loop_garbage *garbage)
{
	struct worker *w = worker_of(loop);

	slab_put(&w->pendings, container_of(garbage, struct pending, garbage));
	end_if_over(w);
}

static void refuse_header(struct worker *w, struct pending *a, const char *trouble)
{
	char client[ENDPOINT_TEXT_MAX];
	struct failure why = { 0 };

	report_refuse(&why, "PROXY header: %s", trouble);
	report_about(&why, "%s", endpoint_format(&a->connection.client, client));
	w->relay->trouble(REASON_PROXY_HEADER, &why);
	refuse(w, &a->connection, a->listener, REASON_PROXY_HEADER);
}

static void handle_header(struct loop *loop, struct proxyproto_wait *wait,
			  const struct proxyproto_header *header, const char *trouble)
{
	struct pending *a = container_of(wait, struct pending, wait);
	struct worker *w = worker_of(loop);

	if (!header) {
		refuse_header(w, a, trouble);
	} else {
		if (header->has_addresses) {
			a->connection.client = header->source;
			a->connection.origdst = header->destination;
			a->connection.origin = ORIGIN_PROXY;
		}
		admit(w, &a->connection, header, a->listener);
	}
	loop_discard(loop, &a->garbage, release_pending);
}

/* The connection's own ends already show a loop. */
static void await_header(struct worker *w, const struct transparent_connection *c, unsigned at)
{
	struct pending *a;

	if (policy_is_own_leg(&w->relay->policy, c)) {
		refuse(w, c, at, REASON_LOOP);
		return;
	}
	a = slab_get(&w->pendings);
	if (!a) {
		refuse(w, c, at, REASON_MEMORY);
		return;
	}
	a->connection = *c;
	a->listener = at;
	if (proxyproto_wait_await(w->host.loop, &a->wait, c->fd, handle_header) == 0)
		return;
	refuse(w, c, at, REASON_MEMORY);
	loop_discard(w->host.loop, &a->garbage, release_pending);
}

/* ---- from the listeners ---- */

static void on_accept(struct worker *w, const struct transparent_connection *accepted, unsigned at)
{
	struct transparent_connection c = *accepted;

	counters_add(&w->counters, COUNTER_ACCEPTED, 1);
	if (w->relay->policy.counts_hops)
		c.hops = transparent_hops(c.fd, c.local.family);
	if (endpoint_in_cidrs(&c.client, w->relay->accept_proxy))
		await_header(w, &c, at);
	else
		admit(w, &c, NULL, at);
}

/* The listener has failed for good; without any listener there is nothing to wait for. */
static void lose_listener(struct worker *w, unsigned at, struct failure *why)
{
	bool last = --w->relay->served == 0;

	report_hint(why, "no longer a listening socket%s", last ? ": ending" : "");
	w->relay->unheard(why);
	/* A duplicate may live on in another worker: closing alone does not take it out of the
	 * set. */
	loop_forget(w->host.loop, &w->sources[at]);
	loop_close(w->host.loop, &w->sources[at]);
	w->listeners.at[at].fd = -1;
	if (!last || w->draining)
		return;
	w->result = report_refuse(&w->why, "no listener is left");
	relay_end(w->relay, RELAY_DRAINING);
}

/* Polling would report the same again and again. */
static void handle_refusal(struct worker *w, unsigned at, int error)
{
	char text[ENDPOINT_TEXT_MAX];
	struct failure why;

	report_fail(&why, error, "accept4", "%s", endpoint_format(&w->listeners.at[at].at, text));
	if (transparent_accept_verdict(error) == ACCEPT_NEVER) {
		lose_listener(w, at, &why);
		return;
	}
	report_hint(&why, "retrying every second, silently");
	if (!w->told_refusal)
		w->relay->unheard(&why);
	w->told_refusal = true;
	watch_listeners(w, false);
	loop_arm(w->host.loop, &w->retry, RETRY_MS);
}

/* No connection was accepted: is it worth trying the next? */
static bool is_worth_another(struct worker *w, unsigned at, int error)
{
	switch (transparent_accept_verdict(error)) {
	case ACCEPT_NOBODY:
		return false;
	case ACCEPT_NEXT:
		return true;
	case ACCEPT_LACK:
		if (drop_unused(w))
			return true;
		pause_accepting(w, COUNTER_NO_DESCRIPTOR);
		return false;
	case ACCEPT_LATER:
	case ACCEPT_NEVER:
		handle_refusal(w, at, error);
	}
	return false;
}

/* Accept one connection. False: there is none, or none can be accepted now. */
static bool accept_one(struct worker *w, unsigned at)
{
	struct transparent_connection c;
	int error, accepted;

	if (!hold_spare(w)) {
		pause_accepting(w, COUNTER_NO_DESCRIPTOR);
		return false;
	}
	if (!enter(w)) {
		pause_accepting(w, COUNTER_AT_LIMIT);
		return false;
	}
	w->relay->trying++;
	accepted = transparent_accept(w->sources[at].fd, &w->listeners.at[at].at, w->relay->front,
				      &c);
	error = errno;
	w->relay->trying--;
	if (accepted >= 0) {
		on_accept(w, &c, at);
		return true;
	}
	leave(w);
	return is_worth_another(w, at, error);
}

static void handle_listener(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct worker *w = worker_of(loop);
	unsigned at = (unsigned)(source - w->sources);

	/* An accept that finds no connection is a wasted call: try more than one only if
	 * connections were waiting in the previous turn, too. */
	bool busy = loop_turn(loop) == w->accepted_at + 1;

	w->accepted_at = loop_turn(loop);
	w->burst = busy ? 2 * w->burst : 1;
	if (w->burst > ACCEPTS_MAX)
		w->burst = ACCEPTS_MAX;
	for (unsigned n = 0; n < w->burst && source->watched && accept_one(w, at);)
		n++;
}

/* ---- what flows tell their host ---- */

/* There may be many --inetd processes, and each packet is cloned for each of these sockets. */
static void close_synack(struct worker *w)
{
	synack_free(w->relay->synack);
	w->relay->synack = w->host.synack = NULL;
}

static void flow_opened(struct flow_ops *host, struct flow *f)
{
	struct worker *w = (struct worker *)host;

	counters_add(&w->counters, COUNTER_OPENED, 1);
	counters_add_time(&w->counters, COUNTER_CONNECT, COUNTER_CONNECT_SUM,
			  loop_now_us(host->loop) - f->opened_us);
	conn_log_flow(&w->log, f, "open");
	if (w->relay->only)
		close_synack(w);
}

static void flow_finished(struct flow_ops *host, struct flow *f)
{
	struct worker *w = (struct worker *)host;
	bool opened = f->was_open;

	counters_add(&w->counters, opened ? COUNTER_CLOSED : COUNTER_REFUSED, 1);
	counters_add(&w->counters, COUNTER_REASONS + f->reason, 1);
	if (opened)
		counters_add_time(&w->counters, COUNTER_DURATION, COUNTER_DURATION_SUM,
				  loop_now_us(host->loop) - f->opened_us);
	counters_add(&w->counters, COUNTER_BYTES_UP, f->pump[FLOW_UP].bytes);
	counters_add(&w->counters, COUNTER_BYTES_DOWN, f->pump[FLOW_DOWN].bytes);
	conn_log_flow(&w->log, f, opened ? "close" : "refused");
}

static void flow_failed(struct flow_ops *host, struct flow *f, const struct failure *why)
{
	((struct worker *)host)->relay->trouble(f->reason, why);
}

static void flow_released(struct flow_ops *host)
{
	struct worker *w = (struct worker *)host;

	leave(w);
	end_if_over(w);
}

/* May the next connection be ended? Its record may have to wait until the reader makes room. */
static bool may_reset(struct worker *w)
{
	return w->relay->written || !record_output_is_congested(&w->relay->output);
}

/* ---- the same of datagrams ---- */

static void udp_opened(struct udp_host *host, struct udp_flow *f)
{
	struct worker *w = host->owner;

	counters_add(&w->counters, COUNTER_ACCEPTED, 1);
	counters_add(&w->counters, COUNTER_OPENED, 1);
	conn_log_udp_flow(&w->log, f, "open");
}

static void udp_finished(struct udp_host *host, struct udp_flow *f)
{
	struct worker *w = host->owner;

	counters_add(&w->counters, COUNTER_CLOSED, 1);
	counters_add(&w->counters, COUNTER_REASONS + f->reason, 1);
	counters_add(&w->counters, COUNTER_BYTES_UP, f->bytes[FLOW_UP]);
	counters_add(&w->counters, COUNTER_BYTES_DOWN, f->bytes[FLOW_DOWN]);
	counters_add(&w->counters, COUNTER_PACKETS_UP, f->packets[FLOW_UP]);
	counters_add(&w->counters, COUNTER_PACKETS_DOWN, f->packets[FLOW_DOWN]);
	conn_log_udp_flow(&w->log, f, "close");
}

static void udp_released(struct udp_host *host)
{
	end_if_over(host->owner);
}

static bool udp_may_end(struct udp_host *host)
{
	return may_reset(host->owner);
}

static void udp_refused(struct udp_host *host, const struct transparent_connection *c,
			unsigned listener, enum reason reason, const struct failure *why)
{
	struct worker *w = host->owner;

	counters_add(&w->counters, COUNTER_ACCEPTED, 1);
	counters_add(&w->counters, COUNTER_REFUSED, 1);
	counters_add(&w->counters, COUNTER_REASONS + reason, 1);
	conn_log_udp_refusal(&w->log, c, listener, reason);
	if (why->err || *why->detail)
		w->relay->trouble(reason, why);
}

static const struct udp_ops udp_ops = {
	.opened = udp_opened,
	.finished = udp_finished,
	.released = udp_released,
	.may_end = udp_may_end,
	.refused = udp_refused,
};

/* ---- the end ---- */

static void reset_pendings(struct worker *w)
{
	for (struct pending *a = slab_next(&w->pendings, NULL); a && may_reset(w);
	     a = slab_next(&w->pendings, a)) {
		if (a->wait.source.dead)
			continue;
		proxyproto_wait_end(w->host.loop, &a->wait);
		refuse(w, &a->connection, a->listener, REASON_DRAINED);
		loop_discard(w->host.loop, &a->garbage, release_pending);
	}
}

/* Once begun, it continues with each wake until nothing is left. */
static void reset_flows(struct worker *w)
{
	if (w->index == 0)
		record_output_end(&w->relay->output, w->relay->drain_timeout);
	w->resetting = true;
	for (struct flow *f = slab_next(&w->host.flows, NULL); f && may_reset(w);
	     f = slab_next(&w->host.flows, f))
		flow_finish(&w->host, f, REASON_DRAINED);
	reset_pendings(w);
	if (w->udp)
		udp_worker_reset(w->udp);
	end_if_over(w);
}

static void handle_deadline(struct loop *loop, struct loop_timer *timer)
{
	struct worker *w = worker_of(loop);

	reset_flows(w);
}

/* Close the listeners; connections in their queues are still served. */
static void close_listeners(struct worker *w)
{
	for (unsigned i = 0; i < w->listeners.count; i++) {
		while (w->sources[i].fd >= 0 && accept_one(w, i))
			;
		/* A duplicate may live on in another worker: then closing alone does not take it
		 * out of the poll set. */
		loop_forget(w->host.loop, &w->sources[i]);
		loop_close(w->host.loop, &w->sources[i]);
		w->listeners.at[i].fd = -1;
	}
}

static void handle_lame_end(struct loop *loop, struct loop_timer *timer)
{
	relay_end(worker_of(loop)->relay, RELAY_DRAINING);
}

/* Worker 0: only the time is kept, and it is told. Everything is served as before. */
static void be_lame(struct worker *w)
{
	w->is_lame = true;
	if (w->relay->lame)
		w->relay->lame(w->relay);
	loop_arm(w->host.loop, &w->lame, w->relay->lame_duck);
}

static void drain(struct worker *w)
{
	if (w->index == 0 && w->relay->stopping)
		w->relay->replaced = w->relay->stopping(w->relay);
	w->draining = true;
	if (w->paused)
		w->relay->paused--;
	w->paused = false;
	loop_disarm(w->host.loop, &w->retry);
	loop_disarm(w->host.loop, &w->lame);
	close_listeners(w);
	if (w->udp)
		udp_worker_drain(w->udp, !w->relay->drain_timeout);
	loop_arm(w->host.loop, &w->deadline, w->relay->drain_timeout);
	end_if_over(w);
}

/* ---- life ---- */

/* Serve the only connection. */
static void serve_only(struct worker *w)
{
	w->began = true;
	enter(w);
	on_accept(w, w->relay->only, 0);
	end_if_over(w);
}

/* Worker 0: write what the reader takes, and check whether the end has to wait for it. */
static void write_records(struct relay *relay)
{
	record_output_flush(&relay->output);
	if (relay->phase == RELAY_ENDING && !relay->output.hurries)
		record_output_hurry(&relay->output);
	if (relay->busy || relay->written)
		return;
	record_output_end(&relay->output, relay->drain_timeout);
	if (!record_output_is_done(&relay->output))
		return;
	relay->written = true;
	relay_wake(relay);
}

static void end_turn(struct loop *loop)
{
	struct worker *w = worker_of(loop);

	if (w->udp)
		udp_worker_end_turn(w->udp);
	if (conn_log_flush(&w->log))
		loop_wake(w->relay->workers[0].host.loop);
}

static void handle_wake(struct loop *loop, void *context)
{
	struct worker *w = context;

	relay_take_visits(w);
	if (w->relay->only && !w->began)
		serve_only(w);
	if (w->relay->phase == RELAY_LAME_DUCK && w->index == 0 && !w->is_lame)
		be_lame(w);
	if (w->relay->phase >= RELAY_DRAINING && !w->draining)
		drain(w);
	if (w->relay->phase == RELAY_ENDING || w->resetting)
		reset_flows(w);
	resume(w);
	if (w->index == 0)
		write_records(w->relay);
	if (w->relay->written)
		loop_stop(loop);
}

int worker_init(struct worker *w, struct relay *relay, struct failure *why)
{
	w->relay = relay;
	w->index = (unsigned)(w - relay->workers);
	pthread_mutex_init(&w->lock, NULL);
	w->spare = -1;
	w->raw = (struct udp_raw)UDP_RAW_NONE;
	w->burst = 1;
	slab_init(&w->host.flows, sizeof(struct flow));
	slab_init(&w->pendings, sizeof(struct pending));
	w->host.settings = &relay->settings;
	w->host.policy = &relay->policy;
	w->host.opened = flow_opened;
	w->host.finished = flow_finished;
	w->host.failed = flow_failed;
	w->host.released = flow_released;
	w->host.spare = give_spare;
	w->retry.alarm = handle_retry;
	w->lame.alarm = handle_lame_end;
	w->deadline.alarm = handle_deadline;
	w->log = (struct conn_log){
		.level = relay->log,
		.stream = relay->records,
		.listeners = &w->listeners,
		.udp_listeners = &w->udp_listeners,
		.host = &w->host,
	};
	w->host.tools.pipes.limit = relay->pipes / relay->count;
	w->host.tools.buffer = malloc(PUMP_BUFFER);
	if (!w->host.tools.buffer)
		return report_fail(why, errno, "malloc", "worker %u", w->index);
	w->host.loop = loop_new(w, why);
	if (!w->host.loop)
		return -1;
	if (!hold_spare(w))
		return report_fail(why, errno, "dup", "worker %u", w->index);
	loop_on_wake(w->host.loop, handle_wake, w);
	loop_on_turn(w->host.loop, end_turn);
	return 0;
}

void worker_free(struct worker *w)
{
	if (!w->relay)
		return;
	if (w->spare >= 0)
		close(w->spare);
	loop_free(w->host.loop);
	slab_free(&w->host.flows);
	slab_free(&w->pendings);
	udp_worker_free(w->udp);
	udp_raw_close(&w->raw);
	listeners_close(&w->listeners);
	listeners_close(&w->udp_listeners);
	free(w->sources);
	pipes_drop(&w->host.tools.pipes);
	free(w->host.tools.buffer);
	pthread_mutex_destroy(&w->lock);
}

static int start_udp(struct worker *w, struct failure *why)
{
	struct relay *relay = w->relay;
	struct udp_worker_options options = {
		.loop = w->host.loop,
		.ops = &udp_ops,
		.owner = w,
		.settings = &relay->settings,
		.udp = relay->udp,
		.policy = &relay->policy,
		.listeners = &w->udp_listeners,
		.ids = &relay->next_id,
		.icmp = relay->icmp,
		.elsewhere = relay->policy.netns,
		.raw = &w->raw,
		.accept_proxy = relay->accept_proxy,
		.alone = relay->count == 1,
	};

	options.udp.max = (relay->udp.max + relay->count - 1) / relay->count;
	w->udp = udp_worker_new(&options, why);
	if (!w->udp)
		return -1;
	w->host.udp = udp_worker_host(w->udp);
	return udp_worker_start(w->udp, why);
}

int worker_start(struct worker *w, struct failure *why)
{
	w->sources = calloc(w->listeners.count, sizeof(*w->sources));
	if (!w->sources)
		return report_fail(why, errno, "malloc", "worker %u", w->index);
	for (size_t i = 0; i < w->listeners.count; i++)
		w->sources[i] = (struct loop_source){ .handler = handle_listener,
						      .fd = w->listeners.at[i].fd };
	w->host.timewait = w->relay->timewait;
	w->host.synack = w->relay->synack;
	w->relay->served += w->listeners.count;
	watch_listeners(w, true);
	return w->udp_listeners.count ? start_udp(w, why) : 0;
}

void worker_serve(struct worker *w)
{
	if (loop_run(w->host.loop, &w->why) == 0)
		return;
	w->result = -1;
	w->relay->written = true; /* do not wait for a reader any more */
	relay_end(w->relay, RELAY_ENDING);
	/* Nobody else will, and the end of this process must not look like FIN to a client. */
	reset_flows(w);
	worker_be_over(w);
}
