/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/foreign.h"

#include "firewall/harm.h"
#include "intercept/predicate.h"
#include "tproxy-inspect/explain/taken.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_MAX  400
#define EVENTS_MAX 256

struct foreign {
	struct packet_path_step at[EVENTS_MAX];
	unsigned count;
};

static void note(const struct packet_path_step *at, void *context)
{
	struct foreign *f = context;

	if (f->count < EVENTS_MAX)
		f->at[f->count++] = *at;
}

struct foreign *foreign_walk(struct view *v)
{
	struct foreign *f = calloc(1, sizeof(*f));

	if (f)
		packet_path_each(v->firewall, &v->flow, 1, "", note, f);
	return f;
}

void foreign_free(struct foreign *f)
{
	free(f);
}

uint32_t foreign_mark_before(const struct foreign *f)
{
	uint32_t mark = 0;

	for (unsigned i = 0; i < f->count; i++)
		if (f->at[i].leg == PACKET_PATH_BEFORE && !f->at[i].later &&
		    f->at[i].step.event == RULE_EVAL_MARKED && f->at[i].step.certain)
			mark = f->at[i].step.mark;
	return mark;
}

/* --- what a rule does ------------------------------------------------------------------------- */

static const char *verb_of(const struct packet_path_step *at)
{
	static const char *const does[] = {
		[RULE_EVAL_DROPPED] = "drops",
		[RULE_EVAL_MARKED] = "marks",
		[RULE_EVAL_TPROXIED] = "takes (tproxy)",
		[RULE_EVAL_TRANSLATED] = "redirects",
		[RULE_EVAL_MASKED] = "translates the source of",
	};
	static const char *const may[] = {
		[RULE_EVAL_DROPPED] = "may drop",
		[RULE_EVAL_MARKED] = "may mark",
		[RULE_EVAL_TPROXIED] = "may take (tproxy)",
		[RULE_EVAL_TRANSLATED] = "may redirect",
		[RULE_EVAL_MASKED] = "may translate the source of",
	};

	return at->step.certain ? does[at->step.event] : may[at->step.event];
}

/* `drops it`, `drops the packets that follow it`, with the mark if it sets one. */
static void describe_event(const struct packet_path_step *at, char *buf, size_t size)
{
	const char *what = at->later ? "the packets that follow it" : "it";

	if (at->step.event == RULE_EVAL_MARKED)
		snprintf(buf, size, "%s %s 0x%x (was 0x%x)", verb_of(at), what, at->step.mark,
			 at->step.before);
	else
		snprintf(buf, size, "%s %s", verb_of(at), what);
}

/* The reason in the verdict for a rule that does that; NULL: the packet continues. */
static const char *reason_of(enum harm harm)
{
	switch (harm) {
	case HARM_DROPS:
		return "dropped";
	case HARM_OVERWRITES:
	case HARM_UNMARKS:
		return "mark-overwritten";
	case HARM_RESTORES:
		return "mark-restored";
	case HARM_TAKES:
		return "taken-elsewhere";
	case HARM_PREMARKS:
		return "mark-clash";
	default:
		return NULL;
	}
}

/* Before it is known which instance takes the packet, no mark is one of ours: that a mark excludes
 * it is the instance's step. */
static enum harm harm_at(struct view *v, const struct packet_path_step *at)
{
	const struct mark none = { 0, 0 };
	const struct mark *upstream = v->by ? &v->by->is.rules.spec.upstream_mark : &none;
	enum harm harm = harm_of(at, &v->flow.mark, upstream);

	if ((harm == HARM_TAKES && harm_is_idle(v->diag, &at->step)) ||
	    (harm == HARM_PREMARKS && !v->by))
		return HARM_NONE;
	return harm;
}

/* `prerouting:-150:ip:mangle:PREROUTING` */
static void describe_chain(const struct firewall_chain *c, char *buf, size_t size)
{
	snprintf(buf, size, "%s:%ld:%s%s:%s:%s", c->hook, c->priority, c->legacy ? "legacy-" : "",
		 c->family, c->table, c->name);
}

/* Is it the packet in question? */
static bool is_client_packet(enum packet_path_leg leg)
{
	return leg <= PACKET_PATH_INPUT || leg > PACKET_PATH_REPLY;
}

/* `up` with another mark in place of the one that the rule sets. */
static void put_other_mark(const struct view *v, uint32_t set, char fix[STEPS_FIX_MAX])
{
	const struct predicate_packet marked = { .mark = set };
	struct intercept changed;

	/* With --local the relay would have to change it, too. */
	if (taken_copy(v, &changed) == 0 &&
	    !(changed.local && harm_carries(set, &changed.upstream_mark)) &&
	    predicate_admit(&changed,
			    harm_carries(set, &changed.upstream_mark) ? PREDICATE_UPSTREAM
								      : PREDICATE_MARK,
			    &marked))
		taken_put_up(&changed, fix);
	intercept_free(&changed);
}

static void conclude_premark(struct view *v, const struct packet_path_step *at, const char *place)
{
	bool as_upstream = harm_carries(at->step.mark, &v->by->is.rules.spec.upstream_mark);
	char fix[STEPS_FIX_MAX] = "";

	put_other_mark(v, at->step.mark, fix);
	steps_conclude(&v->steps, reason_of(HARM_PREMARKS), fix,
		       "%s puts mark 0x%x on %s before our rules run: it is our %s, and they let "
		       "these packets bypass the proxy",
		       place, at->step.mark,
		       is_client_packet(at->leg) ? "the packets that follow it"
						 : packet_path_leg_name(at->leg),
		       as_upstream ? "--upstream-mark" : "--mark");
}

static void conclude(struct view *v, const struct packet_path_step *at, enum harm harm,
		     const char *place, const char *does)
{
	char whose[160], fix[STEPS_FIX_MAX];

	if (harm == HARM_PREMARKS) {
		conclude_premark(v, at, place);
		return;
	}
	snprintf(whose, sizeof(whose), "%s %s", verb_of(at), packet_path_leg_name(at->leg));
	harm_fix(at, harm, &v->flow.mark, fix, sizeof(fix));
	steps_conclude(&v->steps, reason_of(harm), fix, "%s %s", place,
		       is_client_packet(at->leg) ? does : whose);
}

static bool is_in_use(const struct view *v, const struct firewall_chain *c)
{
	firewall_need(v->firewall, c);
	return c->rules || !strcmp(c->policy, "drop");
}

/* Has a chain of our own that the packet meets the same priority? */
static bool is_tied_to_ours(const struct view *v, const struct firewall_chain *chain)
{
	bool output = !strcmp(chain->hook, "output");

	if (!v->flow.made || !strcmp(chain->type, "nat") ||
	    !firewall_meet(chain, chain, v->destination.family) ||
	    (output ? !v->own : strcmp(chain->hook, "prerouting") != 0))
		return false;
	return chain->runs_at == packet_path_ours(&v->flow, chain->hook).priority &&
	       is_in_use(v, chain);
}

/* Does the kernel not report its place among chains of the same priority? */
static bool is_tied(const struct view *v, const struct firewall_chain *chain)
{
	if (is_tied_to_ours(v, chain))
		return true;
	for (size_t i = 0; i < firewall_chains(v->firewall); i++) {
		const struct firewall_chain *c = firewall_chain(v->firewall, i);

		if (firewall_is_tied(c, chain) && firewall_meet(c, chain, v->destination.family) &&
		    is_in_use(v, c) && is_in_use(v, chain))
			return true;
	}
	return false;
}

static const char TIED[] = "; chains of other tables have the same priority: the last one "
			   "registered runs first, which the kernel does not tell (here: that of "
			   "the newest table)";

static void show_event(struct view *v, const struct packet_path_step *at, const char *name)
{
	enum harm harm = harm_at(v, at);
	const char *reason = reason_of(harm);
	char place[PLACE_MAX], where[200], does[96];

	describe_chain(at->step.base, where, sizeof(where));
	describe_event(at, does, sizeof(does));
	firewall_describe(v->firewall, at->step.chain, at->step.rule, place, sizeof(place));
	steps_add(&v->steps, name,
		  !reason || !at->step.certain ? harm == HARM_NONE ? STEP_OK : STEP_WARN
					       : STEP_FAIL,
		  where, "%s %s%s", place, does, is_tied(v, at->step.base) ? TIED : "");
	if (reason && at->step.certain)
		conclude(v, at, harm, place, does);
	else if (reason && !*v->unless)
		snprintf(v->unless, sizeof(v->unless), "%.300s %s", place, does);
}

/* --- a hook ----------------------------------------------------------------------------------- */

static unsigned count_rules(const struct view *v, const struct firewall_chain *base)
{
	unsigned count = (unsigned)base->rules;

	for (size_t i = 0; i < firewall_chains(v->firewall); i++) {
		const struct firewall_chain *c = firewall_chain(v->firewall, i);

		if (c != base && !*c->hook && c->legacy == base->legacy &&
		    !strcmp(c->table, base->table) && !strcmp(c->family, base->family))
			count += (unsigned)c->rules;
	}
	return count;
}

static bool show_chain(struct view *v, const struct foreign *f, enum packet_path_leg leg,
		       const struct firewall_chain *base, const char *name, bool all)
{
	unsigned shown = 0;
	char where[200];

	for (unsigned i = 0; i < f->count && !steps_over(&v->steps); i++)
		if (f->at[i].leg == leg && f->at[i].step.base == base) {
			show_event(v, &f->at[i], name);
			shown++;
		}
	if (shown || !all || (!base->rules && strcmp(base->policy, "drop")))
		return shown;
	describe_chain(base, where, sizeof(where));
	steps_add(&v->steps, name, STEP_OK, where, "%u rule%s, none stops or changes it%s",
		  count_rules(v, base), count_rules(v, base) == 1 ? "" : "s",
		  is_tied(v, base) ? TIED : "");
	return true;
}

/* Which part of prerouting or output a leg sees. */
static bool is_on_leg(const struct view *v, const struct firewall_chain *c,
		      enum packet_path_leg leg)
{
	const struct firewall_place ours = packet_path_ours(&v->flow, c->hook);

	if (strcmp(c->hook, "prerouting") && strcmp(c->hook, "output"))
		return true;
	switch (leg) {
	case PACKET_PATH_BEFORE:
	case PACKET_PATH_ANSWER_BEFORE:
	case PACKET_PATH_OPENED:
		return firewall_is_before(v->firewall, c, &ours);
	case PACKET_PATH_AFTER:
	case PACKET_PATH_ANSWER_AFTER:
	case PACKET_PATH_MARKED:
	case PACKET_PATH_PAST:
		return !firewall_is_before(v->firewall, c, &ours);
	default:
		return true;
	}
}

static bool is_met(const struct view *v, const struct firewall_chain *c, enum packet_path_leg leg)
{
	bool answer = leg >= PACKET_PATH_ANSWER_BEFORE && leg <= PACKET_PATH_ANSWER_INPUT;
	const char *iif = answer ? v->flow.upstream.name : v->iif.name;
	bool by_lo = leg == PACKET_PATH_REPLY || leg == PACKET_PATH_MARKED;
	const char *oif = by_lo ? v->iif.name : v->flow.upstream.name;

	return is_on_leg(v, c, leg) && firewall_chain_is_at(c, iif, oif);
}

bool foreign_show(struct view *v, const struct foreign *f, enum packet_path_leg leg,
		  const char *name, const char *const hooks[], bool all)
{
	const struct firewall_chain *c;
	unsigned chains = 0, shown = 0;

	for (; *hooks; hooks++)
		for (unsigned i = 0;
		     !steps_over(&v->steps) &&
		     (c = firewall_at_hook(v->firewall, *hooks, v->destination.family, i));
		     i++) {
			if (!is_met(v, c, leg))
				continue;
			chains++;
			shown += show_chain(v, f, leg, c, name, all);
		}
	if (!all && !shown && chains)
		steps_add(&v->steps, name, STEP_OK, "", "%u chain%s, nothing stops %s", chains,
			  chains == 1 ? "" : "s", packet_path_leg_name(leg));
	return !steps_over(&v->steps);
}

bool foreign_has_ties(const struct view *v)
{
	for (size_t i = 0; i < firewall_chains(v->firewall); i++)
		if (*firewall_chain(v->firewall, i)->hook &&
		    is_tied(v, firewall_chain(v->firewall, i)))
			return true;
	return false;
}

bool foreign_show_later_marks(struct view *v, const struct foreign *f)
{
	for (unsigned i = 0; i < f->count && !steps_over(&v->steps); i++)
		if (f->at[i].leg == PACKET_PATH_BEFORE && f->at[i].later &&
		    harm_at(v, &f->at[i]) == HARM_PREMARKS)
			show_event(v, &f->at[i], "prerouting");
	return !steps_over(&v->steps);
}

bool foreign_show_past(struct view *v, uint32_t mark)
{
	static const char *const forwarded[] = { "prerouting", "forward", "postrouting", NULL };
	static const char *const own[] = { "output", "postrouting", NULL };
	static const char *const here[] = { "prerouting", "input", NULL };
	const char *const *hooks = v->own ? own : v->here ? here : forwarded;
	struct foreign *f = calloc(1, sizeof(*f));
	bool goes_on = f;

	if (f)
		packet_path_past(v->firewall, &v->flow, mark, v->here, note, f);
	for (; goes_on && *hooks; hooks++) {
		const char *const one[] = { *hooks, NULL };

		goes_on = foreign_show(v, f, PACKET_PATH_PAST, *hooks, one, true);
	}
	free(f);
	return goes_on;
}

bool foreign_show_opened(struct view *v, uint32_t *mark)
{
	static const char *const hooks[] = { "output", NULL };
	struct foreign *f = calloc(1, sizeof(*f));
	bool goes_on = f;

	if (f)
		packet_path_opened(v->firewall, &v->flow, mark, note, f);
	if (goes_on)
		goes_on = foreign_show(v, f, PACKET_PATH_OPENED, "output", hooks, true);
	free(f);
	return goes_on;
}
