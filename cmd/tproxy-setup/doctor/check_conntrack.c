/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "firewall/ct_use.h"
#include "firewall/late_mark.h"
#include "firewall/packet_path.h"
#include "intercept/predicate.h"
#include "intercept/spec_check.h"
#include "intercept/spec_text.h"
#include "net/conntrack.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* --- the legs' zones ------------------------------------------------------------------ */

static void report_mode(struct doctor_context *x, bool translated, const char *evidence)
{
	const char *unfit = spec_check_zone_unfit(x->spec);
	enum doctor_severity severity = translated ? DOCTOR_FAIL : DOCTOR_WARN;
	const char *why =
		translated ? "both legs of a relayed connection are one entry for connection "
			     "tracking: the upstream leg is not translated"
			   : "both legs of a relayed connection are one entry for connection "
			     "tracking, whose packets may become INVALID";

	if (unfit) {
		context_report(x, severity, why, "",
			       "%s in %s, but --conntrack off is in effect, because of %s",
			       translated ? "source translation" : "connection tracking", evidence,
			       unfit);
		return;
	}
	x->proposed.conntrack = x->spec->conntrack == CONNTRACK_AUTO ? CONNTRACK_AUTO
								     : CONNTRACK_ZONE;
	context_report_up(x, severity, why, "", "%s in %s, but --conntrack off is in effect",
			  translated ? "source translation" : "connection tracking", evidence);
}

static void note_translation(const struct packet_path_step *at, void *context)
{
	*(bool *)context |= at->step.event == RULE_EVAL_MASKED && at->leg == PACKET_PATH_UPSTREAM;
}

/* Does a rule translate the upstream leg? Translation of other flows is no concern of ours. */
static bool is_translated(struct doctor_context *x)
{
	bool translated = false;

	context_each_step(x, note_translation, &translated);
	return translated;
}

/* Something tracks connections, but no visible rule does. */
static void report_hidden(struct doctor_context *x)
{
	if (!ct_use_may_be_hidden() || !conntrack_is_used())
		return;
	if (!spec_check_zone_unfit(x->spec))
		x->proposed.conntrack = CONNTRACK_ZONE;
	context_report_up(x, DOCTOR_WARN,
			  "if a rule of iptables-legacy tracks them, both legs of a relayed "
			  "connection are one entry: the upstream leg is not translated, and "
			  "packets may become INVALID",
			  "",
			  "connections are tracked by no rule that can be seen here; the tables of "
			  "iptables-legacy are for the machine's root alone");
}

/* A warning, because nobody knows whether that rule is about packets of ours. */
static void report_late_mark(struct doctor_context *x)
{
	char rule[LATE_MARK_TEXT_MAX];

	if (late_mark_find(x->firewall, x->spec, rule))
		context_report(x, DOCTOR_WARN,
			       "connection tracking drops servers' answers to connections that "
			       "--not-mark excludes by a mark of after their zone was chosen: "
			       "they hang. Set it at priority raw (iptables: -t raw), or use "
			       "--conntrack auto",
			       "", "%s marks packets after that", rule);
}

void check_conntrack_mode(struct doctor_context *x)
{
	enum ct_use use;
	char evidence[CT_USE_EVIDENCE_MAX];

	report_late_mark(x);
	if (x->spec->divert_only || ct_use_find(&use, evidence, NULL)) {
		context_ok(x, "no upstream leg of ours");
		return;
	}
	if (use == CT_USE_NONE && x->spec->zone == CONNTRACK_OFF)
		report_hidden(x);
	if (use != CT_USE_NONE && x->spec->zone == CONNTRACK_OFF)
		report_mode(x, use == CT_USE_SNAT && is_translated(x), evidence);
	context_ok(x, "%s%s; %s",
		   use != CT_USE_NONE	    ? "connection tracking in "
		   : ct_use_may_be_hidden() ? "no rule that can be seen here uses connection "
					      "tracking"
					    : "nobody uses connection tracking",
		   evidence,
		   x->spec->zone == CONNTRACK_OFF ? "no zones"
						  : "the two legs are kept apart by zones");
}

/* --- ct state invalid drop -------------------------------------------------------------------- */

/* Rules that drop these packets whatever conntrack says about them. */
struct droppers {
	struct doctor_context *x;
	const json_t *rule[32];
	unsigned count;
};

static void note_dropper(const struct packet_path_step *at, void *context)
{
	struct droppers *d = context;

	if (at->step.event == RULE_EVAL_DROPPED && d->count < sizeof(d->rule) / sizeof(*d->rule))
		d->rule[d->count++] = at->step.rule;
}

static void judge_invalid(const struct packet_path_step *at, void *context)
{
	const struct droppers *d = context;
	struct doctor_context *x = d->x;
	char place[400];

	if (at->step.event != RULE_EVAL_DROPPED || !at->step.rule || x->count)
		return;
	for (unsigned i = 0; i < d->count; i++)
		if (d->rule[i] == at->step.rule)
			return;
	x->proposed.conntrack = CONNTRACK_ZONE;
	context_report_up(
		x, at->step.certain ? DOCTOR_FAIL : DOCTOR_WARN,
		"with the client's address and port kept, both legs are one connection for "
		"connection tracking; sequence numbers of the two do not agree, and transfers "
		"stall when INVALID packets are dropped",
		"",
		"%s drops INVALID packets, and the two legs are not kept "
		"apart by conntrack zones",
		firewall_describe(x->firewall, at->step.chain, at->step.rule, place,
				  sizeof(place)));
}

static void note_drop(const struct rule_eval_step *step, void *context)
{
	struct rule_eval_step *dropped = context;

	if (step->event == RULE_EVAL_DROPPED && step->rule && !dropped->rule)
		*dropped = *step;
}

/* The rule in FORWARD that drops a client's packet of that state, if there is one. */
static struct rule_eval_step drop_in_forward(struct doctor_context *x,
					     const struct packet_path_flow *flow, const char *state)
{
	struct rule_eval_step dropped = { .rule = NULL };
	struct rule_eval_packet packet = {
		.protocol = flow->protocol,
		.source = flow->client,
		.destination = flow->destination,
		.iif = flow->device->name,
		.oif = flow->upstream.name,
		.state = state,
		.ack = true,
		.source_routed = true,
	};

	rule_eval_hook(x->firewall, "forward", NULL, &packet, note_drop, &dropped);
	return dropped;
}

/* A relayed connection has no packets in FORWARD: intercepted packets, and the answers to the
 * upstream leg, are delivered to this host; and what is forwarded past the proxy is a connection
 * like any other. */
static void report_forward(struct doctor_context *x)
{
	char place[400];

	for (unsigned i = 0; i < x->flows; i++) {
		const struct packet_path_flow *flow = &x->flow[i];
		struct rule_eval_step dropped;

		if (flow->own || !*flow->upstream.name)
			continue;
		dropped = drop_in_forward(x, flow, "invalid");
		if (!dropped.rule || drop_in_forward(x, flow, "").rule == dropped.rule)
			continue;
		context_ok(x,
			   "%s drops INVALID packets, but of these connections none goes through "
			   "FORWARD",
			   firewall_describe(x->firewall, dropped.chain, dropped.rule, place,
					     sizeof(place)));
		return;
	}
}

void check_conntrack_invalid(struct doctor_context *x)
{
	struct droppers droppers = { .x = x };

	if (x->spec->zone == CONNTRACK_OFF && !x->spec->divert_only) {
		context_each_step(x, note_dropper, &droppers);
		packet_path_each(x->firewall, x->flow, x->flows, "invalid", judge_invalid,
				 &droppers);
		report_forward(x);
	}
	context_ok(x, x->spec->zone == CONNTRACK_OFF
			      ? "no rule drops INVALID packets of these connections"
			      : "the two legs are kept apart by conntrack zones");
}

/* --- flows that go on without us -------------------------------------------------------------- */

static void describe_ports(const struct intercept *spec, char *buf, size_t size)
{
	char list[64];

	intercept_list_text(spec, LIST_PORT, list, sizeof(list));
	snprintf(buf, size,
		 spec->port.count == 1 ? "conntrack -D -p tcp --dport %s" : "conntrack -D -p tcp",
		 list);
}

void check_conntrack_flowtable(struct doctor_context *x)
{
	const json_t *table;
	char fix[128];
	size_t at = 0;

	describe_ports(x->spec, fix, sizeof(fix));
	while ((table = firewall_object(x->firewall, "flowtable", &at)))
		context_report(x, DOCTOR_WARN,
			       "connections that are in a flowtable are forwarded past every rule: "
			       "those that were there before `up` bypass the proxy until they end",
			       fix, "flowtable %s in table %s %s",
			       json_string_value(json_object_get(table, "name")),
			       json_string_value(json_object_get(table, "family")),
			       json_string_value(json_object_get(table, "table")));
	context_ok(x, "no flowtable");
}

struct older {
	struct doctor_context *x;
	unsigned count, seen;
	struct endpoint client, destination;
};

/* A forwarded connection in the predicate has no socket here, of either side. */
static int visit_flow(const struct endpoint *client, const struct endpoint *destination,
		      void *context)
{
	struct older *older = context;
	struct sockdiag_socket found;

	older->seen++;
	if (!predicate_matches(older->x->spec, client, destination) ||
	    sockdiag_lookup(older->x->diag, IPPROTO_TCP, client, destination, 0, &found, NULL) ||
	    sockdiag_lookup(older->x->diag, IPPROTO_TCP, destination, client, 0, &found, NULL))
		return 0;
	if (!older->count++) {
		older->client = *client;
		older->destination = *destination;
	}
	return 0;
}

static void report_older(struct doctor_context *x, const struct older *older)
{
	bool pass = x->spec->midstream == MIDSTREAM_PASS;
	char client[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];

	/* Only the user knows which of the two is right: no command. */
	context_report(
		x, DOCTOR_WARN,
		pass ? "with --midstream pass they go on past the proxy until they end; "
		       "--midstream reset ends them"
		     : "their next packet is answered with a reset, so that nothing bypasses the "
		       "proxy; --midstream pass leaves them alone",
		"", "%u established connection%s forwarded that should be intercepted, as %s -> %s",
		older->count, older->count == 1 ? "" : "s", endpoint_format(&older->client, client),
		endpoint_format(&older->destination, destination));
}

void check_conntrack_older(struct doctor_context *x)
{
	struct older older = { .x = x };
	struct conntrack *channel = conntrack_open(NULL);

	if (!channel || conntrack_each_established(channel, visit_flow, &older, NULL))
		context_ok(x, "unknown: conntrack cannot be queried");
	else if (older.count)
		report_older(x, &older);
	else if (!older.seen)
		context_ok(x, "unknown: connection tracking knows no established connection");
	context_ok(x, "no forwarded connection is older than the interception");
	conntrack_close(channel);
}
