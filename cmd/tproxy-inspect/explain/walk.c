/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * The order is the kernel's: traffic control and netdev hooks, prerouting up to our chain's
 * priority, our instances, the rest of prerouting, routing, INPUT, the socket's process; then what
 * the proxy sends, and both answers. Netfilter's rules are evaluated once for all these packets, as
 * soon as it is known which instance intercepts the packet, because that decides the marks; each
 * leg is shown in its turn.
 */
#include "tproxy-inspect/explain/walk.h"

#include "net/tcfilter.h"
#include "tproxy-inspect/explain/delivery.h"
#include "tproxy-inspect/explain/foreign.h"
#include "tproxy-inspect/explain/onward.h"
#include "tproxy-inspect/explain/taken.h"
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* --- arrival ---------------------------------------------------------------------------------- */

static void judge_filter(const struct tcfilter *filter, void *context)
{
	struct view *v = context;
	char fix[STEPS_FIX_MAX];
	bool ends = filter->drops && filter->all;

	steps_add(&v->steps, "tc", ends ? STEP_FAIL : STEP_WARN, v->iif.name,
		  "a filter (%s, pref %u) at the %s %s", filter->kind, filter->preference,
		  filter->egress ? "egress" : "ingress",
		  ends		  ? "drops all"
		  : filter->drops ? "drops what it matches, which is not known here"
				  : "sees it, which is not followed here");
	if (!ends)
		return;
	tcfilter_remove(filter, v->iif.name, fix, sizeof(fix));
	steps_conclude(&v->steps, "dropped", fix, "tc drops all at the %s of %s",
		       filter->egress ? "egress" : "ingress", v->iif.name);
}

static bool arrive(struct view *v)
{
	char client[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];

	steps_add(&v->steps, "packet", STEP_OK, v->own ? "this host" : v->iif.name,
		  "%s %s -> %s%s%s%s", v->protocol == IPPROTO_UDP ? "UDP" : "TCP",
		  endpoint_format(&v->client, client),
		  endpoint_format(&v->destination, destination), v->example ? " (any port)" : "",
		  v->own ? ", opened by this host" : "", v->here ? ", addressed to this host" : "");
	if (!*v->iif.name)
		return onward_reply_route(v);
	if (!v->own && !v->iif.up) {
		steps_add(&v->steps, "packet", STEP_FAIL, v->iif.name, "the interface is down");
		steps_conclude(&v->steps, "dropped", "", "%s is down: nothing comes in there",
			       v->iif.name);
		return false;
	}
	if (!v->own)
		tcfilter_each(v->iif.index, judge_filter, v, NULL);
	return !steps_over(&v->steps);
}

/* --- past the proxy --------------------------------------------------------------------------- */

/* Describe where it goes without us. */
static void describe_fate(const struct view *v, bool goes_on, char *buf, size_t size)
{
	if (!goes_on)
		snprintf(buf, size, "lost on its way: %s", v->steps.words);
	else if (v->here)
		snprintf(buf, size, "it is this host's own");
	else if (!*v->flow.upstream.name)
		snprintf(buf, size, "no route leads to its destination");
	else
		snprintf(buf, size,
			 v->own ? "it leaves without the proxy" : "forwarded, past the proxy");
}

/* Show what happens to it then; the verdict is why it is not intercepted. */
static void pass_by(struct view *v, uint32_t mark, const struct taken_not *why_not)
{
	char fate[600];
	bool goes_on;

	v->flow.upstream = view_out(v, &v->destination, mark);
	goes_on = foreign_show_past(v, mark);
	describe_fate(v, goes_on, fate, sizeof(fate));
	if (goes_on)
		steps_add(&v->steps, "past", STEP_OK, "RTM_GETROUTE", "%s%s%s", fate,
			  *v->flow.upstream.name ? ", by " : "", v->flow.upstream.name);
	v->steps.reason = NULL;
	v->steps.fix[0] = '\0';
	steps_conclude(&v->steps, why_not->reason, why_not->fix, "%s: %s", why_not->words, fate);
}

/* --- to the proxy ----------------------------------------------------------------------------- */

static const char *const out_hooks[] = { "output", "postrouting", "egress", NULL };
static const char *const pre_hooks[] = { "ingress", "prerouting", NULL };
static const char *const input_hooks[] = { "input", NULL };

static bool enter(struct view *v, const struct foreign *f)
{
	static const char *const ingress[] = { "ingress", NULL }, *const pre[] = { "prerouting",
										   NULL };

	return foreign_show(v, f, PACKET_PATH_BEFORE, "ingress", ingress, true) &&
	       foreign_show(v, f, PACKET_PATH_BEFORE, "prerouting", pre, true);
}

static bool deliver(struct view *v, const struct foreign *f)
{
	static const char *const pre[] = { "prerouting", NULL }, *const input[] = { "input", NULL };

	/* What this host opens comes in on lo, after our rules have marked it. */
	if (v->own &&
	    !(foreign_show(v, f, PACKET_PATH_MARKED, "output", out_hooks, true) && enter(v, f)))
		return false;
	return delivery_find_socket(v) && delivery_bridge(v) &&
	       foreign_show(v, f, PACKET_PATH_AFTER, "prerouting", pre, true) &&
	       delivery_route(v) && foreign_show(v, f, PACKET_PATH_INPUT, "input", input, true) &&
	       delivery_policies(v) && delivery_process(v);
}

/* --- and on ----------------------------------------------------------------------------------- */

/* The server's answers, which are addressed to the client. */
static bool go_upstream(struct view *v, const struct onward *onward, const struct foreign *f)
{
	if (onward->elsewhere)
		return true;
	if (!onward->foreign) {
		steps_add(&v->steps, "upstream", STEP_OK, "",
			  "the server sees another address than the client's: the way back is this "
			  "host's own");
		return foreign_show(v, f, PACKET_PATH_UPSTREAM, "upstream", out_hooks, false);
	}
	return foreign_show(v, f, PACKET_PATH_UPSTREAM, "upstream", out_hooks, false) &&
	       foreign_show(v, f, PACKET_PATH_ANSWER_BEFORE, "answer", pre_hooks, false) &&
	       foreign_show(v, f, PACKET_PATH_ANSWER_AFTER, "answer", pre_hooks + 1, false) &&
	       delivery_answer_route(v) &&
	       foreign_show(v, f, PACKET_PATH_ANSWER_INPUT, "answer", input_hooks, false);
}

static bool reply(struct view *v, const struct foreign *f)
{
	return onward_reply_route(v) &&
	       foreign_show(v, f, PACKET_PATH_REPLY, "reply", out_hooks, false);
}

static void carry_on(struct view *v, const struct onward *onward, const struct foreign *f)
{
	if (reply(v, f) && go_upstream(v, onward, f) && foreign_show_later_marks(v, f))
		steps_conclude(&v->steps, "delivered", "", "instance %s delivers it to %s%s%s",
			       v->by->name, v->holder.owner,
			       *v->unless ? "; what is not known here (see --live): " : "",
			       v->unless);
}

/* --- altogether ------------------------------------------------------------------------------- */

static struct foreign *walk_rules(struct view *v, struct failure *why)
{
	struct foreign *f = foreign_walk(v);

	if (!f)
		report_fail(why, ENOMEM, "calloc", "rules");
	return f;
}

/* The process is known, and with it its upstream and source address. */
static void complete_flow(struct view *v)
{
	struct mark mark;

	if (holder_relay_mark(&v->holder, &mark))
		v->flow.upstream_mark = mark.value;
	v->flow.has_uid = v->holder.state != '\0';
	v->flow.uid = v->holder.uid;
	v->flow.gid = v->holder.gid;
}

static int walk_taken(struct view *v, struct failure *why)
{
	struct onward onward;
	struct foreign *f;
	bool goes_on;

	v->flow.upstream = view_out(v, &v->destination, v->flow.upstream_mark);
	f = walk_rules(v, why);
	if (!f)
		return -1;
	goes_on = deliver(v, f);
	foreign_free(f);
	if (!goes_on)
		return 0;
	complete_flow(v);
	if (!delivery_relay_mark(v) || !delivery_relay_port(v) || !onward_policy(v, &onward) ||
	    (!onward.elsewhere && !onward_route(v, &onward)))
		return 0;
	v->flow.zones |= !onward.foreign || !endpoint_equal(&onward.destination, &v->destination);
	f = walk_rules(v, why);
	if (f)
		carry_on(v, &onward, f);
	foreign_free(f);
	return f ? 0 : -1;
}

static void walk_blind(struct view *v)
{
	char text[400];

	if (v->established)
		delivery_find_socket(v);
	steps_add(&v->steps, "rules", STEP_WARN, "", "not seen: %s",
		  report_text(&v->hidden, text, sizeof(text)));
	steps_conclude(&v->steps, "unknown", "",
		       "not known: rules are told to CAP_NET_ADMIN alone, so that neither ours nor "
		       "others' are seen");
}

static int walk_seen(struct view *v, struct failure *why)
{
	struct taken_not why_not;
	struct foreign *f = walk_rules(v, why);
	uint32_t mark = 0;
	bool goes_on;

	if (!f)
		return -1;
	if (v->own)
		v->flow.upstream = view_out(v, &v->destination, 0);
	goes_on = v->own ? foreign_show_opened(v, &mark) : enter(v, f);
	if (!v->own)
		mark = foreign_mark_before(f);
	foreign_free(f);
	if (!goes_on)
		return 0;
	if (taken_decide(v, mark, &why_not))
		return walk_taken(v, why);
	pass_by(v, mark, &why_not);
	return 0;
}

static int follow(struct view *v, struct failure *why)
{
	int err = 0;

	if (!arrive(v))
		return 0;
	if (v->blind)
		walk_blind(v);
	else
		err = walk_seen(v, why);
	if (!err && v->steps.lost)
		err = report_fail(why, ENOMEM, "malloc", "steps");
	if (!err && !v->blind && firewall_unread(v->firewall)) {
		*why = *firewall_unread(v->firewall);
		err = -1;
	}
	return err;
}

/* The order of some chains is not known: tell if the opposite order leads somewhere else. `fresh`
 * is the view before it was walked. */
static int follow_otherwise(struct view *v, struct view *fresh, struct failure *why)
{
	int err;

	firewall_reverse_ties(v->firewall);
	err = follow(fresh, why);
	if (!err && strcmp(fresh->steps.reason, v->steps.reason))
		steps_add(&v->steps, "order", STEP_WARN, "",
			  "if chains of the same priority in several tables run the other way "
			  "round, which the kernel does not tell: %s: %s",
			  fresh->steps.reason, fresh->steps.words);
	steps_free(&fresh->steps);
	return err;
}

int walk_packet(struct view *v, struct failure *why)
{
	struct view fresh = *v;
	int err = follow(v, why);

	if (err || v->blind || !foreign_has_ties(v))
		return err;
	return follow_otherwise(v, &fresh, why);
}
