/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/delivery.h"

#include "base/marks.h"
#include "firewall/harm.h"
#include "intercept/proposal.h"
#include "intercept/spec_text.h"
#include "net/backlog.h"
#include "net/listening.h"
#include "net/route.h"
#include "net/route_verdict.h"
#include "net/sysctl.h"
#include "net/xfrm.h"
#include "tproxy-inspect/explain/taken.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const struct intercept *spec_of(const struct view *v)
{
	return &v->by->is.rules.spec;
}

static const struct endpoint *target_of(const struct view *v)
{
	return v->client.family == AF_INET ? &spec_of(v)->to4 : &spec_of(v)->to6;
}

/* Conclude with another `up`, of a modified specification. */
static void conclude_up(struct view *v, const struct intercept *changed, const char *first,
			const char *reason, const char *words)
{
	char up[SPEC_TEXT_COMMAND_MAX], fix[STEPS_FIX_MAX];

	spec_text_up_command(changed, up);
	snprintf(fix, sizeof(fix), "%s%s%s", first, *first && *up ? " && " : "", up);
	steps_conclude(&v->steps, reason, fix, "%s", words);
}

/* --- the listener ----------------------------------------------------------------------------- */

/* The listeners at an address, and one near it. */
struct group {
	const struct endpoint *to;
	unsigned members, nontransparent;
	struct sockdiag_socket bad;  /* the first that is not transparent */
	struct sockdiag_socket here; /* one at the address; may be bound to an interface */
	struct sockdiag_socket near; /* one with the same port elsewhere */
	bool has_near;
};

static int join_group(const struct sockdiag_socket *s, void *context)
{
	struct group *g = context;

	if (listening_matches(s, g->to)) {
		if (!g->members++)
			g->here = *s;
		if (s->transparent == SOCKDIAG_NO && !g->nontransparent++)
			g->bad = *s;
	} else if (s->local.port == g->to->port && s->local.family == g->to->family) {
		g->has_near = true;
		g->near = *s;
	}
	return 0;
}

static const char *owner_of(const struct view *v, const struct sockdiag_socket *s,
			    char buf[SOCKOWNER_TEXT_MAX])
{
	return sockowner_describe(v->owners, s->inode, s->uid, buf);
}

static const char *meanwhile(const struct intercept *spec)
{
	static const char *const words[] = {
		[NO_LISTENER_REJECT] = "it is met with a reset",
		[NO_LISTENER_DROP] = "it is dropped",
		[NO_LISTENER_PASS] = "it passes by the proxy",
	};

	return words[spec->no_listener];
}

static void conclude_elsewhere(struct view *v, const struct group *g)
{
	char there[ENDPOINT_TEXT_MAX], to[ENDPOINT_TEXT_MAX], owner[SOCKOWNER_TEXT_MAX], words[400];
	struct intercept changed;

	snprintf(words, sizeof(words),
		 "%s listens at %s, not at %s, where our rules deliver to: %s",
		 owner_of(v, &g->near, owner), endpoint_format(&g->near.local, there),
		 endpoint_format(g->to, to), meanwhile(spec_of(v)));
	if (taken_copy(v, &changed) == 0) {
		*(g->to->family == AF_INET ? &changed.to4 : &changed.to6) = g->near.local;
		conclude_up(v, &changed, "", "no-listener", words);
	}
	intercept_free(&changed);
}

static void conclude_none(struct view *v, const struct endpoint *to)
{
	const struct intercept *spec = spec_of(v);
	struct listening_state other = { 0 };
	const struct endpoint *other_family = to->family == AF_INET ? &spec->to6 : &spec->to4;
	struct proposal lacking = { .tcp = v->protocol == IPPROTO_TCP,
				    .udp = v->protocol == IPPROTO_UDP,
				    .ipv4 = to->family == AF_INET,
				    .ipv6 = to->family == AF_INET6 };
	char text[ENDPOINT_TEXT_MAX], fix[STEPS_FIX_MAX];

	/* One relay for both families, if neither has one. */
	if (endpoint_is_set(other_family) &&
	    !listening_look(v->protocol, other_family, &other, NULL) && !other.count)
		lacking.ipv4 = lacking.ipv6 = true;
	proposal_relay(spec, &lacking, fix, sizeof(fix));
	steps_conclude(&v->steps, "no-listener", fix, "nobody listens at %s%s: %s",
		       endpoint_format(to, text), v->protocol == IPPROTO_UDP ? " (UDP)" : "",
		       meanwhile(spec));
}

static void conclude_bound(struct view *v, const struct group *g)
{
	char device[IFNAMSIZ] = "?", owner[SOCKOWNER_TEXT_MAX];

	if_indextoname(g->here.interface, device);
	steps_conclude(&v->steps, "no-listener", "",
		       "%s listens, but only for what comes in by %s (SO_BINDTODEVICE), and this "
		       "came in by %s: start it without that binding: %s",
		       owner_of(v, &g->here, owner), device, v->iif.name, meanwhile(spec_of(v)));
}

/* The lookup found no listener. */
static bool lack_listener(struct view *v, const struct group *g)
{
	char text[ENDPOINT_TEXT_MAX];

	steps_add(&v->steps, "listener", STEP_FAIL, "tproxy-look-up", "no socket at %s%s",
		  endpoint_format(g->to, text), v->protocol == IPPROTO_UDP ? " (UDP)" : "");
	if (g->members)
		conclude_bound(v, g);
	else if (g->has_near)
		conclude_elsewhere(v, g);
	else
		conclude_none(v, g->to);
	return false;
}

static bool check_transparent(struct view *v, const struct group *g)
{
	char owner[SOCKOWNER_TEXT_MAX], text[ENDPOINT_TEXT_MAX], fix[64] = "";
	struct holder bad;

	if (!g->nontransparent)
		return true;
	holder_find(v->owners, g->bad.inode, g->bad.uid, &bad);
	if (g->members > 1 && bad.pid)
		snprintf(fix, sizeof(fix), "kill %ld", bad.pid);
	steps_add(&v->steps, "listener", STEP_FAIL, "IP_TRANSPARENT",
		  "%s at %s, one of %u there, is not transparent", owner_of(v, &g->bad, owner),
		  endpoint_format(&g->bad.local, text), g->members);
	steps_conclude(&v->steps, "not-transparent", fix,
		       "%s listens at %s without IP_TRANSPARENT, and the kernel delivers to "
		       "transparent sockets alone%s: %s",
		       owner, text,
		       g->members > 1 ? " (each of the group gets its share)"
				      : "; start it with its sockets by tproxy-listen --pass, or "
					"with an option like haproxy's `transparent`",
		       meanwhile(spec_of(v)));
	return false;
}

/* Accepted sockets would send with our mark, and their packets would be routed to lo. */
static bool check_marks(struct view *v)
{
	const struct mark *mark = &spec_of(v)->mark;
	const struct mark taken[] = { *mark,
				      spec_of(v)->upstream_mark,
				      { v->listener.mark, UINT32_MAX } };
	struct intercept changed;
	char words[300];

	if (!v->listener.has_mark || !v->listener.mark ||
	    (v->listener.mark & mark->mask) != mark->value)
		return true;
	snprintf(words, sizeof(words),
		 "the listener of %s has the intercept mark (SO_MARK 0x%x): what its connections "
		 "send is routed back to this host",
		 v->holder.owner, v->listener.mark);
	steps_add(&v->steps, "listener", STEP_FAIL, "SO_MARK", "%s", words);
	if (taken_copy(v, &changed) == 0) {
		marks_find_free(mark, taken, sizeof(taken) / sizeof(*taken), &changed.mark);
		conclude_up(v, &changed, "", "listener-mark", words);
	}
	intercept_free(&changed);
	return false;
}

static bool check_fwmark_accept(struct view *v)
{
	if (v->protocol != IPPROTO_TCP || v->listener.mark || !v->listener.has_mark ||
	    sysctl_read(0, "net/ipv4/tcp_fwmark_accept") != 1)
		return true;
	steps_add(&v->steps, "listener", STEP_FAIL, "net.ipv4.tcp_fwmark_accept=1",
		  "accepted sockets take the intercept mark, and the listener has none of its own");
	steps_conclude(&v->steps, "listener-mark", "sysctl -w net.ipv4.tcp_fwmark_accept=0",
		       "net.ipv4.tcp_fwmark_accept=1: what the proxy answers carries the intercept "
		       "mark and is routed back to lo");
	return false;
}

/* It is the intercept mark, or one with which our rules do not let this host's own connections
 * pass. */
bool delivery_relay_mark(struct view *v)
{
	const struct intercept *spec = spec_of(v);
	struct intercept changed;
	struct mark mark;
	char text[QUANTITY_MARK_MAX], words[300];
	bool clashes;

	if (!holder_relay_mark(&v->holder, &mark))
		return true;
	clashes = mark.mask & spec->mark.mask && harm_carries(mark.value, &spec->mark);
	if (!clashes &&
	    (!intercept_takes_own(spec) || harm_carries(mark.value, &spec->upstream_mark)))
		return true;
	snprintf(
		words, sizeof(words), "%s has --upstream-mark %s, %s", v->holder.owner,
		quantity_format_mark(&mark, text),
		clashes ? "which is the intercept mark: what it sends to servers is routed back to "
			  "this host"
			: "and our rules let another one pass: what it sends to servers is "
			  "intercepted again");
	steps_add(&v->steps, "process", STEP_FAIL, "--upstream-mark", "%s", words);
	if (taken_copy(v, &changed) == 0) {
		const struct mark taken[] = { spec->mark, spec->upstream_mark, mark };

		if (clashes)
			marks_find_free(&spec->mark, taken, 3, &changed.mark);
		else
			changed.upstream_mark = mark;
		conclude_up(v, &changed, "", "upstream-mark", words);
	}
	intercept_free(&changed);
	return false;
}

/* The client's own socket holds that port here. */
bool delivery_relay_port(struct view *v)
{
	if (!v->own || v->protocol != IPPROTO_TCP || v->established ||
	    !holder_relay_takes_ports(&v->holder))
		return true;
	steps_add(&v->steps, "process", STEP_FAIL, "--source",
		  "%s connects from the client's port, which the client's own socket holds",
		  v->holder.owner);
	steps_conclude(&v->steps, "refused", "",
		       "%s does not carry connections of this host: it connects from the client's "
		       "port, which the client's own socket holds; start it with --source "
		       "client-addr",
		       v->holder.owner);
	return false;
}

static bool find_listener(struct view *v)
{
	const struct endpoint *to = target_of(v);
	struct group group = { .to = to };
	char text[ENDPOINT_TEXT_MAX];
	int found;

	listening_each(v->diag, v->protocol, join_group, &group, NULL);
	found = sockdiag_lookup(v->diag, v->protocol, &v->client, to, v->iif.index, &v->listener,
				NULL);
	if (found != 1)
		return lack_listener(v, &group);
	holder_find(v->owners, v->listener.inode, v->listener.uid, &v->holder);
	steps_add(&v->steps, "listener", STEP_OK, "tproxy-look-up", "%s at %s%s, %s",
		  v->holder.owner, endpoint_format(&v->listener.local, text),
		  group.members > 1 ? " and others of its group" : "",
		  v->listener.transparent == SOCKDIAG_NO ? "not transparent" : "transparent");
	return check_transparent(v, &group) && check_marks(v) && check_fwmark_accept(v);
}

bool delivery_find_socket(struct view *v)
{
	char local[ENDPOINT_TEXT_MAX], peer[ENDPOINT_TEXT_MAX];

	if (v->established) {
		v->listener = v->connection;
		holder_find(v->owners, v->connection.inode, v->connection.uid, &v->holder);
		steps_add(&v->steps, "established", STEP_OK, "socket-look-up",
			  "%s <-> %s: %s, %s%s", endpoint_format(&v->connection.local, local),
			  endpoint_format(&v->connection.peer, peer),
			  sockdiag_state_name(v->connection.state),
			  v->connection.inode ? "of " : "no process has it any more",
			  v->connection.inode ? v->holder.owner : "");
		return true;
	}
	steps_add(&v->steps, "established", STEP_OK, "socket-look-up",
		  "no socket has these ends: a new connection");
	return find_listener(v);
}

/* --- bridges ---------------------------------------------------------------------------------- */

static void doubt_frames(struct view *v)
{
	for (size_t i = 0; i < firewall_chains(v->firewall); i++) {
		const struct firewall_chain *c = firewall_chain(v->firewall, i);
		char where[200];

		if (strcmp(c->family, "bridge") || !*c->hook)
			continue;
		firewall_need(v->firewall, c);
		if (!c->rules && strcmp(c->policy, "drop"))
			continue;
		snprintf(where, sizeof(where), "%s:%ld:bridge:%.80s:%.80s", c->hook, c->priority,
			 c->table, c->name);
		steps_add(&v->steps, "bridge", STEP_WARN, where,
			  "rules for frames, which are not followed here");
		if (!*v->unless)
			snprintf(v->unless, sizeof(v->unless),
				 "bridge %.80s, chain %.80s may drop its frames", c->table,
				 c->name);
	}
}

bool delivery_bridge(struct view *v)
{
	const char *setting = v->client.family == AF_INET ? "net.bridge.bridge-nf-call-iptables"
							  : "net.bridge.bridge-nf-call-ip6tables";
	char fix[80];

	if (!v->iif.is_bridge)
		return true;
	if (!link_calls_iptables(&v->iif, v->client.family)) {
		doubt_frames(v);
		return true;
	}
	snprintf(fix, sizeof(fix), "sysctl -w %s=0", setting);
	steps_add(
		&v->steps, "bridge", STEP_FAIL, v->iif.name,
		"a bridge, on whose frames br_netfilter runs the rules: the socket is lost again");
	steps_conclude(&v->steps, "bridged", fix,
		       "%s is a bridge and %s=1 (or its own nf_call_...): rules run on its frames, "
		       "and the socket that tproxy finds there is lost before the packet is routed",
		       v->iif.name, setting);
	return false;
}

/* --- routing ---------------------------------------------------------------------------------- */

static const char *ip_of(const struct view *v)
{
	return v->client.family == AF_INET ? "ip" : "ip -6";
}

static void conclude_earlier(struct view *v, const struct route_verdict *verdict)
{
	char rule[160], words[400], first[160] = "", mark[QUANTITY_MARK_MAX];
	struct intercept changed;

	route_verdict_describe_rule(&verdict->rule, v->client.family, rule);
	snprintf(words, sizeof(words), "`%s` is asked before our rule %u, and %s the packet", rule,
		 spec_of(v)->pref, verdict->refused ? "drops" : "routes on");
	if (taken_copy(v, &changed) == 0) {
		changed.pref = verdict->rule.pref > 1 ? verdict->rule.pref - 1 : 1;
		/* Packets of the relay to servers have such a source, too. */
		if (verdict->refused && verdict->rule.selector.source.family)
			snprintf(first, sizeof(first), "%s rule add pref %u fwmark %s lookup main",
				 ip_of(v), changed.pref,
				 quantity_format_mark(&changed.upstream_mark, mark));
		conclude_up(v, &changed, first, "misrouted", words);
	}
	intercept_free(&changed);
}

/* Is the source refused because of the mark, or with any mark? */
static void conclude_refused(struct view *v, const struct route_verdict *verdict,
			     const char *device)
{
	bool marked = sysctl_mark_breaks(device);
	struct sysctl_fix fix = { .text = "" };
	char where[SYSCTL_WHERE_MAX] = "";

	sysctl_fix_source(&fix, device);
	if (v->client.family != AF_INET || !*fix.text) {
		steps_conclude(&v->steps, "misrouted", "", "the kernel does not route it: %s",
			       strerror(verdict->failure.err));
		return;
	}
	sysctl_where(device, marked ? "src_valid_mark" : "rp_filter", where);
	steps_conclude(&v->steps, "source-refused", fix.text,
		       "source validation drops what comes in by %s: %s (%s)", device,
		       marked ? "it looks the source up with the mark, and finds our local route"
			      : "the way back to its source is by another interface",
		       where);
}

/* Our rule and our route, as they should be. */
static void conclude_missing(struct view *v)
{
	const struct instance_routing *r = &v->by->is.routing[v->client.family == AF_INET6];
	struct link lo = { 0 };
	char words[200];
	bool down = link_find(if_nametoindex("lo"), &lo, NULL) != 1 || !lo.up;

	snprintf(words, sizeof(words), "our %s%s%s in table %u %s missing%s",
		 r->state.rule ? "" : "rule", r->state.rule || r->state.route ? "" : " and ",
		 r->state.route ? "" : "route", spec_of(v)->table,
		 r->state.rule || r->state.route ? "is" : "are", down ? ", and lo is down" : "");
	conclude_up(v, spec_of(v), down ? "ip link set lo up" : "", "misrouted", words);
}

/* Somebody else's route in our table, with which `up` refuses to be: another table is needed. */
static void conclude_shared_table(struct view *v, const char *conflict)
{
	struct intercept changed;
	char words[300];

	snprintf(words, sizeof(words), "in our routing table %u: %s", spec_of(v)->table, conflict);
	if (taken_copy(v, &changed) == 0) {
		changed.table = route_free_table(v->kernel.route, spec_of(v)->table);
		conclude_up(v, &changed, "", "misrouted", words);
	}
	intercept_free(&changed);
}

static void lose_route(struct view *v, const struct route_verdict *verdict, const char *device)
{
	const struct instance_routing *r = &v->by->is.routing[v->client.family == AF_INET6];

	if (route_verdict_is_foreign(verdict, spec_of(v)->pref))
		conclude_earlier(v, verdict);
	else if (*r->conflict)
		conclude_shared_table(v, r->conflict);
	else if (!r->state.rule || !r->state.route)
		conclude_missing(v);
	else if (verdict->refused)
		conclude_refused(v, verdict, device);
	else
		conclude_up(v, spec_of(v), "", "misrouted", "it is routed on, not to this host");
}

static void describe_answer(const struct view *v, const struct route_verdict *verdict,
			    char buf[300])
{
	char rule[160] = "", device[IFNAMSIZ] = "no interface";
	char table[ROUTE_VERDICT_TABLE_MAX];
	bool local = verdict->answer.type == RTN_LOCAL;

	if (verdict->has_rule)
		route_verdict_describe_rule(&verdict->rule, v->client.family, rule);
	if_indextoname(verdict->answer.oif, device);
	if (verdict->refused)
		snprintf(buf, 300, "refused: %s%s%s", strerror(verdict->failure.err),
			 *rule ? ", by " : "", rule);
	else
		snprintf(buf, 300, "%s%s, table %s%s%s", local ? "local" : "forwarded by ",
			 local ? "" : device,
			 route_verdict_table_name(verdict->answer.table, table), *rule ? "; " : "",
			 rule);
}

/* Look up the route with the mark, for a packet from that interface; this host's own are routed on
 * output. */
static bool ask_route(struct view *v, const struct endpoint *source,
		      const struct endpoint *destination, const struct link *iif, const char *name)
{
	const struct route_question question = {
		.source = *source,
		.destination = *destination,
		.mark = v->flow.mark.value,
		.iif = iif ? iif->index : 0,
		.protocol = (uint8_t)v->protocol,
	};
	struct route_verdict verdict;
	char text[300], where[64];
	bool delivers;

	route_verdict_ask(v->kernel.route, &question, &verdict);
	/* Packets to this host's own addresses are delivered without us. */
	delivers = route_verdict_delivers(&verdict) ||
		   (v->here && !verdict.refused && verdict.answer.type == RTN_LOCAL);
	describe_answer(v, &verdict, text);
	snprintf(where, sizeof(where), "RTM_GETROUTE,mark=0x%x", question.mark);
	steps_add(&v->steps, name, delivers ? STEP_OK : STEP_FAIL, where, "%s", text);
	if (!delivers)
		lose_route(v, &verdict, iif ? iif->name : "lo");
	return delivers;
}

bool delivery_route(struct view *v)
{
	return ask_route(v, &v->client, &v->destination, v->own ? NULL : &v->iif, "route");
}

bool delivery_answer_route(struct view *v)
{
	if (!v->flow.upstream.index)
		return true;
	return ask_route(v, &v->flow.destination, &v->flow.client, &v->flow.upstream, "answer");
}

/* --- IPsec ------------------------------------------------------------------------------------ */

/* The policy that blocks delivery here, or output; NULL: none does. */
static const struct xfrm_policy *find_block(const struct view *v, const struct xfrm_policies *p)
{
	const struct endpoint *c = &v->client, *d = &v->destination;
	uint8_t protocol = (uint8_t)v->protocol;
	const struct xfrm_policy *found[] = {
		xfrm_find(p, false, protocol, c, d),
		xfrm_find(p, true, protocol, d, c),
		xfrm_find(p, true, protocol, c, d),
		xfrm_find(p, false, protocol, d, c),
	};

	for (size_t i = 0; i < sizeof(found) / sizeof(*found); i++)
		if (found[i] && found[i]->blocks)
			return found[i];
	return NULL;
}

static void conclude_blocked(struct view *v, const struct xfrm_policy *b)
{
	char source[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX], fix[STEPS_FIX_MAX];

	xfrm_remove(b, fix, sizeof(fix));
	endpoint_format_cidr(&b->source, source);
	endpoint_format_cidr(&b->destination, destination);
	steps_add(&v->steps, "xfrm", STEP_FAIL, b->out ? "out" : "in",
		  "a policy with action block from %s to %s", source, destination);
	steps_conclude(&v->steps, "dropped", fix, "an IPsec policy blocks %s from %s to %s",
		       b->out ? "what is sent" : "what is delivered", source, destination);
}

bool delivery_policies(struct view *v)
{
	struct xfrm_policies policies;
	const struct xfrm_policy *block;

	if (xfrm_read(&policies, NULL))
		policies.count = 0;
	block = find_block(v, &policies);
	if (block)
		conclude_blocked(v, block);
	xfrm_free(&policies);
	return !block;
}

/* --- the process ------------------------------------------------------------------------------ */

bool delivery_process(struct view *v)
{
	char fix[64], at[ENDPOINT_TEXT_MAX];
	uint32_t room = 0;
	unsigned waiting = 0;

	endpoint_format(&v->listener.local, at);
	if (v->holder.state == 'T') {
		snprintf(fix, sizeof(fix), "kill -CONT %ld", v->holder.pid);
		steps_add(&v->steps, "process", STEP_FAIL, at, "%s is stopped", v->holder.owner);
		steps_conclude(&v->steps, "not-served", fix,
			       "%s is stopped: connections are set up and wait in its queue",
			       v->holder.owner);
		return false;
	}
	if (v->protocol == IPPROTO_TCP && !v->established)
		waiting = backlog_waiting(v->diag, &v->listener, &v->holder, &room);
	if (waiting) {
		steps_add(&v->steps, "process", STEP_FAIL, at,
			  "%s sleeps while %u connections wait in its queue of %u", v->holder.owner,
			  waiting, room);
		steps_conclude(
			&v->steps, "not-served", "",
			"%u connections wait in the queue of %s, which takes none: it has as "
			"many as it may (tproxy-relay --max), or is stuck",
			waiting, v->holder.owner);
		return false;
	}
	steps_add(&v->steps, "process", STEP_OK, at, "delivered to %s", v->holder.owner);
	return true;
}
