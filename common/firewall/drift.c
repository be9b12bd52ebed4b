/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/drift.h"

#include "firewall/ct_use.h"
#include "firewall/late_mark.h"
#include "intercept/nft_text.h"
#include "intercept/spec_check.h"
#include "intercept/spec_text.h"
#include "intercept/strays.h"
#include "net/listening.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *drift_word(enum drift_state state)
{
	static const char *const words[] = {
		[DRIFT_PRESENT] = "present",
		[DRIFT_MISSING] = "missing",
		[DRIFT_CHANGED] = "changed",
	};

	return words[state];
}

static struct drift_part *add_part(struct drift *d, const char *check, enum drift_state state)
{
	struct drift_part *grown = realloc(d->part, (d->parts + 1) * sizeof(*grown));

	if (!grown) {
		d->failed = true;
		return NULL;
	}
	d->part = grown;
	grown += d->parts++;
	memset(grown, 0, sizeof(*grown));
	snprintf(grown->check, sizeof(grown->check), "%s", check);
	grown->state = state;
	return grown;
}

/* Add a part of ours. */
__attribute__((format(printf, 4, 5))) static void add(struct drift *d, const char *check,
						      enum drift_state state, const char *format,
						      ...)
{
	struct drift_part *part = add_part(d, check, state);
	va_list arguments;

	d->intact &= state == DRIFT_PRESENT;
	if (!part)
		return;
	va_start(arguments, format);
	vsnprintf(part->evidence, sizeof(part->evidence), format, arguments);
	va_end(arguments);
}

/* --- routing ---------------------------------------------------------------------------------- */

static void add_routing(struct drift *d, const struct instance_routing *r)
{
	bool is_v4 = r->plan.family == AF_INET;
	char mark[QUANTITY_MARK_MAX];

	if (!r->wanted)
		return;
	add(d, is_v4 ? "rule:ipv4" : "rule:ipv6", r->state.rule ? DRIFT_PRESENT : DRIFT_MISSING,
	    "pref %u fwmark %s lookup %u", r->plan.pref, quantity_format_mark(&r->plan.mark, mark),
	    r->plan.table);
	if (r->plan.answers)
		add(d, is_v4 ? "answers:ipv4" : "answers:ipv6",
		    r->state.answers ? DRIFT_PRESENT : DRIFT_MISSING,
		    "pref %u from %s iif lo lookup %u", r->plan.pref, is_v4 ? "127.0.0.0/8" : "::1",
		    r->plan.table);
	add(d, is_v4 ? "route:ipv4" : "route:ipv6",
	    !r->state.route  ? DRIFT_MISSING
	    : r->conflict[0] ? DRIFT_CHANGED
			     : DRIFT_PRESENT,
	    "local default dev lo table %u%s%s", r->plan.table, r->conflict[0] ? ", but " : "",
	    r->conflict);
}

/* Rules and routes with our tag that no specification needs. */
static int add_strays(struct drift *d, struct instance *kernel, const struct intercept *asked,
		      struct failure *why)
{
	const struct strays_scope scope = { .wanted = asked,
					    .table = d->view.routing[0].plan.table };
	struct strays strays;
	int err = strays_find(kernel, &scope, &strays, why);

	for (size_t i = 0; i < strays.count && !err; i++) {
		const struct route_tagged *one = &strays.tags.at[i];
		char text[ROUTE_ENTRY_TEXT_MAX], check[16];

		snprintf(check, sizeof(check), "%s:%s", one->is_rule ? "rule" : "route",
			 one->plan.family == AF_INET ? "ipv4" : "ipv6");
		add(d, check, DRIFT_CHANGED, "%s", route_entry_describe(one->message, text));
	}
	strays_free(&strays);
	return err;
}

/* --- rules ------------------------------------------------------------------------------------ */

static void add_table(struct drift *d, const char *name)
{
	const struct nft_state *rules = &d->view.rules;

	if (!rules->present)
		add(d, "table", DRIFT_MISSING, "not installed");
	else if (rules->dormant)
		add(d, "table", DRIFT_CHANGED,
		    "inet " NFT_TEXT_PREFIX "%s, flags dormant: none of its rules is run", name);
	else
		add(d, "table", DRIFT_PRESENT, "inet " NFT_TEXT_PREFIX "%s", name);
}

static void add_rules(struct drift *d)
{
	static const enum drift_state states[] = {
		[PART_PRESENT] = DRIFT_PRESENT,
		[PART_MISSING] = DRIFT_MISSING,
		[PART_CHANGED] = DRIFT_CHANGED,
	};
	const struct nft_state *rules = &d->view.rules;

	if (!rules->readable)
		add(d, "spec", DRIFT_CHANGED, "the specification cannot be read any more");
	if (!rules->checksummed)
		add(d, "checksum", DRIFT_MISSING,
		    "put in place by a plan, or not to its end: nobody knows whether it was "
		    "changed");
	if (rules->ending)
		add(d, "intercept", DRIFT_MISSING, "`down` has begun: only draining");
	for (unsigned i = 0; i < rules->parts; i++)
		add(d, rules->part[i].name, states[rules->part[i].verdict], "%s", "");
}

static void add_lease(struct drift *d)
{
	const struct nft_state *rules = &d->view.rules;

	if (rules->lease == LEASE_PENDING)
		add(d, "lease", DRIFT_PRESENT,
		    "interception ends in %llu s unless `tproxy-setup confirm` comes",
		    (unsigned long long)rules->lease_seconds);
	else if (rules->lease == LEASE_EXPIRED)
		add(d, "lease", DRIFT_MISSING, "nobody confirmed in time: interception has ended");
}

/* --conntrack auto was decided at `up`; other programs' rules may have changed since. */
static void add_conntrack(struct drift *d, const struct intercept *spec)
{
	enum ct_use use;
	const char *unfit = spec_check_zone_unfit(spec);
	char evidence[CT_USE_EVIDENCE_MAX];
	bool wanted;

	if (spec->divert_only || spec->conntrack != CONNTRACK_AUTO ||
	    ct_use_find(&use, evidence, NULL))
		return;
	wanted = use != CT_USE_NONE && !unfit;
	add(d, "conntrack", wanted == (spec->zone != CONNTRACK_OFF) ? DRIFT_PRESENT : DRIFT_CHANGED,
	    "auto: %s%s%s%s",
	    evidence[0]		     ? "connection tracking in "
	    : ct_use_may_be_hidden() ? "no connection tracking in use, but that of iptables-legacy "
				       "cannot be seen here"
				     : "no connection tracking in use",
	    evidence, use != CT_USE_NONE && unfit ? "; off because of " : "",
	    use != CT_USE_NONE && unfit ? unfit : "");
}

/* What `up` said of zones that were demanded, if it is so by now. Nothing of ours is wrong. */
static void add_late_mark(struct drift *d, struct instance *kernel, const struct intercept *spec)
{
	char notice[LATE_MARK_NOTICE_MAX];

	if (late_mark_look(kernel->rules, spec, notice))
		add(d, "conntrack", DRIFT_PRESENT, "%s", notice);
}

/* --- who listens ------------------------------------------------------------------------------ */

static int add_listener(int protocol, const struct endpoint *to,
			const struct listening_state *state, void *context)
{
	struct drift *d = context;
	struct drift_part *part = add_part(
		d, protocol == IPPROTO_UDP ? "listener:udp" : "listener:tcp",
		!state->count		? DRIFT_MISSING
		: state->nontransparent ? DRIFT_CHANGED
					: DRIFT_PRESENT);
	char where[ENDPOINT_TEXT_MAX], owner[SOCKOWNER_TEXT_MAX];

	d->served &= state->count && !state->nontransparent;
	if (!part)
		return 0;
	if (state->count && !d->owners)
		d->owners = sockowner_read(NULL, NULL);
	part->is_listener = true;
	part->protocol = protocol;
	part->at = *to;
	part->found = *state;
	snprintf(part->evidence, sizeof(part->evidence), "%s: %s%s", endpoint_format(to, where),
		 state->count ? sockowner_describe(d->owners, state->first.inode, state->first.uid,
						   owner)
			      : "nobody listens",
		 state->nontransparent ? ", not transparent" : "");
	return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* The given specification, or the installed one if it is known: changed sets do not tell. */
static const struct intercept *known_spec(const struct drift *d, const struct intercept *asked)
{
	const struct nft_state *rules = &d->view.rules;

	if (asked)
		return asked;
	for (unsigned i = 0; i < rules->parts; i++)
		if (!strncmp(rules->part[i].name, "set:", 4) &&
		    rules->part[i].verdict != PART_PRESENT)
			return NULL;
	return rules->readable ? &rules->spec : NULL;
}

static void find_fix(struct drift *d, struct instance *kernel, const struct intercept *asked)
{
	const struct intercept *spec = known_spec(d, asked);
	char options[DRIFT_FIX_MAX - 32] = "";
	struct intercept elsewhere;

	/* What others put into the table is not ours. */
	if (spec && (d->view.routing[0].conflict[0] || d->view.routing[1].conflict[0])) {
		elsewhere = *spec;
		elsewhere.table = route_free_table(kernel->route, spec->table);
		spec = &elsewhere;
	}
	if (spec)
		spec_text_options(spec, options, sizeof(options));
	snprintf(d->fix, sizeof(d->fix), "tproxy-setup up %s",
		 options[0] ? options : "with the options it was installed with");
}

static void compare(struct drift *d, struct instance *kernel, const struct intercept *asked)
{
	const struct intercept *installed = &d->view.rules.spec;
	char text[DRIFT_EVIDENCE_MAX];

	add_rules(d);
	if (!d->view.rules.readable)
		return;
	if (asked && spec_text_diff(installed, asked, text, sizeof(text)))
		add(d, "spec", DRIFT_CHANGED, "%s", text);
	add_lease(d);
	add_conntrack(d, installed);
	add_late_mark(d, kernel, installed);
	instance_each_listener(installed, add_listener, d, NULL);
}

int drift_look(struct instance *kernel, const char *name, const struct intercept *asked,
	       struct drift *d, struct failure *why)
{
	*d = (struct drift){ .intact = true, .served = true };
	if (instance_look(kernel, name, asked, true, &d->view, why))
		return -1;
	for (int i = 0; i < 2; i++)
		add_routing(d, &d->view.routing[i]);
	if (add_strays(d, kernel, asked, why))
		return -1;
	add_table(d, name);
	if (d->view.rules.present)
		compare(d, kernel, asked);
	find_fix(d, kernel, asked);
	d->served &= d->view.rules.readable;
	return d->failed ? report_fail(why, ENOMEM, "realloc", "comparing instance %s", name) : 0;
}

void drift_free(struct drift *d)
{
	instance_view_free(&d->view);
	sockowner_free(d->owners);
	d->owners = NULL;
	free(d->part);
	d->part = NULL;
	d->parts = 0;
}
