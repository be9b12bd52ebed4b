/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/stages.h"

#include "base/container.h"
#include "tproxy-listen/accept.h"
#include "tproxy-listen/serve.h"
#include <netinet/in.h>
#include <signal.h>

#define KILL_TIME 5000 /* a child's milliseconds between SIGTERM and SIGKILL */

static void close_group(struct service *s, struct listeners *l, struct loop_source *sources)
{
	for (size_t i = 0; i < l->count; i++) {
		loop_close(s->loop, &sources[i]);
		l->at[i].fd = -1;
	}
}

static void close_listeners(struct service *s)
{
	close_group(s, &s->listeners, s->sources);
	close_group(s, &s->udp, s->udp_sources);
}

static void finish_stopped(struct connection *c)
{
	if (c->phase == PHASE_HEADER)
		accept_refuse_header(c, "stopped");
	else
		service_finish(c, "stopped");
}

/* Connections that have not been started will not be; flows that have only the listener have
 * nothing to wait for without it. */
static bool has_nothing(const struct connection *c)
{
	if (c->phase == PHASE_WAITING)
		return c->service->entered >= STAGE_DRAINING;
	return c->caller.protocol == IPPROTO_UDP && c->source.fd < 0 && c->phase != PHASE_RUN;
}

/* End the remaining connections. If the reader of the records cannot keep up, this continues when
 * it has caught up, or its time is over. */
static void finish_left(struct service *s)
{
	struct connection *c, *next;

	/* service_release() runs after the batch: the iteration stays valid */
	for (c = slab_next(&s->connections, NULL); c; c = next) {
		next = slab_next(&s->connections, c);
		if (c->source.dead || !(s->finishes_all || has_nothing(c)))
			continue;
		if (record_output_is_congested(&s->output)) {
			record_output_end(&s->output, s->config->drain);
			return;
		}
		finish_stopped(c);
	}
}

/* The reader of the records is gone: without a CMD there is nothing left to do. */
static void handle_lost_reader(struct record_output *o)
{
	struct service *s = container_of(o, struct service, output);

	if (s->action != ACTION_RUN)
		service_note_stage(s, STAGE_DRAINING);
}

static void tell_unwritable(const struct failure *why)
{
	char text[512];

	report_warning("%s", report_text(why, text, sizeof(text)));
}

static void tell_waiting(uint64_t records, uint64_t ms)
{
	report_notice("%llu records wait for their reader, at most %llu s; a signal ends the wait",
		      (unsigned long long)records, (unsigned long long)(ms + 999) / 1000);
}

static void handle_ready_reader(struct record_output *o)
{
	struct service *s = container_of(o, struct service, output);

	if (s->entered != STAGE_SERVING)
		finish_left(s);
	service_flush(s);
}

static const struct record_output_ops output_ops = {
	.trouble = tell_unwritable,
	.gone = handle_lost_reader,
	.ready = handle_ready_reader,
	.waiting = tell_waiting,
};

static void enter(struct service *s, enum stage stage)
{
	bool run = s->action == ACTION_RUN;

	switch (stage) {
	case STAGE_SERVING:
		break;
	case STAGE_FINISHING:
		close_listeners(s);
		finish_left(s);
		break;
	case STAGE_DRAINING:
		s->finishes_all = !run;
		s->waiting = NULL; /* they are still in the list of all connections */
		finish_left(s);
		if (run)
			loop_arm(s->loop, &s->drain, s->config->drain);
		break;
	case STAGE_ENDING:
		if (s->children.count)
			report_notice(s->children.count == 1
					      ? "%zu connection is still served: ending it"
					      : "%zu connections are still served: ending them",
				      s->children.count);
		spawner_signal(s->spawner, SIGTERM);
		loop_arm(s->loop, &s->drain, KILL_TIME);
		break;
	case STAGE_KILLING:
		spawner_signal(s->spawner, SIGKILL);
		break;
	}
}

/* The last connection is gone, and no more will come: now only wait for the reader of the
 * records. */
static void end_if_idle(struct service *s)
{
	if (s->entered == STAGE_SERVING || s->open)
		return;
	record_output_end(&s->output, s->config->drain);
	if (record_output_is_done(&s->output))
		loop_stop(s->loop);
}

/* --count is reached; the kernel has admitted more connections, and their clients know that. */
static void take_last(struct service *s)
{
	enum stage due = s->stage;

	if (due < STAGE_DRAINING)
		return;
	s->stage = STAGE_SERVING;
	accept_last(s);
	service_note_stage(s, due);
}

/* Do what the turn's handlers have noted. Writing may note more: that the reader is gone. */
static void end_turn(struct loop *loop)
{
	struct service *s = loop_context(loop);

	if (s->entered == STAGE_SERVING)
		take_last(s);
	while (s->entered < s->stage || s->room) {
		while (s->entered < s->stage)
			enter(s, ++s->entered);
		if (s->room)
			serve_resume(s);
		service_flush(s);
	}
	end_if_idle(s);
}

static void drain_expired(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	service_note_stage(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
}

static void time_out(struct loop *loop, struct loop_timer *timer)
{
	struct service *s = loop_context(loop);

	s->timed_out = s->stage == STAGE_SERVING;
	service_note_stage(s, STAGE_DRAINING);
}

static void end_sooner(struct service *s)
{
	if (s->stage < STAGE_DRAINING) {
		service_note_stage(s, STAGE_DRAINING);
		return;
	}
	record_output_hurry(&s->output);
	service_note_stage(s, s->stage == STAGE_DRAINING ? STAGE_ENDING : STAGE_KILLING);
}

static void handle_signal(struct loop *loop, int signo, void *context)
{
	end_sooner(context);
}

int stages_init(struct service *s, const int *signals, struct failure *why)
{
	s->timeout.alarm = time_out;
	s->drain.alarm = drain_expired;
	loop_on_turn(s->loop, end_turn);
	if (loop_signals(s->loop, signals, handle_signal, s, why) < 0)
		return -1;
	record_output_init(&s->output, &output_ops, s->loop, s->stream, true);
	if (s->config->timeout)
		loop_arm(s->loop, &s->timeout, s->config->timeout);
	return 0;
}
