/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/removal.h"

#include "intercept/strays.h"
#include <stdio.h>
#include <string.h>

/* Remove everything with our tag that no other instance needs: this instance's routing, and
 * modified copies of it. */
static int remove_routing(struct instance *kernel, const struct instance_view *view,
			  const char *name, bool *removed, struct failure *why)
{
	const struct strays_scope scope = { .leaving = name,
					    .table = view->rules.readable ? view->rules.spec.table
									  : 0 };
	struct strays s;
	int err = strays_find(kernel, &scope, &s, why);

	if (!err)
		err = strays_remove(kernel, &s, why);
	*removed |= s.count;
	strays_free(&s);
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

static int add_listeners(int protocol, const struct endpoint *to,
			 const struct listening_state *state, void *context)
{
	*(long *)context += state->count;
	return 0;
}

/* Phase 3: nothing needs them any more. */
static int remove_locked(struct instance *kernel, const char *name, const struct instance_view *was,
			 struct removal *removal, struct failure *why)
{
	struct instance_view view;
	int err = instance_look(kernel, name, NULL, false, &view, why);

	if (!err && view.rules.present && view.rules.handle != was->rules.handle) {
		removal->drain.replaced = true;
		goto out;
	}
	removal->found |= view.rules.present;
	/* The table goes last: if anything fails before, it still says what to remove. */
	if (!err)
		err = remove_routing(kernel, &view, name, &removal->found, why);
	if (!err && view.rules.present)
		err = nft_remove(kernel->rules, name, why);
out:
	instance_view_free(&view);
	return err;
}

/* Is there anything at all to remove? Checked without the lock, which is itself a change. */
static int is_named(const char *name, void *context)
{
	return !strcmp(name, context);
}

static int anything_there(struct instance *kernel, const char *name, bool *anything,
			  struct failure *why)
{
	const struct strays_scope scope = { .leaving = name };
	char copy[INTERCEPT_NAME_MAX + 1];
	int found;

	snprintf(copy, sizeof(copy), "%s", name);
	found = nft_each(kernel->rules, is_named, copy, why);
	/* Another process may be changing it: what is left shows when that has finished. */
	if (!found)
		found = nft_is_locked(kernel->rules);
	if (!found)
		found = strays_any(kernel, &scope, why);
	*anything = found;
	return found < 0 ? -1 : 0;
}

/* Is nothing relayed, and can nothing start to be, because nobody listens? Then phase 1 is
 * unnecessary. 1: yes (and the remains of closed connections are gone); 0: no; or -1 with *why. */
static int is_idle(struct instance *kernel, const struct instance_view *view,
		   struct removal *removal, struct failure *why)
{
	const struct intercept *spec = &view->rules.spec;
	long listeners = 0;

	if (!view->rules.readable || spec->divert_only)
		return 0;
	if (instance_each_listener(spec, add_listeners, &listeners, why))
		return -1;
	return listeners ? 0 : drain_is_done(kernel, spec, &removal->drain, why);
}

static void tell_drain(const char *name, const struct drain *drain, uint64_t ms, bool impatient)
{
	report_notice("%s: draining %zu connection%s, at most %llu%s%s", name, drain->connections,
		      drain->connections == 1 ? "" : "s",
		      (unsigned long long)(ms % 1000 ? ms : ms / 1000), ms % 1000 ? " ms" : " s",
		      impatient ? "; again to end now" : "");
}

/* Phases 2 and 3. The lock is held at the beginning and at the end, but not while we wait: others
 * may work then. */
static int drain_and_remove(struct instance *kernel, const char *name, struct instance_view *was,
			    uint64_t drain_ms, const volatile sig_atomic_t *hurry,
			    struct removal *removal, struct failure *why)
{
	const struct intercept *spec = &was->rules.spec;
	int drained = was->rules.readable ? drain_is_done(kernel, spec, &removal->drain, why) : 1;

	if (drained < 0)
		return -1;
	if (!drained) {
		nft_unlock(kernel->rules);
		if (drain_ms)
			tell_drain(name, &removal->drain, drain_ms, hurry);
		if (drain_run(kernel, was, drain_ms, hurry, &removal->drain, why) ||
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
