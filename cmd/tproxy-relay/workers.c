/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/workers.h"

#include "base/container.h"
#include "process/confine.h"
#include "process/sandbox.h"
#include "tproxy-relay/worker.h"
#include <errno.h>
#include <stdlib.h>

static void handle_ready(struct record_output *o)
{
	struct relay *relay = container_of(o, struct relay, output);

	if (relay->phase >= RELAY_DRAINING || relay->only)
		relay_wake(relay);
}

int workers_init(struct relay *relay, unsigned workers, struct failure *why)
{
	relay->workers = calloc(workers, sizeof(*relay->workers));
	if (!relay->workers)
		return report_fail(why, errno, "malloc", "%u workers", workers);
	relay->count = workers;
	relay->busy = workers;
	pthread_mutex_init(&relay->gate, NULL);
	for (unsigned i = 0; i < workers; i++)
		if (worker_init(&relay->workers[i], relay, why) < 0)
			return -1;
	relay->output_ops.ready = handle_ready;
	record_output_init(&relay->output, &relay->output_ops, relay->workers[0].host.loop,
			   relay->records, false);
	return 0;
}

void workers_free(struct relay *relay)
{
	for (unsigned i = 0; i < relay->count; i++)
		worker_free(&relay->workers[i]);
	if (relay->workers)
		pthread_mutex_destroy(&relay->gate);
	udp_icmp_close(&relay->icmp[FLOW_CLIENT]);
	if (relay->policy.netns)
		udp_icmp_close(&relay->icmp[FLOW_UPSTREAM]);
	free(relay->workers);
	relay->workers = NULL;
	relay->count = 0;
}

static void *run_worker(void *context)
{
	struct worker *w = context;

	pthread_mutex_lock(&w->relay->gate);
	pthread_mutex_unlock(&w->relay->gate);
	worker_serve(w);
	return NULL;
}

/* The first failure of any worker is the relay's. */
static int result_of(const struct relay *relay, struct failure *why)
{
	for (unsigned i = 0; i < relay->count; i++) {
		if (relay->workers[i].result == 0)
			continue;
		*why = relay->workers[i].why;
		return -1;
	}
	return 0;
}

static unsigned needs_of(const struct relay *relay)
{
	const struct worker *w = &relay->workers[0];
	unsigned needs = SANDBOX_CONTROL;

	if (relay->only || w->listeners.count)
		needs |= SANDBOX_TCP | SANDBOX_UPSTREAM;
	if (w->udp_listeners.count)
		needs |= SANDBOX_UDP | SANDBOX_UPSTREAM_UDP;
	if (relay->policy.local_addrs || relay->policy.listener_addrs)
		needs |= SANDBOX_NETLINK;
	return needs;
}

/* Everything left to do before the gate opens; *started counts the threads, also on failure. */
static int prepare(struct relay *relay, unsigned *started, struct failure *why)
{
	*started = 1;
	/* Threads that exist already would stay outside the sandbox. */
	if (relay->sandbox && confine_enter(-1, why) < 0)
		return -1;
	for (; *started < relay->count; ++*started) {
		struct worker *w = &relay->workers[*started];
		int error = pthread_create(&w->thread, NULL, run_worker, w);

		if (error)
			return report_fail(why, error, "pthread_create", "worker %u", w->index);
	}
	if (relay->sandbox && sandbox_enter(needs_of(relay), why) < 0)
		return -1;
	if (relay->ready)
		relay->ready(relay);
	return 0;
}

int workers_run(struct relay *relay, struct failure *why)
{
	unsigned started;
	int result;

	for (unsigned i = 0; i < relay->count; i++)
		if (worker_start(&relay->workers[i], why) < 0)
			return -1;
	pthread_mutex_lock(&relay->gate);
	result = prepare(relay, &started, why);
	pthread_mutex_unlock(&relay->gate);
	if (result < 0)
		relay_end(relay, RELAY_ENDING);
	for (unsigned i = started; i < relay->count; i++)
		worker_be_over(&relay->workers[i]);
	if (relay->only)
		loop_wake(relay->workers[0].host.loop);
	worker_serve(&relay->workers[0]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(relay->workers[i].thread, NULL);
	relay_end_visits(relay);
	return result < 0 ? -1 : result_of(relay, why);
}
