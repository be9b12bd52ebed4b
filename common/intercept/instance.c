/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/instance.h"

#include "intercept/nft_text.h"
#include "tproxy-setup/drain.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long another process may hold the lock before we give up. */
#define LOCK_MS 10000

/* How often the drain looks, and how long sockets that were told to end may take to be gone. */
#define DRAIN_POLL_MS	 50
#define DRAIN_DESTROY_MS 2000

static const sa_family_t families[2] = { AF_INET, AF_INET6 };

int instance_open(struct instance *kernel, struct failure *why)
{
	*kernel = (struct instance){ 0 };
	kernel->rules = nft_open(why);
	kernel->route = kernel->rules ? route_open(why) : NULL;
	if (kernel->route)
		return 0;
	instance_close(kernel);
	return -1;
}

void instance_close(struct instance *kernel)
{
	nft_close(kernel->rules);
	route_close(kernel->route);
	*kernel = (struct instance){ 0 };
}

/* --- looking ---------------------------------------------------------------------------------- */

static struct route_plan plan_of(const struct intercept *spec, sa_family_t family)
{
	return (struct route_plan){
		.family = family, .mark = spec->mark, .table = spec->table, .pref = spec->pref
	};
}

static bool wants_family(const struct intercept *spec, sa_family_t family)
{
	return family == AF_INET ? spec->ipv4 : spec->ipv6;
}

static int look_at_routing(struct instance *kernel, const struct intercept *spec,
			   struct instance_view *view, struct failure *why)
{
	for (int i = 0; i < 2; i++) {
		struct instance_routing *r = &view->routing[i];

		r->plan = plan_of(spec, families[i]);
		r->wanted = wants_family(spec, families[i]);
		if (r->wanted && route_look(kernel->route, &r->plan, &r->state, r->conflict, why))
			return -1;
	}
	return 0;
}

int instance_look(struct instance *kernel, const char *name, const struct intercept *spec,
		  bool contents, struct instance_view *view, struct failure *why)
{
	memset(view, 0, sizeof(*view));
	if (nft_read(kernel->rules, name, contents, &view->rules, why))
		return -1;
	if (!spec && view->rules.readable)
		spec = &view->rules.spec;
	return spec ? look_at_routing(kernel, spec, view, why) : 0;
}

void instance_view_free(struct instance_view *view)
{
	nft_state_free(&view->rules);
}

static bool routing_intact(const struct instance_view *view)
{
	for (int i = 0; i < 2; i++) {
		const struct instance_routing *r = &view->routing[i];

		if (r->wanted && (!r->state.rule || !r->state.route))
			return false;
	}
	return true;
}

bool instance_intact(const struct instance_view *view)
{
	return nft_intact(&view->rules) && routing_intact(view);
}

/* The installed specification's text as it was stored, whatever its sets hold by now. */
static bool is_same_spec(const struct instance_view *view, const struct intercept *spec)
{
	char texts[2][INTERCEPT_TEXT_MAX];

	return view->rules.readable &&
	       !strcmp(intercept_text(&view->rules.spec, texts[0]), intercept_text(spec, texts[1]));
}

/* As asked, intact, and for good: `up` has nothing to do. */
static bool is_done(const struct instance_view *view, const struct intercept *spec)
{
	return is_same_spec(view, spec) && instance_intact(view) &&
	       (view->rules.lease == LEASE_NONE || view->rules.lease == LEASE_CONFIRMED);
}

int instance_each_listener(const struct intercept *spec, instance_listener_visitor *visit,
			   void *context, struct failure *why)
{
	const struct endpoint *to[] = { &spec->to4, &spec->to6 };
	const int protocols[] = { spec->tcp ? IPPROTO_TCP : 0, spec->udp ? IPPROTO_UDP : 0 };
	struct listening_state state;
	int result = 0;

	for (int i = 0; i < 4 && !result; i++) {
		int protocol = protocols[i % 2];

		if (!protocol || !endpoint_is_set(to[i / 2]))
			continue;
		result = listening_look(protocol, to[i / 2], &state, why);
		if (!result)
			result = visit(protocol, to[i / 2], &state, context);
	}
	return result;
}

/* 1: nobody takes some of the connections, or one who does is not transparent. */
static int lacks_listener(int protocol, const struct endpoint *to,
			  const struct listening_state *state, void *context)
{
	return !state->count || state->nontransparent;
}

int instance_ready(const struct intercept *spec, struct failure *why)
{
	int lacking = instance_each_listener(spec, lacks_listener, NULL, why);

	return lacking < 0 ? -1 : !lacking;
}

/* --- what the machine decides ----------------------------------------------------------------- */

static int decide_families(struct intercept *spec, sa_family_t demanded, char notice[256],
			   struct failure *why)
{
	for (int i = 0; i < 2; i++) {
		bool is_v4 = families[i] == AF_INET;

		if (!wants_family(spec, families[i]) || route_family_usable(families[i]))
			continue;
		if (demanded == families[i] || !(is_v4 ? spec->ipv6 : spec->ipv4))
			return report_refuse(why,
					     "%s is not available on lo in this network "
					     "namespace",
					     is_v4 ? "IPv4" : "IPv6");
		snprintf(notice, 256, "%s is not available on lo here and is left out",
			 is_v4 ? "IPv4" : "IPv6");
		*(is_v4 ? &spec->ipv4 : &spec->ipv6) = false;
		*(is_v4 ? &spec->to4 : &spec->to6) = (struct endpoint){ 0 };
	}
	return 0;
}

/* --conntrack auto: zones where anything tracks connections, unless they could not be chosen rightly. */
static int decide_zone(struct instance *kernel, struct intercept *spec, char notice[256],
		       struct failure *why)
{
	enum intercept_conntrack need;
	const char *unfit = intercept_zone_unfit(spec);

	if (nft_conntrack_need(kernel->rules, &need, NULL, why))
		return -1;
	if (need != CONNTRACK_OFF && unfit)
		snprintf(notice, 256,
			 "--conntrack auto is taken for off, because of %s: both legs are one "
			 "connection to the rules here that track connections (see --conntrack in "
			 "tproxy-setup(8))",
			 unfit);
	spec->zone = need == CONNTRACK_OFF || unfit ? CONNTRACK_OFF : CONNTRACK_ZONE;
	return 0;
}

int instance_decide(struct instance *kernel, struct intercept *spec, sa_family_t demanded,
		    char notice[256], struct failure *why)
{
	notice[0] = '\0';
	if (decide_families(spec, demanded, notice, why))
		return -1;
	spec->zone = spec->divert_only ? CONNTRACK_OFF : spec->conntrack;
	if (spec->zone == CONNTRACK_ZONE_SNAT)
		spec->zone = CONNTRACK_ZONE;
	if (spec->zone != CONNTRACK_AUTO)
		return 0;
	spec->zone = CONNTRACK_OFF;
	if (kernel->rules)
		return decide_zone(kernel, spec, notice, why);
	snprintf(notice, 256,
		 "the rules here cannot be read without CAP_NET_ADMIN: "
		 "--conntrack auto is taken for off");
	return 0;
}

/* --- neighbours ------------------------------------------------------------------------------- */

/* Looks at the other installed instances, one by one. */
struct neighbours {
	struct instance *kernel;
	const struct intercept *spec; /* ours */
	int (*judge)(struct neighbours *n, const struct intercept *other);
	bool contents;
	struct route_state shares[2]; /* what another instance uses, too, per family */
	struct failure *why;
};

static int visit_neighbour(const char *name, void *context)
{
	struct neighbours *n = context;
	struct nft_state state;
	int result;

	if (!strcmp(name, n->spec->name))
		return 0;
	result = nft_read(n->kernel->rules, name, n->contents, &state, n->why);
	if (!result && state.readable)
		result = n->judge(n, &state.spec);
	nft_state_free(&state);
	return result;
}

static bool same_routing(const struct intercept *a, const struct intercept *b)
{
	return a->mark.value == b->mark.value && a->mark.mask == b->mark.mask &&
	       a->table == b->table && a->pref == b->pref;
}

static int judge_sharing(struct neighbours *n, const struct intercept *other)
{
	for (int i = 0; i < 2; i++) {
		if (!wants_family(other, families[i]))
			continue;
		n->shares[i].rule |= same_routing(n->spec, other);
		n->shares[i].route |= n->spec->table == other->table;
	}
	return 0;
}

/* Another value under the same mask that clashes with nothing of the two. */
static struct mark free_mark(const struct intercept *a, const struct intercept *b)
{
	struct mark mark = a->mark;

	for (uint32_t value = 1; value; value++) {
		mark.value = value & mark.mask;
		if (mark.value && !intercept_marks_clash(&mark, &b->mark) &&
		    !intercept_marks_clash(&mark, &b->upstream_mark) &&
		    !intercept_marks_clash(&mark, &a->upstream_mark))
			break;
		if (value > UINT16_MAX)
			break;
	}
	return mark;
}

/* A mark may be shared where everything about it is the same; anything else would send one instance's
 * packets the other's way. */
static int judge_marks(struct neighbours *n, const struct intercept *other)
{
	const struct intercept *spec = n->spec;
	char mark[QUANTITY_MARK_MAX], proposal[QUANTITY_MARK_MAX];
	struct mark unused = free_mark(spec, other);
	bool shared = same_routing(spec, other);

	if ((!shared && intercept_marks_clash(&spec->mark, &other->mark)) ||
	    intercept_marks_clash(&spec->mark, &other->upstream_mark) ||
	    intercept_marks_clash(&spec->upstream_mark, &other->mark)) {
		report_refuse(n->why,
			      "--mark %s, --upstream-mark: instance `%s` uses the same bits "
			      "with other numbers",
			      quantity_format_mark(&spec->mark, mark), other->name);
		return report_hint(n->why,
				   "--mark %s --table %u are free, or the same --mark, "
				   "--table and --pref as `%s`",
				   quantity_format_mark(&unused, proposal),
				   route_free_table(n->kernel->route, other->table), other->name);
	}
	return 0;
}

static int judge_conflicts(struct neighbours *n, const struct intercept *other)
{
	if (judge_marks(n, other))
		return -1;
	if (!intercept_overlaps(n->spec, other))
		return 0;
	report_refuse(n->why, "instance `%s` intercepts some of these packets already",
		      other->name);
	return report_hint(n->why,
			   "tproxy-setup status --name %s; use the same --name to replace "
			   "it, or narrow one of the two",
			   other->name);
}

static int meet_neighbours(struct instance *kernel, const struct intercept *spec, bool contents,
			   int (*judge)(struct neighbours *n, const struct intercept *other),
			   struct neighbours *n, struct failure *why)
{
	*n = (struct neighbours){
		.kernel = kernel, .spec = spec, .judge = judge, .contents = contents, .why = why
	};
	return nft_each(kernel->rules, visit_neighbour, n, why);
}

/* --- up --------------------------------------------------------------------------------------- */

/* What one call has done so far: enough to undo it. */
struct change {
	struct instance *kernel;
	const char *name;
	struct {
		struct route_plan plan;
		struct route_state added, removed;
	} routing[4]; /* what is new, what is old; per family */
	bool loaded;
	char *saved; /* the rules before, NULL: none */
};

/* Put back what a change removed; what it did not come to remove is still there. */
static int put_back(struct instance *kernel, const struct route_plan *plan,
		    const struct route_state *removed, struct failure *why)
{
	const struct route_state only[] = { { true, !removed->route }, { !removed->rule, true } };
	struct route_state added;
	int err = 0;

	for (int i = 0; i < 2; i++)
		if (route_add(kernel->route, plan, &only[i], &added, why) && why->err != EEXIST)
			err = -1;
	return err;
}

static void undo(struct change *c, struct failure *why)
{
	struct failure reason = *why, second = { 0 };
	int err = 0;

	if (c->loaded)
		err = nft_restore(c->kernel->rules, c->name, c->saved, &second);
	for (int i = 3; i >= 0; i--) {
		err |= put_back(c->kernel, &c->routing[i].plan, &c->routing[i].removed, &second);
		err |= route_remove(c->kernel->route, &c->routing[i].plan, &c->routing[i].added,
				    &second);
	}
	*why = reason;
	if (err)
		report_hint(why, "and it could not be undone (%s): tproxy-setup down --name %s",
			    second.err ? strerror(second.err) : second.detail, c->name);
}

/* A table that others use is left alone, and a free one proposed. */
static int refuse_conflict(struct instance *kernel, const struct instance_routing *r,
			   struct failure *why)
{
	uint32_t proposal = route_free_table(kernel->route, r->plan.table);

	report_refuse(why, "%s", r->conflict);
	report_about(why, "--table %u", r->plan.table);
	return proposal ? report_hint(why, "--table %u is free", proposal) : -1;
}

static int add_routing(struct change *c, const struct instance_view *view, struct failure *why)
{
	for (int i = 0; i < 2; i++) {
		const struct instance_routing *r = &view->routing[i];

		if (!r->wanted)
			continue;
		if (r->conflict[0])
			return refuse_conflict(c->kernel, r, why);
		c->routing[i].plan = r->plan;
		if (route_add(c->kernel->route, &r->plan, &r->state, &c->routing[i].added, why))
			return -1;
	}
	return 0;
}

/* The rule and route that only the replaced specification needed. */
static int remove_old_routing(struct change *c, const struct intercept *old,
			      const struct intercept *spec, struct failure *why)
{
	struct neighbours n;

	if (meet_neighbours(c->kernel, old, false, judge_sharing, &n, why))
		return -1;
	for (int i = 0; i < 2; i++) {
		struct route_plan plan = plan_of(old, families[i]);
		struct route_state there;
		char ignored[160];

		if (!wants_family(old, families[i]))
			continue;
		if (route_look(c->kernel->route, &plan, &there, ignored, why))
			return -1;
		if (wants_family(spec, families[i])) {
			there.rule &= !same_routing(old, spec);
			there.route &= old->table != spec->table;
		}
		there.rule &= !n.shares[i].rule;
		there.route &= !n.shares[i].route;
		c->routing[2 + i].plan = plan;
		c->routing[2 + i].removed = there;
		if (route_remove(c->kernel->route, &plan, &there, why))
			return -1;
	}
	return 0;
}

static int load_text(struct change *c, char *text, struct failure *why)
{
	int err = text ? nft_load(c->kernel->rules, text, why) : -1;

	free(text);
	c->loaded |= !err;
	return err;
}

/* Is the list the same as the installed one, whose sets are intact? */
static bool is_same_list(const struct intercept *old, const struct intercept *spec,
			 enum intercept_list_id id)
{
	struct intercept_digest digest = intercept_digest_of(spec, id);

	return intercept_digest_equal(&digest, &old->digest[id]) && old->ipv4 == spec->ipv4 &&
	       old->ipv6 == spec->ipv6;
}

/* The sets of those lists, before the rules; none is no transaction. */
static int load_lists(struct change *c, const struct intercept *spec,
		      const bool which[INTERCEPT_LISTS], struct failure *why)
{
	bool any = false;

	for (int id = 0; id < INTERCEPT_LISTS; id++)
		any |= which[id] &&
		       (intercept_lists[id].is_ports ? intercept_ports(spec, id)->count
						     : intercept_cidrs(spec, id)->count);
	return any ? load_text(c, nft_text_lists(spec, which, why), why) : 0;
}

static int load_new(struct change *c, const struct intercept *spec, struct failure *why)
{
	bool all[INTERCEPT_LISTS];

	memset(all, true, sizeof(all));
	return load_lists(c, spec, all, why) ? -1 : load_text(c, nft_text_rules(spec, why), why);
}

static int load_change(struct change *c, const struct intercept *spec, const struct intercept *old,
		       struct failure *why)
{
	struct intercept named = *spec;
	bool others[INTERCEPT_LISTS];

	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		others[id] = !is_same_list(old, spec, id);
		named.alternate[id] = old->alternate[id] != others[id];
	}
	return load_lists(c, &named, others, why)
		       ? -1
		       : load_text(c, nft_text_change(&named, c->saved, why), why);
}

/* An instance in its normal state is changed where it is. One that is ending gets a new table, which
 * tells the `down` that waits for it; so does one without interception, whose `down` cannot be told
 * otherwise, and one that is not as it was put in place. */
static int load_rules(struct change *c, const struct intercept *spec,
		      const struct instance_view *view, struct failure *why)
{
	bool changeable = nft_intact(&view->rules) && !view->rules.spec.divert_only &&
			  !spec->divert_only;

	if (!c->saved)
		return load_new(c, spec, why);
	if (changeable && !load_change(c, spec, &view->rules.spec, why))
		return 0;
	return load_text(c, nft_text_replacement(spec, c->saved, why), why);
}

/* Read back the routing; the rules are, when they are checksummed. */
static int verify(struct instance *kernel, const struct intercept *spec, struct failure *why)
{
	struct instance_view view = { 0 };

	if (look_at_routing(kernel, spec, &view, why))
		return -1;
	if (routing_intact(&view))
		return 0;
	return report_refuse(why,
			     "the routing that was installed is gone again; is another program "
			     "removing it?");
}

static int apply(struct change *c, const struct intercept *spec, const struct instance_view *view,
		 struct failure *why)
{
	if (add_routing(c, view, why) || load_rules(c, spec, view, why))
		return -1;
	if (view->rules.readable && remove_old_routing(c, &view->rules.spec, spec, why))
		return -1;
	/* Last, because it also gives up the lock. */
	return verify(c->kernel, spec, why) ? -1 : nft_checksum(c->kernel->rules, spec, why);
}

/* With the lock held: look again, since it may have changed, and act. */
static int up_locked(struct instance *kernel, const struct intercept *spec,
		     enum instance_outcome *outcome, struct failure *why)
{
	struct change c = { .kernel = kernel, .name = spec->name };
	struct instance_view view;
	struct neighbours n;
	int err;

	err = instance_look(kernel, spec->name, spec, true, &view, why);
	if (!err && is_done(&view, spec)) {
		*outcome = INSTANCE_UNCHANGED;
		goto out;
	}
	if (!err)
		err = meet_neighbours(kernel, spec, true, judge_conflicts, &n, why);
	if (!err && view.rules.present) {
		c.saved = nft_save(kernel->rules, spec->name, why);
		err = c.saved ? 0 : -1;
	}
	if (!err) {
		err = apply(&c, spec, &view, why);
		if (err)
			undo(&c, why);
		*outcome = view.rules.present ? INSTANCE_REPLACED : INSTANCE_INSTALLED;
	}
	free(c.saved);
out:
	instance_view_free(&view);
	return err;
}

int instance_up(struct instance *kernel, const struct intercept *spec,
		enum instance_outcome *outcome, struct failure *why)
{
	struct instance_view view;
	int err = instance_look(kernel, spec->name, spec, true, &view, why);
	bool done = !err && is_done(&view, spec);

	instance_view_free(&view);
	*outcome = INSTANCE_UNCHANGED;
	/* The lock is a change of the rule set itself: without need not even that. */
	if (err || done)
		return err;
	if (nft_lock(kernel->rules, LOCK_MS, why))
		return -1;
	err = up_locked(kernel, spec, outcome, why);
	nft_unlock(kernel->rules);
	return err;
}

int instance_confirm(struct instance *kernel, const char *name, enum nft_lease *lease,
		     struct failure *why)
{
	struct nft_state state;
	int err = nft_read(kernel->rules, name, true, &state, why);

	*lease = err ? LEASE_NONE : state.lease;
	nft_state_free(&state);
	return *lease == LEASE_PENDING ? nft_confirm(kernel->rules, name, why) : err;
}

/* --- down ------------------------------------------------------------------------------------- */

/* Rules and routes with our tag that no installed instance (but `name`) claims. */
struct orphans {
	struct instance *kernel;
	const char *name;
	const struct route_plan *plan;
	const struct route_state *which;
	bool claimed, removed;
	struct failure *why;
};

static int judge_claim(const char *name, void *context)
{
	struct orphans *o = context;
	struct nft_state state;
	int err;

	if (!strcmp(name, o->name))
		return 0;
	err = nft_read(o->kernel->rules, name, false, &state, o->why);
	if (!err && state.readable && wants_family(&state.spec, o->plan->family) &&
	    state.spec.table == o->plan->table &&
	    (o->which->route ||
	     (state.spec.pref == o->plan->pref && state.spec.mark.value == o->plan->mark.value &&
	      state.spec.mark.mask == o->plan->mark.mask)))
		o->claimed = true;
	nft_state_free(&state);
	return err;
}

static int visit_tagged(const struct route_plan *plan, const struct route_state *which,
			void *context)
{
	struct orphans *o = context;

	o->plan = plan;
	o->which = which;
	o->claimed = false;
	if (nft_each(o->kernel->rules, judge_claim, o, o->why))
		return -1;
	if (o->claimed)
		return 0;
	o->removed = true;
	return route_remove(o->kernel->route, plan, which, o->why);
}

static int remove_orphans(struct instance *kernel, const char *name, bool *removed,
			  struct failure *why)
{
	struct orphans o = { .kernel = kernel, .name = name, .why = why };
	int err = route_each(kernel->route, visit_tagged, &o, why);

	*removed |= o.removed;
	return err;
}

static int remove_routing(struct instance *kernel, const struct instance_view *view,
			  struct failure *why)
{
	struct neighbours n;

	if (meet_neighbours(kernel, &view->rules.spec, false, judge_sharing, &n, why))
		return -1;
	for (int i = 0; i < 2; i++) {
		const struct instance_routing *r = &view->routing[i];
		const struct route_state ours = { r->state.rule && !n.shares[i].rule,
						  r->state.route && !n.shares[i].route };

		if (r->wanted && route_remove(kernel->route, &r->plan, &ours, why))
			return -1;
	}
	return 0;
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

/* The other installed instances, lists and all: whose connections are to be left alone. */
struct others {
	struct instance *kernel;
	const char *name; /* ours */
	struct intercept *at;
	size_t count;
	struct failure *why;
};

/* One whose specification cannot be read may be about anything. */
static void assume_anything(struct intercept *spec)
{
	spec->divert_only = spec->ipv4 = spec->ipv6 = spec->tcp = spec->udp = true;
}

static int add_other(const char *name, void *context)
{
	struct others *o = context;
	struct nft_state state;
	struct intercept *grown;
	int err;

	if (!strcmp(name, o->name))
		return 0;
	err = nft_read(o->kernel->rules, name, true, &state, o->why);
	grown = err || !state.present ? NULL : realloc(o->at, (o->count + 1) * sizeof(*grown));
	if (!err && state.present && !grown)
		err = report_fail(o->why, ENOMEM, "realloc", "instances");
	if (!grown) {
		nft_state_free(&state);
		return err;
	}
	o->at = grown;
	o->at[o->count] = state.spec;
	if (!state.readable)
		assume_anything(&o->at[o->count]);
	o->count++;
	return 0;
}

static int find_others(struct instance *kernel, const char *name, struct others *o,
		       struct failure *why)
{
	*o = (struct others){ .kernel = kernel, .name = name, .why = why };
	return nft_each(kernel->rules, add_other, o, why);
}

static void free_others(struct others *o)
{
	for (size_t i = 0; i < o->count; i++)
		intercept_free(&o->at[i]);
	free(o->at);
}

/* One look at the instance's connections, among those of others. */
static int look_at_connections(const struct intercept *spec, const struct others *others,
			       bool destroy, struct drain *drained,
			       struct instance_removal *removal, struct failure *why)
{
	const struct legs_question question = {
		.route = others->kernel->route,
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
static int wait_for_connections(const struct intercept *spec, const struct others *others,
				uint64_t ms, bool destroy, const volatile sig_atomic_t *hurry,
				struct instance_removal *removal, struct failure *why)
{
	const struct timespec pause = { .tv_nsec = DRAIN_POLL_MS * 1000000L };
	uint64_t start = now_ms();
	struct drain left;

	for (;;) {
		if (look_at_connections(spec, others, destroy, &left, removal, why))
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
		 const volatile sig_atomic_t *hurry, struct instance_removal *removal,
		 struct failure *why)
{
	struct others others;
	int done = 0;

	for (int destroy = !drain_ms; !done && destroy < 2; destroy++) {
		done = find_others(kernel, spec->name, &others, why);
		if (!done)
			done = wait_for_connections(spec, &others,
						    destroy ? DRAIN_DESTROY_MS : drain_ms, destroy,
						    hurry, removal, why);
		free_others(&others);
	}
	return done < 0 ? -1 : 0;
}

/* Phase 3: nothing needs them any more. */
static int remove_locked(struct instance *kernel, const char *name, const struct instance_view *was,
			 struct instance_removal *removal, struct failure *why)
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
		      struct instance_removal *removal, struct failure *why)
{
	struct others others;
	struct drain left;
	int err = find_others(kernel, spec->name, &others, why);

	if (!err)
		err = look_at_connections(spec, &others, false, &left, removal, why);
	free_others(&others);
	return err ? -1 : !left.sockets;
}

/* Is nothing relayed, and can nothing begin to be, because nobody listens? Then phase 1 has no use. The
 * same returns. */
static int is_idle(struct instance *kernel, const struct instance_view *view,
		   struct instance_removal *removal, struct failure *why)
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
			    struct instance_removal *removal, struct failure *why)
{
	const struct intercept *spec = &was->rules.spec;
	int drained = was->rules.readable ? is_drained(kernel, spec, removal, why) : 1;

	if (drained < 0)
		return -1;
	if (!drained) {
		nft_unlock(kernel->rules);
		if (drain(kernel, spec, drain_ms, hurry, removal, why) ||
		    nft_lock(kernel->rules, LOCK_MS, why))
			return -1;
	}
	return remove_locked(kernel, name, was, removal, why);
}

int instance_down(struct instance *kernel, const char *name, uint64_t drain_ms,
		  const volatile sig_atomic_t *hurry, struct instance_removal *removal,
		  struct failure *why)
{
	struct instance_view view = { 0 };
	bool anything;
	int err, idle;

	*removal = (struct instance_removal){ 0 };
	if (anything_there(kernel, name, &anything, why))
		return -1;
	if (!anything)
		return 0;
	if (nft_lock(kernel->rules, LOCK_MS, why))
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

int instance_end(struct instance *kernel, const char *name, uint64_t drain_ms, struct failure *why)
{
	struct instance_view view = { 0 };
	int err;

	if (nft_lock(kernel->rules, LOCK_MS, why))
		return -1;
	err = instance_look(kernel, name, NULL, true, &view, why);
	if (!err)
		err = end_locked(kernel, &view, drain_ms, why);
	nft_unlock(kernel->rules);
	instance_view_free(&view);
	return err;
}
