/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/relay.h"

uint64_t relay_count(const struct relay *relay, unsigned which)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < relay->count; i++)
		sum += counters_read(&relay->workers[i].counters, which);
	return sum;
}

void relay_wake(struct relay *relay)
{
	for (unsigned i = 0; i < relay->count; i++)
		loop_wake(relay->workers[i].host.loop);
}

void relay_end(struct relay *relay, enum relay_phase phase)
{
	if (relay->phase >= (int)phase)
		return;
	relay->phase = phase;
	relay_wake(relay);
}

const char *relay_phase_name(enum relay_phase phase)
{
	static const char *const names[] = {
		[RELAY_SERVING] = "serving",
		[RELAY_LAME_DUCK] = "lame-duck",
		[RELAY_DRAINING] = "draining",
		[RELAY_ENDING] = "ending",
	};

	return names[phase];
}

/* ---- visits ---- */

static void pass_visit(struct worker *w, struct relay_visit *visit)
{
	pthread_mutex_lock(&w->lock);
	visit->next = w->visits;
	w->visits = visit;
	pthread_mutex_unlock(&w->lock);
	loop_wake(w->host.loop);
}

void relay_for_each_worker(struct relay *relay, struct relay_visit *visit)
{
	visit->at = 0;
	visit->pauses = false;
	pass_visit(&relay->workers[0], visit);
}

void relay_resume_visit(struct relay *relay, struct relay_visit *visit)
{
	visit->pauses = false;
	pass_visit(&relay->workers[visit->at], visit);
}

bool relay_visit_is_over(const struct relay *relay, const struct relay_visit *visit)
{
	return visit->at == relay->count;
}

static void take_visit(struct worker *w, struct relay_visit *visit)
{
	struct relay *relay = w->relay;
	unsigned next;

	if (visit->pauses || relay_visit_is_over(relay, visit)) {
		visit->done(visit->context);
		return;
	}
	visit->pauses = !visit->visit(w, visit->context);
	if (!visit->pauses)
		visit->at++;
	next = visit->pauses || relay_visit_is_over(relay, visit) ? 0 : visit->at;
	pass_visit(&relay->workers[next], visit);
}

void relay_take_visits(struct worker *w)
{
	struct relay_visit *visits, *next;

	pthread_mutex_lock(&w->lock);
	visits = w->visits;
	w->visits = NULL;
	pthread_mutex_unlock(&w->lock);
	for (; visits; visits = next) {
		next = visits->next;
		take_visit(w, visits);
	}
}

/* Finish visits that were pending when the relay ended; no worker runs any more. */
void relay_end_visits(struct relay *relay)
{
	for (unsigned i = 0; i < relay->count; i++) {
		while (relay->workers[i].visits) {
			struct relay_visit *t = relay->workers[i].visits;

			relay->workers[i].visits = t->next;
			while (t->at < relay->count && t->visit(&relay->workers[t->at], t->context))
				t->at++;
			t->done(t->context);
		}
	}
}

uint64_t relay_connections(const struct relay *relay)
{
	uint64_t trying = relay->trying, live = relay->live;

	return live > trying ? live - trying : 0;
}
