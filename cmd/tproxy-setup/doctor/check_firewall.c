/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "firewall/harm.h"
#include "firewall/packet_path.h"
#include "firewall/xtables_legacy.h"
#include "tproxy-setup/doctor/lasting.h"
#include <stdio.h>
#include <string.h>

#define PLACE_MAX 400

/* `was dropped`, or what may be. */
static enum doctor_severity severity_of(const struct rule_eval_step *step)
{
	return step->certain ? DOCTOR_FAIL : DOCTOR_WARN;
}

static const char *place_of(struct doctor_context *x, const struct rule_eval_step *step,
			    char buf[PLACE_MAX])
{
	return firewall_describe(x->firewall, step->chain, step->rule, buf, PLACE_MAX);
}

static enum harm harm_at(const struct doctor_context *x, const struct packet_path_step *at)
{
	return harm_of(at, &x->spec->mark, &x->spec->upstream_mark);
}

/* --- marks ------------------------------------------------------------------------------------ */

/* The packet arrives at our rules with a mark that tells them that they have seen it already. */
static void report_premark(struct doctor_context *x, const struct rule_eval_step *step)
{
	const struct intercept *spec = x->spec;
	bool as_upstream = harm_carries(step->mark, &spec->upstream_mark);
	const struct mark taken = { step->mark, UINT32_MAX };
	char place[PLACE_MAX], text[QUANTITY_MARK_MAX];

	context_take_mark(x, &taken);
	context_change_mark(x, as_upstream ? &x->proposed.upstream_mark : &x->proposed.mark);
	context_report_up(
		x, severity_of(step),
		"our rules take packets with that mark for intercepted ones, or for a relay's own, "
		"and let them bypass the proxy",
		"",
		"%s sets mark 0x%x before our rules run; %s "
		"is our %s",
		place_of(x, step, place), step->mark,
		quantity_format_mark(as_upstream ? &spec->upstream_mark : &spec->mark, text),
		as_upstream ? "--upstream-mark" : "--mark");
}

static void report_overwriting(struct doctor_context *x, const struct packet_path_step *at)
{
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	harm_fix(at, HARM_OVERWRITES, &x->proposed.mark, fix, sizeof(fix));
	context_report(x, severity_of(&at->step),
		       "the mark is what routes an intercepted packet to the listener; a rule "
		       "that sets all of it instead of its own bits sends the packet to its "
		       "original destination",
		       fix, "%s overwrites mark 0x%x after our rules have run",
		       place_of(x, &at->step, place), at->step.before);
}

static void report_restoring(struct doctor_context *x, const struct packet_path_step *at)
{
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	harm_fix(at, HARM_RESTORES, &x->proposed.mark, fix, sizeof(fix));
	context_report(x, severity_of(&at->step),
		       "packets with the intercept mark are routed to this host: what the proxy "
		       "sends comes back to it; a rule that saves and restores marks should have a "
		       "mask without our bits",
		       fix, "%s puts mark 0x%x on %s", place_of(x, &at->step, place), at->step.mark,
		       packet_path_leg_name(at->leg));
}

static void report_unmarking(struct doctor_context *x, const struct packet_path_step *at)
{
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	harm_fix(at, HARM_UNMARKS, &x->proposed.mark, fix, sizeof(fix));
	context_report(
		x, severity_of(&at->step),
		"with --local, the mark is what tells the proxy's own connections from those "
		"that are to be intercepted: without it they come back to the proxy",
		fix, "%s overwrites mark 0x%x of what the proxy sends before our rules run",
		place_of(x, &at->step, place), at->step.before);
}

static void judge_mark(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	enum harm harm = harm_at(x, at);

	if (harm == HARM_PREMARKS)
		report_premark(x, &at->step);
	else if (harm == HARM_OVERWRITES)
		report_overwriting(x, at);
	else if (harm == HARM_UNMARKS)
		report_unmarking(x, at);
	else if (harm == HARM_RESTORES)
		report_restoring(x, at);
}

void check_firewall_mark(struct doctor_context *x)
{
	context_each_step(x, judge_mark, x);
	context_ok(x, "no other rule touches the mark of these packets");
}

/* --- others that redirect --------------------------------------------------------------------- */

static void judge_tproxy(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	bool idle;
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	if (harm_at(x, at) != HARM_TAKES)
		return;
	idle = harm_is_idle(x->diag, &at->step);
	harm_fix(at, HARM_TAKES, &x->proposed.mark, fix, sizeof(fix));
	context_report(x, idle ? DOCTOR_WARN : severity_of(&at->step),
		       "one packet has one destination: whichever of the two rules comes last "
		       "wins, or the packet is lost between them",
		       fix, "%s takes these packets, too%s", place_of(x, &at->step, place),
		       idle ? ", as soon as somebody listens there" : "");
}

static bool uses_tproxy(const json_t *rule)
{
	json_t *statement;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement)
		if (json_object_get(statement, "tproxy"))
			return true;
	return false;
}

void check_firewall_tproxy(struct doctor_context *x)
{
	unsigned others = 0;

	context_each_step(x, judge_tproxy, x);
	for (size_t i = 0; i < firewall_chains(x->firewall); i++) {
		const struct firewall_chain *c = firewall_chain(x->firewall, i);

		for (size_t j = 0; j < c->rules; j++)
			others += uses_tproxy(firewall_rule(x->firewall, c, j));
	}
	context_ok(x,
		   others ? "other programs' tproxy rules (%u) take other packets"
			  : "nobody else uses tproxy (%u rules)",
		   others);
}

/* --- drops ------------------------------------------------------------------------------------ */

static void report_drop(struct doctor_context *x, const struct packet_path_step *at,
			const char *why, const char *fix)
{
	char place[PLACE_MAX];

	context_report(x, severity_of(&at->step), why, fix, "%s %s %s",
		       place_of(x, &at->step, place), at->step.certain ? "drops" : "may drop",
		       packet_path_leg_name(at->leg));
}

static void judge_prerouting(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	char fix[CONTEXT_FIX_MAX], why[LASTING_MAX];

	if (harm_at(x, at) != HARM_DROPS || !packet_path_is_prerouting(at->leg))
		return;
	harm_fix(at, HARM_DROPS, &x->proposed.mark, fix, sizeof(fix));
	lasting(x, at,
		"a reverse path filter that looks up the route with the mark finds our local "
		"route and takes it for none",
		why);
	report_drop(x, at, why, fix);
}

void check_firewall_prerouting(struct doctor_context *x)
{
	context_each_step(x, judge_prerouting, x);
	context_ok(x, "no rule drops these packets before they are routed");
}

static void judge_input(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	char fix[CONTEXT_FIX_MAX], why[LASTING_MAX];

	if (harm_at(x, at) != HARM_DROPS ||
	    (at->leg != PACKET_PATH_INPUT && at->leg != PACKET_PATH_ANSWER_INPUT))
		return;
	harm_fix(at, HARM_DROPS, &x->proposed.mark, fix, sizeof(fix));
	lasting(x, at,
		"what tproxy delivers goes through INPUT with a destination that is not this "
		"host's; it can be told by its mark",
		why);
	report_drop(x, at, why, fix);
}

void check_firewall_input(struct doctor_context *x)
{
	context_each_step(x, judge_input, x);
	context_ok(x, "no INPUT rule drops what is delivered");
}

static void judge_output(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	const char *harm = at->own ? "what this host sends goes through OUTPUT before it is "
				     "intercepted, and again when the proxy sends it"
				   : "what a proxy sends in a client's or a server's name goes "
				     "through OUTPUT with a source that is not this host's";
	char fix[CONTEXT_FIX_MAX], why[LASTING_MAX];

	if (harm_at(x, at) != HARM_DROPS ||
	    (at->leg != PACKET_PATH_UPSTREAM && at->leg != PACKET_PATH_REPLY &&
	     at->leg != PACKET_PATH_OPENED && at->leg != PACKET_PATH_MARKED))
		return;
	harm_fix(at, HARM_DROPS, &x->proposed.mark, fix, sizeof(fix));
	report_drop(x, at, lasting(x, at, harm, why), fix);
}

void check_firewall_output(struct doctor_context *x)
{
	context_each_step(x, judge_output, x);
	context_ok(x, "no OUTPUT rule drops what the proxy sends");
}

/* --- who the server sees ---------------------------------------------------------------------- */

static void judge_source(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	char place[PLACE_MAX];

	if (harm_at(x, at) != HARM_MASKS)
		return;
	context_report(x, DOCTOR_WARN,
		       "the server sees the translated address, not the client's; to change that, "
		       "exclude these packets from the rule",
		       "", "%s translates the source of what the proxy sends to servers",
		       place_of(x, &at->step, place));
}

void check_firewall_source(struct doctor_context *x)
{
	if (!x->spec->divert_only)
		context_each_step(x, judge_source, x);
	context_ok(x, "no rule translates the source of what the proxy sends to servers");
}

void check_firewall_legacy(struct doctor_context *x)
{
	char names[128];
	int count = xtables_legacy_names(names, sizeof(names));

	if (count < 0)
		context_ok(x,
			   "unknown: only the machine's root can read /proc/net/ip_tables_names");
	else if (count)
		context_ok(x,
			   "iptables-legacy has rules that nft does not show; they are evaluated, "
			   "too: tables %s",
			   names);
	else
		context_ok(x, "not in use");
}
