/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/removal.h"

#include "tproxy-setup/drain.h"
#include "tproxy-setup/neighbours.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* How often the drain looks, and how long sockets that were told to end may take to be gone. */
#define DRAIN_POLL_MS	 50
#define DRAIN_DESTROY_MS 2000

/* Rules and routes with our tag that no other installed instance claims. */
struct orphans {
	struct instance *kernel;
	struct neighbours neighbours;
	bool removed;
	struct failure *why;
};

static int visit_tagged(const struct route_plan *plan, const struct route_state *which,
			void *context)
{
	struct orphans *o = context;
	struct route_state used = neighbours_share(&o->neighbours, plan);

	if ((which->rule && used.rule) || (which->route && used.route))
		return 0;
	o->removed = true;
	return route_remove(o->kernel->route, plan, which, o->why);
}

static int remove_orphans(struct instance *kernel, const char *name, bool *removed,
			  struct failure *why)
{
	struct orphans o = { .kernel = kernel, .why = why };
	int err = neighbours_read(kernel, name, false, &o.neighbours, why);

	if (!err)
		err = route_each(kernel->route, visit_tagged, &o, why);
	neighbours_free(&o.neighbours);
	*removed |= o.removed;
	return err;
}

static int remove_routing(struct instance *kernel, const struct instance_view *view,
			  struct failure *why)
{
	struct neighbours n;
	int err = neighbours_read(kernel, view->rules.spec.name, false, &n, why);

	for (int i = 0; i < 2 && !err; i++) {
		const struct instance_routing *r = &view->routing[i];
		struct route_state used = neighbours_share(&n, &r->plan);
		const struct route_state ours = { r->state.rule && !used.rule,
						  r->state.route && !used.route };

		if (r->wanted)
			err = route_remove(kernel->route, &r->plan, &ours, why);
	}
	neighbours_free(&n);
	return err;
}

/* Phase 1. */
static int end_locked(struct instance *kernel, const struct instance_view *view, uint64_t drain_ms,
		      struct failure *why)
{
	if (!view->rules.readable || view->rules.spec.divert_only || view->rules.ending)
		return 0;
	return nft_end_interception(kernel->rules, &view->rules.spec, drain_ms, why);
}

static int add_recipients(int protocol, const struct endpoint *to,
			  const struct listening_state *state, void *context)
{
	*(long *)context += state->count;
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* One look at the instance's connections, among those of others. */
static int look_at_connections(struct instance *kernel, const struct intercept *spec,
			       const struct neighbours *others, bool destroy, struct drain *drained,
			       struct removal *removal, struct failure *why)
{
	const struct legs_question question = {
		.route = kernel->route,
		.spec = spec,
		.other = others->at,
		.others = others->count,
	};

	if (drain_look(&question, destroy, drained, why))
		return -1;
	removal->kept = (long)drained->kept;
	removal->kept_why = drained->why;
	if (destroy && drained->sockets > drained->kept)
		removal->destroyed += (long)drained->connections;
	return 0;
}

/* Until no connection needs the divert rules, or drain_ms are over; then `destroy`, until those are gone
 * that can be ended. 1 when none is left, 0 when the time is over, or -1 with *why. */
static int wait_for_connections(struct instance *kernel, const struct intercept *spec,
				const struct neighbours *others, uint64_t ms, bool destroy,
				const volatile sig_atomic_t *hurry, struct removal *removal,
				struct failure *why)
{
	const struct timespec pause = { .tv_nsec = DRAIN_POLL_MS * 1000000L };
	uint64_t start = now_ms();
	struct drain left;

	for (;;) {
		if (look_at_connections(kernel, spec, others, destroy, &left, removal, why))
			return -1;
		if (left.sockets <= left.kept)
			return 1;
		if (now_ms() - start >= ms || (!destroy && hurry && *hurry))
			return 0;
		nanosleep(&pause, NULL);
	}
}

/* Phase 2: wait until no connection needs the divert rules, or end those that do. Who else is installed
 * is asked again then. */
static int drain(struct instance *kernel, const struct intercept *spec, uint64_t drain_ms,
		 const volatile sig_atomic_t *hurry, struct removal *removal, struct failure *why)
{
	struct neighbours others;
	int done = 0;

	for (int destroy = !drain_ms; !done && destroy < 2; destroy++) {
		done = neighbours_read(kernel, spec->name, true, &others, why);
		if (!done)
			done = wait_for_connections(kernel, spec, &others,
						    destroy ? DRAIN_DESTROY_MS : drain_ms, destroy,
						    hurry, removal, why);
		neighbours_free(&others);
	}
	return done < 0 ? -1 : 0;
}

/* Phase 3: nothing needs them any more. */
static int remove_locked(struct instance *kernel, const char *name, const struct instance_view *was,
			 struct removal *removal, struct failure *why)
{
	struct instance_view view;
	int err = instance_look(kernel, name, NULL, false, &view, why);

	if (!err && view.rules.present && view.rules.handle != was->rules.handle) {
		removal->replaced = true;
		goto out;
	}
	removal->found |= view.rules.present;
	/* The table goes last: should anything fail before, it still says what is to be removed. */
	if (!err && view.rules.readable)
		err = remove_routing(kernel, &view, why);
	else if (!err)
		err = remove_orphans(kernel, name, &removal->found, why);
	if (!err && view.rules.present)
		err = nft_remove(kernel->rules, name, why);
out:
	instance_view_free(&view);
	return err;
}

/* Is there anything at all to remove? Asked without the lock, which is a change in itself. */
static int is_named(const char *name, void *context)
{
	return !strcmp(name, context);
}

static int count_tagged(const struct route_plan *plan, const struct route_state *which,
			void *context)
{
	(void)plan;
	(void)which;
	++*(unsigned *)context;
	return 0;
}

static int anything_there(struct instance *kernel, const char *name, bool *anything,
			  struct failure *why)
{
	char copy[INTERCEPT_NAME_MAX + 1];
	unsigned tagged = 0;
	int found;

	snprintf(copy, sizeof(copy), "%s", name);
	found = nft_each(kernel->rules, is_named, copy, why);
	if (!found && route_each(kernel->route, count_tagged, &tagged, why))
		found = -1;
	*anything = found || tagged;
	return found < 0 ? -1 : 0;
}

/* If nothing needs the divert rules, clean up at once. 1 if so, 0 if there is something to wait for, or
 * -1 with *why. */
static int is_drained(struct instance *kernel, const struct intercept *spec,
		      struct removal *removal, struct failure *why)
{
	struct neighbours others;
	struct drain left;
	int err = neighbours_read(kernel, spec->name, true, &others, why);

	if (!err)
		err = look_at_connections(kernel, spec, &others, false, &left, removal, why);
	neighbours_free(&others);
	return err ? -1 : !left.sockets;
}

/* Is nothing relayed, and can nothing begin to be, because nobody listens? Then phase 1 has no use. The
 * same returns. */
static int is_idle(struct instance *kernel, const struct instance_view *view,
		   struct removal *removal, struct failure *why)
{
	const struct intercept *spec = &view->rules.spec;
	long recipients = 0;

	if (!view->rules.readable || spec->divert_only)
		return 0;
	if (instance_each_listener(spec, add_recipients, &recipients, why))
		return -1;
	return recipients ? 0 : is_drained(kernel, spec, removal, why);
}

/* Phases 2 and 3. The lock is held at the beginning and at the end, but not while we wait: others may
 * work meanwhile. */
static int drain_and_remove(struct instance *kernel, const char *name, struct instance_view *was,
			    uint64_t drain_ms, const volatile sig_atomic_t *hurry,
			    struct removal *removal, struct failure *why)
{
	const struct intercept *spec = &was->rules.spec;
	int drained = was->rules.readable ? is_drained(kernel, spec, removal, why) : 1;

	if (drained < 0)
		return -1;
	if (!drained) {
		nft_unlock(kernel->rules);
		if (drain(kernel, spec, drain_ms, hurry, removal, why) ||
		    nft_lock(kernel->rules, NFT_LOCK_MS, why))
			return -1;
	}
	return remove_locked(kernel, name, was, removal, why);
}

int removal_run(struct instance *kernel, const char *name, uint64_t drain_ms,
		const volatile sig_atomic_t *hurry, struct removal *removal, struct failure *why)
{
	struct instance_view view = { 0 };
	bool anything;
	int err, idle;

	*removal = (struct removal){ 0 };
	if (anything_there(kernel, name, &anything, why))
		return -1;
	if (!anything)
		return 0;
	if (nft_lock(kernel->rules, NFT_LOCK_MS, why))
		return -1;
	err = instance_look(kernel, name, NULL, true, &view, why);
	idle = err ? -1 : is_idle(kernel, &view, removal, why);
	if (idle > 0)
		err = remove_locked(kernel, name, &view, removal, why);
	else if (!idle)
		err = end_locked(kernel, &view, drain_ms, why) ||
		      drain_and_remove(kernel, name, &view, drain_ms, hurry, removal, why);
	nft_unlock(kernel->rules);
	instance_view_free(&view);
	return err || idle < 0 ? -1 : 0;
}

int removal_end_interception(struct instance *kernel, const char *name, uint64_t drain_ms,
			     struct failure *why)
{
	struct instance_view view = { 0 };
	int err;

	if (nft_lock(kernel->rules, NFT_LOCK_MS, why))
		return -1;
	err = instance_look(kernel, name, NULL, true, &view, why);
	if (!err)
		err = end_locked(kernel, &view, drain_ms, why);
	nft_unlock(kernel->rules);
	instance_view_free(&view);
	return err;
}
