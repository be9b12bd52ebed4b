/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "firewall/packet_path.h"
#include "firewall/remedy.h"
#include "firewall/xtables_legacy.h"
#include "net/listening.h"
#include <limits.h>
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

/* --- marks ------------------------------------------------------------------------------------ */

static bool carries(uint32_t value, const struct mark *mark)
{
	return (value & mark->mask) == mark->value;
}

/* Marked before it came to our rules, with what they take as a sign that they have seen it. */
static void judge_premark(struct doctor_context *x, const struct rule_eval_step *step)
{
	const struct intercept *spec = x->spec;
	bool as_upstream = carries(step->mark, &spec->upstream_mark);
	const struct mark taken = { step->mark, UINT32_MAX };
	char place[PLACE_MAX], text[QUANTITY_MARK_MAX];

	if (!as_upstream && !carries(step->mark, &spec->mark))
		return;
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

static void judge_overwriting(struct doctor_context *x, const struct rule_eval_step *step)
{
	const struct mark *mark = &x->spec->mark;
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	/* What may be changed to something unknown shows as no change. */
	if (!carries(step->before, mark) || (carries(step->mark, mark) && step->certain))
		return;
	remedy_accept(step, &x->proposed.mark, fix, sizeof(fix));
	context_report(x, severity_of(step),
		       "the mark is what routes an intercepted packet to the listener; a rule "
		       "that sets all of it instead of its own bits sends the packet to its "
		       "original destination",
		       fix, "%s overwrites mark 0x%x after our rules have run",
		       place_of(x, step, place), step->before);
}

/* What the proxy sends gets the intercept mark back, as `CONNMARK --restore-mark` of the whole mark does, and is
 * routed to lo. Chains of type route alone have packets routed anew. */
static void judge_restoring(struct doctor_context *x, const struct packet_path_step *at)
{
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	if (!carries(at->step.mark, &x->spec->mark) || strcmp(at->step.base->hook, "output") ||
	    (strcmp(at->step.base->type, "route") && !at->step.base->iptables))
		return;
	remedy_accept_foreign(&at->step, fix, sizeof(fix));
	context_report(x, severity_of(&at->step),
		       "packets with the intercept mark are routed to this host: what the proxy "
		       "sends comes back to it; a rule that saves and restores marks should have a "
		       "mask without our bits",
		       fix, "%s puts mark 0x%x on %s", place_of(x, &at->step, place), at->step.mark,
		       packet_path_leg_name(at->leg));
}

static void judge_mark(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;

	if (at->step.event != RULE_EVAL_MARKED)
		return;
	if (at->leg == PACKET_PATH_BEFORE || at->leg == PACKET_PATH_ANSWER_BEFORE)
		judge_premark(x, &at->step);
	else if (at->leg == PACKET_PATH_AFTER || at->leg == PACKET_PATH_ANSWER_AFTER)
		judge_overwriting(x, &at->step);
	else if (at->leg == PACKET_PATH_UPSTREAM || at->leg == PACKET_PATH_REPLY)
		judge_restoring(x, at);
}

void check_firewall_mark(struct doctor_context *x)
{
	packet_path_each(x->firewall, x->flow, x->flows, "", judge_mark, x);
	context_ok(x, "no other rule touches the mark of these packets");
}

/* --- others that redirect --------------------------------------------------------------------- */

/* Where that rule of nft's delivers to; 0: no tproxy rule, or a port that is not written there. */
static json_int_t port_of(const json_t *rule)
{
	json_t *statement, *found;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement)
		if ((found = json_object_get(statement, "tproxy")))
			return json_integer_value(json_object_get(found, "port"));
	return 0;
}

static int has_port(const struct sockdiag_socket *s, void *context)
{
	return s->local.port == *(const json_int_t *)context;
}

/* nft's tproxy without a listener lets a packet go on; iptables' drops it. */
static bool is_idle(struct doctor_context *x, const struct rule_eval_step *step)
{
	json_int_t port = step->chain->iptables ? 0 : port_of(step->rule);

	return port && !listening_each(x->diag, IPPROTO_TCP, has_port, &port, NULL) &&
	       !listening_each(x->diag, IPPROTO_UDP, has_port, &port, NULL);
}

static void judge_tproxy(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	const struct rule_eval_step *step = &at->step;
	char place[PLACE_MAX], fix[CONTEXT_FIX_MAX];

	if ((step->event != RULE_EVAL_TPROXIED && step->event != RULE_EVAL_TRANSLATED) ||
	    !step->rule)
		return;
	remedy_delete(step, fix, sizeof(fix));
	context_report(x, is_idle(x, step) ? DOCTOR_WARN : severity_of(step),
		       "one packet has one destination: whichever of the two rules comes last "
		       "wins, or the packet is lost between them",
		       fix, "%s takes these packets, too%s", place_of(x, step, place),
		       is_idle(x, step) ? ", as soon as somebody listens there" : "");
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

	packet_path_each(x->firewall, x->flow, x->flows, "", judge_tproxy, x);
	for (size_t i = 0; i < firewall_chains(x->firewall); i++) {
		const struct firewall_chain *c = firewall_chain(x->firewall, i);

		for (size_t j = 0; j < c->rules; j++)
			others += uses_tproxy(c->rule[j]);
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
	char fix[CONTEXT_FIX_MAX];

	if (at->step.event != RULE_EVAL_DROPPED || !packet_path_is_prerouting(at->leg))
		return;
	remedy_accept(&at->step, &x->proposed.mark, fix, sizeof(fix));
	/* Before our rules there is no mark to let it past by. */
	if ((at->leg == PACKET_PATH_BEFORE || at->leg == PACKET_PATH_ANSWER_BEFORE) &&
	    at->step.rule)
		remedy_delete(&at->step, fix, sizeof(fix));
	report_drop(x, at,
		    "a reverse path filter that looks up the route with the mark finds our local "
		    "route and takes it for none (firewalld: IPv6_rpfilter=no in firewalld.conf "
		    "keeps it off)",
		    fix);
}

void check_firewall_prerouting(struct doctor_context *x)
{
	packet_path_each(x->firewall, x->flow, x->flows, "", judge_prerouting, x);
	context_ok(x, "no rule drops these packets before they are routed");
}

static void judge_input(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	char fix[CONTEXT_FIX_MAX];

	if (at->step.event != RULE_EVAL_DROPPED ||
	    (at->leg != PACKET_PATH_INPUT && at->leg != PACKET_PATH_ANSWER_INPUT))
		return;
	remedy_accept(&at->step, &x->proposed.mark, fix, sizeof(fix));
	report_drop(x, at,
		    "what tproxy delivers goes through INPUT with a destination that is not this "
		    "host's; it can be told by its mark (to keep it: /etc/ufw/before.rules, "
		    "/etc/nftables.conf, ...)",
		    fix);
}

void check_firewall_input(struct doctor_context *x)
{
	packet_path_each(x->firewall, x->flow, x->flows, "", judge_input, x);
	context_ok(x, "no INPUT rule drops what is delivered");
}

static void judge_output(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	char fix[CONTEXT_FIX_MAX];

	if (at->step.event != RULE_EVAL_DROPPED ||
	    (at->leg != PACKET_PATH_UPSTREAM && at->leg != PACKET_PATH_REPLY))
		return;
	remedy_accept_foreign(&at->step, fix, sizeof(fix));
	report_drop(
		x, at,
		"what a proxy sends in a client's or a server's name goes through OUTPUT with a "
		"source that is not this host's",
		fix);
}

void check_firewall_output(struct doctor_context *x)
{
	packet_path_each(x->firewall, x->flow, x->flows, "", judge_output, x);
	context_ok(x, "no OUTPUT rule drops what the proxy sends");
}

/* --- who the server sees ---------------------------------------------------------------------- */

static void judge_source(const struct packet_path_step *at, void *context)
{
	struct doctor_context *x = context;
	char place[PLACE_MAX];

	if (at->step.event != RULE_EVAL_MASKED || at->leg != PACKET_PATH_UPSTREAM)
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
		packet_path_each(x->firewall, x->flow, x->flows, "", judge_source, x);
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
