/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/harm.h"

#include "firewall/remedy.h"
#include "net/listening.h"
#include <netinet/in.h>
#include <string.h>

bool harm_carries(uint32_t value, const struct mark *mark)
{
	return (value & mark->mask) == mark->value;
}

/* --- what it is ------------------------------------------------------------------------------- */

/* Marked with the value by which our rules recognise packets that they have already seen. With the
 * intercept mark, a TCP packet that has a socket here is routed to it nevertheless: only the first
 * one, which needs the tproxy rule, is lost. */
static enum harm before_ours(const struct packet_path_step *at, const struct mark *mark,
			     const struct mark *upstream_mark)
{
	bool first = at->leg == PACKET_PATH_BEFORE && !at->later;

	if (harm_carries(at->step.mark, upstream_mark))
		return HARM_PREMARKS;
	if (harm_carries(at->step.mark, mark) && (first || at->protocol != IPPROTO_TCP))
		return HARM_PREMARKS;
	return HARM_NONE;
}

/* A change to an unknown value shows as no change. */
static enum harm after_ours(const struct rule_eval_step *step, const struct mark *mark)
{
	return harm_carries(step->before, mark) &&
			       !(harm_carries(step->mark, mark) && step->certain)
		       ? HARM_OVERWRITES
		       : HARM_NONE;
}

/* Packets that the proxy sends get the intercept mark back, as with `CONNMARK --restore-mark` of
 * the whole mark, and are routed to lo. Only chains of type route reroute packets. */
static enum harm on_the_way_out(const struct rule_eval_step *step, const struct mark *mark)
{
	if (!harm_carries(step->mark, mark) || strcmp(step->base->hook, "output") ||
	    (strcmp(step->base->type, "route") && !step->base->iptables))
		return HARM_NONE;
	return HARM_RESTORES;
}

/* With --local, that mark alone tells the relay's connections from those that it is to carry. */
static bool is_unmarked(const struct packet_path_step *at, const struct mark *upstream_mark)
{
	return at->early && harm_carries(at->step.before, upstream_mark) &&
	       !(harm_carries(at->step.mark, upstream_mark) && at->step.certain);
}

static enum harm of_marking(const struct packet_path_step *at, const struct mark *mark,
			    const struct mark *upstream_mark)
{
	switch (at->leg) {
	case PACKET_PATH_BEFORE:
	case PACKET_PATH_ANSWER_BEFORE:
		/* What this host opens has been marked in output. */
		return at->own ? after_ours(&at->step, mark) : before_ours(at, mark, upstream_mark);
	case PACKET_PATH_OPENED:
		return harm_carries(at->step.mark, upstream_mark) ? HARM_PREMARKS : HARM_NONE;
	case PACKET_PATH_AFTER:
	case PACKET_PATH_ANSWER_AFTER:
	case PACKET_PATH_MARKED:
		return after_ours(&at->step, mark);
	case PACKET_PATH_UPSTREAM:
		if (is_unmarked(at, upstream_mark))
			return HARM_UNMARKS;
		return on_the_way_out(&at->step, mark);
	case PACKET_PATH_REPLY:
		return on_the_way_out(&at->step, mark);
	default:
		return HARM_NONE;
	}
}

enum harm harm_of(const struct packet_path_step *at, const struct mark *mark,
		  const struct mark *upstream_mark)
{
	switch (at->step.event) {
	case RULE_EVAL_DROPPED:
		return HARM_DROPS;
	case RULE_EVAL_MARKED:
		return of_marking(at, mark, upstream_mark);
	case RULE_EVAL_TPROXIED:
	case RULE_EVAL_TRANSLATED:
		return at->step.rule ? HARM_TAKES : HARM_NONE;
	case RULE_EVAL_MASKED:
		/* (The listener would answer somebody else.) */
		if (at->leg == PACKET_PATH_INPUT)
			return at->step.rule ? HARM_TAKES : HARM_NONE;
		return at->leg == PACKET_PATH_UPSTREAM ? HARM_MASKS : HARM_NONE;
	}
	return HARM_NONE;
}

/* --- another one behind it -------------------------------------------------------------------- */

/* The port that this nft rule delivers to; 0: no tproxy rule, or a port that the rule does not
 * contain. */
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

bool harm_is_idle(struct sockdiag *diag, const struct rule_eval_step *step)
{
	json_int_t port = step->chain->iptables ? 0 : port_of(step->rule);

	return port && !listening_each(diag, IPPROTO_TCP, has_port, &port, NULL) &&
	       !listening_each(diag, IPPROTO_UDP, has_port, &port, NULL);
}

/* --- what to do about it ---------------------------------------------------------------------- */

static void fix_drop(const struct packet_path_step *at, const struct mark *mark, char *fix,
		     size_t size)
{
	const struct mark sent = { at->step.before, UINT32_MAX };
	bool is_marked = at->own && at->leg != PACKET_PATH_OPENED;

	switch (at->leg) {
	case PACKET_PATH_OPENED:
	case PACKET_PATH_BEFORE:
	case PACKET_PATH_ANSWER_BEFORE:
		/* Before our rules run there is no mark by which to let it past. */
		if (at->step.rule && !is_marked)
			remedy_delete(&at->step, fix, size);
		else
			remedy_accept(&at->step, mark, fix, size);
		return;
	case PACKET_PATH_UPSTREAM:
	case PACKET_PATH_REPLY:
		/* A connection of this host's own is known by the relay's mark alone. */
		if (at->sent_as_own)
			remedy_accept(&at->step, &sent, fix, size);
		else
			remedy_accept_foreign(&at->step, fix, size);
		return;
	default:
		remedy_accept(&at->step, mark, fix, size);
	}
}

void harm_fix(const struct packet_path_step *at, enum harm harm, const struct mark *mark, char *fix,
	      size_t size)
{
	const struct mark sent = { at->step.before, UINT32_MAX };

	*fix = '\0';
	switch (harm) {
	case HARM_DROPS:
		fix_drop(at, mark, fix, size);
		return;
	case HARM_OVERWRITES:
		remedy_accept(&at->step, mark, fix, size);
		return;
	case HARM_UNMARKS:
		remedy_accept(&at->step, &sent, fix, size);
		return;
	case HARM_RESTORES:
		remedy_accept_foreign(&at->step, fix, size);
		return;
	case HARM_TAKES:
		remedy_delete(&at->step, fix, size);
		return;
	default:
		return;
	}
}
