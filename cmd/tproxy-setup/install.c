/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/install.h"

#include "firewall/ct_use.h"
#include "firewall/late_mark.h"
#include "intercept/neighbours.h"
#include "intercept/nft_text.h"
#include "intercept/spec_check.h"
#include "intercept/spec_text.h"
#include "intercept/strays.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sa_family_t families[2] = { AF_INET, AF_INET6 };

/* --- what the machine decides ----------------------------------------------------------------- */

static int decide_families(struct intercept *spec, sa_family_t demanded,
			   char notice[INSTALL_NOTICE_MAX], struct failure *why)
{
	for (int i = 0; i < 2; i++) {
		bool is_v4 = families[i] == AF_INET;

		if (!intercept_wants(spec, families[i]) || route_family_usable(families[i]))
			continue;
		if (demanded == families[i] || !(is_v4 ? spec->ipv6 : spec->ipv4))
			return report_refuse(why,
					     "%s is not available on lo in this network "
					     "namespace",
					     is_v4 ? "IPv4" : "IPv6");
		snprintf(notice, INSTALL_NOTICE_MAX,
			 "%s is not available on lo here and is left out", is_v4 ? "IPv4" : "IPv6");
		*(is_v4 ? &spec->ipv4 : &spec->ipv6) = false;
		*(is_v4 ? &spec->to4 : &spec->to6) = (struct endpoint){ 0 };
	}
	return 0;
}

/* --conntrack auto: zones if anything tracks connections, unless the right zones cannot be
 * determined. */
static int decide_zone(struct instance *kernel, struct intercept *spec,
		       char notice[INSTALL_NOTICE_MAX], struct failure *why)
{
	enum ct_use use;
	const char *unfit = spec_check_zone_unfit(spec);

	if (ct_use_find(&use, NULL, why))
		return -1;
	if (use != CT_USE_NONE && unfit)
		snprintf(notice, INSTALL_NOTICE_MAX,
			 "--conntrack auto is taken for off, because of %s: both legs are one "
			 "connection to the rules here that track connections (see --conntrack in "
			 "tproxy-setup(8))",
			 unfit);
	if (use == CT_USE_NONE && ct_use_may_be_hidden())
		report_verbose(1,
			       "whether rules of iptables-legacy track connections cannot be "
			       "seen here (it is for the machine's root alone): --conntrack auto "
			       "is taken for off; if they do, use --conntrack zone");
	spec->zone = use == CT_USE_NONE || unfit ? CONNTRACK_OFF : CONNTRACK_ZONE;
	return 0;
}

int install_decide(struct instance *kernel, struct intercept *spec, sa_family_t demanded,
		   char notice[INSTALL_NOTICE_MAX], struct failure *why)
{
	notice[0] = '\0';
	if (decide_families(spec, demanded, notice, why))
		return -1;
	spec->zone = spec->divert_only ? CONNTRACK_OFF : spec->conntrack;
	if (spec->zone == CONNTRACK_ZONE_SNAT)
		spec->zone = CONNTRACK_ZONE;
	if (spec->zone != CONNTRACK_AUTO) {
		late_mark_look(kernel->rules, spec, notice);
		return 0;
	}
	spec->zone = CONNTRACK_OFF;
	if (kernel->rules)
		return decide_zone(kernel, spec, notice, why);
	snprintf(notice, INSTALL_NOTICE_MAX,
		 "the rules here cannot be read without CAP_NET_ADMIN: "
		 "--conntrack auto is taken for off");
	return 0;
}

/* --- up --------------------------------------------------------------------------------------- */

/* Compares with the installed specification's text as it was stored, whatever its sets hold by
 * now. */
static bool is_same_spec(const struct instance_view *view, const struct intercept *spec)
{
	char texts[2][INTERCEPT_TEXT_MAX];

	return view->rules.readable &&
	       !strcmp(spec_text(&view->rules.spec, texts[0]), spec_text(spec, texts[1]));
}

/* Is it as specified, intact and permanent, so that `up` has nothing to do? 1, 0, or -1 with
 * *why. */
static int is_done(struct instance *kernel, const struct instance_view *view,
		   const struct intercept *spec, struct failure *why)
{
	const struct strays_scope scope = { .wanted = spec, .table = spec->table };
	int strays;

	if (!is_same_spec(view, spec) || !instance_intact(view) ||
	    (view->rules.lease != LEASE_NONE && view->rules.lease != LEASE_CONFIRMED))
		return 0;
	strays = strays_any(kernel, &scope, why);
	return strays < 0 ? -1 : !strays;
}

/* What one call has done so far, for undo. */
struct change {
	struct instance *kernel;
	const char *name;
	struct {
		struct route_plan plan;
		struct route_state added;
	} routing[2];	       /* per family */
	struct strays gone[2]; /* removed strays, and what the old rules needed */
	bool loaded;
	char *saved; /* the old rules; NULL: none */
};

static void undo(struct change *c, struct failure *why)
{
	struct failure reason = *why, second = { 0 };
	int err = 0;

	if (c->loaded)
		err = nft_restore(c->kernel->rules, c->name, c->saved, &second);
	err |= strays_restore(c->kernel, &c->gone[1], &second);
	for (int i = 1; i >= 0; i--)
		err |= route_remove(c->kernel->route, &c->routing[i].plan, &c->routing[i].added,
				    &second);
	err |= strays_restore(c->kernel, &c->gone[0], &second);
	*why = reason;
	if (err)
		report_hint(why, "and it could not be undone (%s): tproxy-setup down --name %s",
			    second.err ? strerror(second.err) : second.detail, c->name);
}

/* Refuse a table that others use, and propose a free one. */
static int refuse_conflict(struct instance *kernel, const struct instance_routing *r,
			   struct failure *why)
{
	uint32_t proposal = route_free_table(kernel->route, r->plan.table);

	report_refuse(why, "%s", r->conflict);
	report_about(why, "--table %u", r->plan.table);
	return proposal ? report_hint(why, "--table %u is free", proposal) : -1;
}

/* Remove routing with our tag that no instance needs; in doubt only in that table. */
static int remove_strays(struct change *c, const struct intercept *spec, uint32_t table,
			 struct strays *gone, struct failure *why)
{
	const struct strays_scope scope = { .wanted = spec, .table = table };

	return strays_find(c->kernel, &scope, gone, why) || strays_remove(c->kernel, gone, why) ? -1
												: 0;
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

/* Load the sets of those lists before the rules; without any there is no transaction. */
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

/* An instance in its normal state is changed in place. One that is ending gets a new table, from
 * which the `down` that waits for it sees the change; so does one without interception, whose
 * `down` could not see it otherwise, and one that was modified. */
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

/* Read back the routing; the rules are read back for their checksum. */
static int verify(struct instance *kernel, const struct intercept *spec, struct failure *why)
{
	int routed = instance_is_routed(kernel, spec, why);

	if (routed)
		return routed < 0 ? -1 : 0;
	return report_refuse(why,
			     "the routing that was installed is gone again; is another program "
			     "removing it?");
}

static int apply(struct change *c, const struct intercept *spec, const struct instance_view *view,
		 struct failure *why)
{
	uint32_t before = view->rules.readable ? view->rules.spec.table : spec->table;

	/* Before ours is added: to the kernel a rule and the same rule with `not` are one
	 * (rule_exists()). */
	if (remove_strays(c, spec, spec->table, &c->gone[0], why) || add_routing(c, view, why) ||
	    load_rules(c, spec, view, why) || remove_strays(c, spec, before, &c->gone[1], why))
		return -1;
	/* Last, because it also releases the lock. */
	return verify(c->kernel, spec, why) ? -1 : nft_checksum(c->kernel->rules, spec, why);
}

static int check_neighbours(struct instance *kernel, const struct intercept *spec,
			    struct failure *why)
{
	struct neighbours n;
	int err = neighbours_read(kernel, spec->name, true, &n, why);

	if (!err)
		err = neighbours_check(kernel, spec, &n, why);
	neighbours_free(&n);
	return err;
}

/* Checks again, since the state may have changed, and acts. */
int install_locked(struct instance *kernel, const struct intercept *spec,
		   enum install_outcome *outcome, struct failure *why)
{
	struct change c = { .kernel = kernel, .name = spec->name };
	struct instance_view view;
	int err, done;

	err = instance_look(kernel, spec->name, spec, true, &view, why);
	done = err ? -1 : is_done(kernel, &view, spec, why);
	*outcome = INSTALL_UNCHANGED;
	if (done > 0)
		goto out;
	err = done < 0 ? -1 : check_neighbours(kernel, spec, why);
	if (!err && view.rules.present) {
		c.saved = nft_save(kernel->rules, spec->name, why);
		err = c.saved ? 0 : -1;
	}
	if (!err) {
		err = apply(&c, spec, &view, why);
		if (err)
			undo(&c, why);
		*outcome = view.rules.present ? INSTALL_REPLACED : INSTALL_NEW;
	}
	free(c.saved);
	strays_free(&c.gone[0]);
	strays_free(&c.gone[1]);
out:
	instance_view_free(&view);
	return err;
}

int install_is_done(struct instance *kernel, const struct intercept *spec, struct failure *why)
{
	struct instance_view view;
	int err = instance_look(kernel, spec->name, spec, true, &view, why);
	int done = err ? -1 : is_done(kernel, &view, spec, why);

	instance_view_free(&view);
	return done;
}

int install_up(struct instance *kernel, const struct intercept *spec, enum install_outcome *outcome,
	       struct failure *why)
{
	int done = install_is_done(kernel, spec, why), err;

	*outcome = INSTALL_UNCHANGED;
	if (done)
		return done < 0 ? -1 : 0;
	if (nft_lock(kernel->rules, NFT_LOCK_MS, why))
		return -1;
	err = install_locked(kernel, spec, outcome, why);
	nft_unlock(kernel->rules);
	return err;
}

int install_confirm(struct instance *kernel, const char *name, enum nft_lease *lease,
		    struct failure *why)
{
	struct nft_state state;
	int err = nft_read(kernel->rules, name, true, &state, why);

	*lease = err ? LEASE_NONE : state.lease;
	nft_state_free(&state);
	return *lease == LEASE_PENDING ? nft_confirm(kernel->rules, name, why) : err;
}
