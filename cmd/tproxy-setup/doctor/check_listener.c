/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "intercept/proposal.h"
#include "net/backlog.h"
#include "net/listening.h"
#include "net/sockowner.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- is there one, and is it transparent ------------------------------------------------------ */

static const char *meanwhile(const struct intercept *spec)
{
	static const char *const words[] = {
		[NO_LISTENER_REJECT] = "connections are met with a reset",
		[NO_LISTENER_DROP] = "connections time out",
		[NO_LISTENER_PASS] = "connections pass by the proxy",
	};

	return words[spec->no_listener];
}

/* Before `up` it is normal that there is no listener yet. */
static enum doctor_severity gravity(const struct doctor_context *x)
{
	return x->installed ? DOCTOR_FAIL : DOCTOR_WARN;
}

static const struct context_listener *find_listener(const struct doctor_context *x, int protocol,
						    const struct endpoint *to, bool at_address)
{
	for (unsigned i = 0; i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];

		if (l->socket.protocol != protocol)
			continue;
		if (at_address ? listening_matches(&l->socket, to)
			       : !l->matches && endpoint_equal(&l->missed, to))
			return l;
	}
	return NULL;
}

static void report_elsewhere(struct doctor_context *x, const struct endpoint *to,
			     const struct context_listener *l)
{
	char there[ENDPOINT_TEXT_MAX], wanted[ENDPOINT_TEXT_MAX];

	if (to->family == AF_INET)
		x->proposed.to4 = l->socket.local;
	else
		x->proposed.to6 = l->socket.local;
	context_report_up(x, gravity(x),
			  "the rules deliver to another address, and the kernel looks for a "
			  "listener only there",
			  "", "%s listens at %s, not at %s", l->by.owner,
			  endpoint_format(&l->socket.local, there), endpoint_format(to, wanted));
}

/* Is there no listener for that family and protocol? */
static bool is_lacking(const struct doctor_context *x, int protocol, sa_family_t family)
{
	const struct endpoint *to = context_to(x, family);

	return context_wants(x, protocol) && endpoint_is_set(to) &&
	       !find_listener(x, protocol, to, true) && !find_listener(x, protocol, to, false);
}

/* Propose one relay for everything without a listener, or for one protocol only. */
static void propose_relay(struct doctor_context *x, int protocol, char *fix, size_t size)
{
	int other = protocol == IPPROTO_TCP ? IPPROTO_UDP : IPPROTO_TCP;
	bool four = is_lacking(x, protocol, AF_INET), six = is_lacking(x, protocol, AF_INET6);
	bool both = four == is_lacking(x, other, AF_INET) && six == is_lacking(x, other, AF_INET6);
	const struct proposal lacking = {
		.tcp = both || protocol == IPPROTO_TCP,
		.udp = both || protocol == IPPROTO_UDP,
		.ipv4 = four,
		.ipv6 = six,
	};

	proposal_relay(&x->proposed, &lacking, fix, size);
}

static void report_none(struct doctor_context *x, int protocol, const struct endpoint *to)
{
	char text[ENDPOINT_TEXT_MAX], fix[200];

	propose_relay(x, protocol, fix, sizeof(fix));
	context_report(x, gravity(x), meanwhile(x->spec), fix, "nobody listens at %s%s",
		       endpoint_format(to, text), protocol == IPPROTO_UDP ? " (UDP)" : "");
}

/* The kernel's own lookup, for a client on a certain interface. */
static void ask_kernel(struct doctor_context *x, const struct packet_path_flow *flow)
{
	struct sockdiag_socket found;
	char text[ENDPOINT_TEXT_MAX], device[IFNAMSIZ] = "?";
	const struct endpoint *to = context_to(x, flow->client.family);
	const struct context_listener *l = find_listener(x, flow->protocol, to, true);
	int answer = sockdiag_lookup(x->diag, flow->protocol, &flow->client, to,
				     flow->device->index, &found, NULL);

	if (answer || !l)
		return;
	if_indextoname(l->socket.interface, device);
	/* Intercepting less is no fix: connections on other interfaces would bypass the proxy. */
	context_report(x, gravity(x),
		       "packets from other interfaces are not delivered: start it without that "
		       "binding (tproxy-listen --bind-device), or, if nothing else is to be "
		       "intercepted, `up` with --iif",
		       "",
		       "%s listens at %s, but only for packets from %s (SO_BINDTODEVICE), and "
		       "not for those from %s",
		       l->by.owner, endpoint_format(to, text), device, flow->device->name);
}

static void look(struct doctor_context *x, int protocol, const struct endpoint *to)
{
	const struct context_listener *l;

	if (!context_wants(x, protocol) || !endpoint_is_set(to) ||
	    find_listener(x, protocol, to, true))
		return;
	l = find_listener(x, protocol, to, false);
	if (l)
		report_elsewhere(x, to, l);
	else
		report_none(x, protocol, to);
}

void check_listener_present(struct doctor_context *x)
{
	static const int protocols[] = { IPPROTO_TCP, IPPROTO_UDP };

	for (int i = 0; i < 2; i++) {
		look(x, protocols[i], &x->spec->to4);
		look(x, protocols[i], &x->spec->to6);
	}
	for (unsigned i = 0; !x->count && i < x->flows; i++)
		if (endpoint_is_set(context_to(x, x->flow[i].client.family)))
			ask_kernel(x, &x->flow[i]);
	if (x->spec->divert_only)
		context_ok(x, "only established sockets are handed their packets");
	else
		context_ok(x, "%s listens", x->listeners ? x->listener[0].by.owner : "nobody");
}

/* --- every member of a SO_REUSEPORT group ----------------------------------------------------- */

static void report_nontransparent(struct doctor_context *x, const struct context_listener *l,
				  unsigned members)
{
	static const char shared[] =
		"each listener of the group gets its share of the "
		"connections, and the kernel delivers to transparent ones only";
	/* No command: a process can choose its name, and root would run it to apply the fix. */
	static const char alone[] =
		"the kernel delivers to transparent sockets only: the program "
		"must set IP_TRANSPARENT (haproxy: bind ... transparent), or be "
		"started with its sockets by tproxy-listen --pass, if it takes LISTEN_FDS";
	char text[ENDPOINT_TEXT_MAX], fix[32] = "";

	endpoint_format(&l->socket.local, text);
	if (members > 1 && l->by.pid)
		snprintf(fix, sizeof(fix), "kill %ld", l->by.pid);
	context_report(x, DOCTOR_FAIL, members > 1 ? shared : alone, fix,
		       "%s, one of %u listeners at %s, is not transparent", l->by.owner, members,
		       text);
}

/* Was that process reported already, for another of its sockets? */
static bool is_told(const struct doctor_context *x, unsigned at)
{
	const struct context_listener *l = &x->listener[at];

	for (unsigned i = 0; l->by.pid && i < at; i++)
		if (x->listener[i].matches && x->listener[i].by.pid == l->by.pid &&
		    x->listener[i].socket.transparent == SOCKDIAG_NO &&
		    x->listener[i].socket.protocol == l->socket.protocol)
			return true;
	return false;
}

static unsigned count_members(const struct doctor_context *x, const struct context_listener *of)
{
	unsigned members = 0;

	for (unsigned i = 0; i < x->listeners; i++)
		members += x->listener[i].matches &&
			   x->listener[i].socket.family == of->socket.family &&
			   x->listener[i].socket.protocol == of->socket.protocol;
	return members;
}

void check_listener_group(struct doctor_context *x)
{
	unsigned heard = 0;

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];

		heard += l->matches;
		if (l->matches && l->socket.transparent == SOCKDIAG_NO && !is_told(x, i))
			report_nontransparent(x, l, count_members(x, l));
	}
	if (heard)
		context_ok(x, "each of %u listeners is transparent", heard);
	else
		context_ok(x, "there is none");
}

/* --- marks ------------------------------------------------------------------------------------ */

static void judge_listener_mark(struct doctor_context *x, const struct context_listener *l)
{
	const struct mark *mark = &x->spec->mark;
	char text[QUANTITY_MARK_MAX];

	if (l->socket.has_mark && l->socket.mark && (l->socket.mark & mark->mask) == mark->value)
		context_report_up(
			x, DOCTOR_FAIL,
			"what its connections send carries that mark, too, and is routed "
			"back to this host: clients never get an answer; or start it with "
			"another mark",
			"", "the listener of %s has the intercept mark (SO_MARK 0x%x, %s)",
			l->by.owner, l->socket.mark, quantity_format_mark(mark, text));
}

/* The relay's mark for its own connections is either the intercept mark, or not the one that our
 * rules exempt: the latter matters if this host's own connections are intercepted. */
static void judge_upstream_mark(struct doctor_context *x, const struct context_listener *l,
				bool *clash)
{
	const struct mark *ours = &x->spec->mark;
	struct mark mark;
	char text[QUANTITY_MARK_MAX];

	if (!holder_relay_mark(&l->by, &mark))
		return;
	quantity_format_mark(&mark, text);
	if ((mark.value & ours->mask) == ours->value && mark.mask & ours->mask) {
		*clash = true;
		context_take_mark(x, &mark);
		context_report_up(
			x, DOCTOR_FAIL,
			"what it sends to servers is routed back to this host; or start it "
			"with another mark",
			"", "%s has --upstream-mark %s, which is the intercept mark", l->by.owner,
			text);
	} else if (intercept_takes_own(x->spec) &&
		   (mark.value & x->spec->upstream_mark.mask) != x->spec->upstream_mark.value) {
		x->proposed.upstream_mark = mark;
		context_report_up(
			x, DOCTOR_FAIL,
			"the relay's own connections are this host's, and intercepted again "
			"and again",
			"", "%s has --upstream-mark %s, and our rules let another one pass",
			l->by.owner, text);
	}
}

/* Does that listener match, and is it the first one of its process? */
static bool stands_for_process(const struct doctor_context *x, unsigned i)
{
	return x->listener[i].matches && (!i || x->listener[i].by.pid != x->listener[i - 1].by.pid);
}

/* Another mark of ours fixes this, and nobody else has to change anything. */
void check_listener_mark(struct doctor_context *x)
{
	bool clash = false;

	for (unsigned i = 0; i < x->listeners; i++)
		if (x->listener[i].matches)
			judge_listener_mark(x, &x->listener[i]);
	clash = x->count;
	for (unsigned i = 0; i < x->listeners; i++)
		if (stands_for_process(x, i))
			judge_upstream_mark(x, &x->listener[i], &clash);
	if (clash)
		context_change_mark(x, &x->proposed.mark);
	context_ok(x, "no listener has the intercept mark");
}

/* --- by which port does it connect? ---------------------------------------------------------- */

/* No command: what else it was started with is its owner's to keep. */
void check_listener_source(struct doctor_context *x)
{
	bool own = intercept_takes_own(x->spec) && context_wants(x, IPPROTO_TCP);

	for (unsigned i = 0; own && i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];

		if (stands_for_process(x, i) && l->socket.protocol == IPPROTO_TCP &&
		    holder_relay_takes_ports(&l->by))
			context_report(
				x, DOCTOR_FAIL,
				"the client's own socket holds the port, so each of these "
				"connections is refused (clash): start it with --source "
				"client-addr",
				"",
				"--local takes this host's connections, and %s connects from "
				"their clients' ports",
				l->by.owner);
	}
	context_ok(x, own ? "no relay connects from ports that clients on this host hold"
			  : "no client is on this host");
}

/* --- does it take what waits? ----------------------------------------------------------------- */

static void judge_queue(struct doctor_context *x, struct context_listener *l)
{
	char fix[32], at[ENDPOINT_TEXT_MAX];
	unsigned waiting;
	uint32_t room = 0;

	if (l->by.state == 'T') {
		snprintf(fix, sizeof(fix), "kill -CONT %ld", l->by.pid);
		context_report(
			x, DOCTOR_FAIL,
			"connections are set up and wait in its queue, and nobody serves them", fix,
			"%s is stopped", l->by.owner);
		return;
	}
	waiting = l->socket.protocol == IPPROTO_TCP
			  ? backlog_waiting(x->diag, &l->socket, &l->by, &room)
			  : 0;
	if (waiting)
		context_report(
			x, DOCTOR_FAIL,
			"it sleeps and accepts none: it is at its limit (tproxy-relay --max), or "
			"stuck; raise the limit, or end some connections",
			"",
			"%u connection%s waiting in the queue of %s at %s, which has room for %u",
			waiting, waiting == 1 ? "" : "s", l->by.owner,
			endpoint_format(&l->socket.local, at), room);
}

void check_listener_queue(struct doctor_context *x)
{
	for (unsigned i = 0; i < x->listeners; i++) {
		struct context_listener *l = &x->listener[i];

		if (l->matches &&
		    (!i || l->by.state != 'T' || x->listener[i - 1].by.pid != l->by.pid))
			judge_queue(x, l);
	}
	context_ok(x, "no connection waits in a listener's queue");
}

/* --- does it serve itself? -------------------------------------------------------------------- */

#define LOOP_SOCKETS_MAX 2048
/* One connection of a proxy to itself may be intended. */
#define LOOP_LEAST 2

struct loop {
	const struct doctor_context *x;
	struct sockowner_list *owners;
	struct {
		struct endpoint local, peer;
		long pid;
	} at[LOOP_SOCKETS_MAX];
	unsigned count;
};

static int gather_loop(const struct sockdiag_socket *s, void *context)
{
	struct loop *l = context;
	const struct sockowner *owner = sockowner_find(l->owners, s->inode);

	if (!owner || l->count == LOOP_SOCKETS_MAX)
		return 0;
	for (unsigned i = 0; i < l->x->listeners; i++)
		if (l->x->listener[i].matches && l->x->listener[i].by.pid == owner->pid) {
			l->at[l->count].local = s->local;
			l->at[l->count].peer = s->peer;
			l->at[l->count++].pid = owner->pid;
			return l->count == LOOP_SOCKETS_MAX;
		}
	return 0;
}

/* Count connections with both ends in one process: it got its own connection. */
static unsigned count_loops(const struct loop *l)
{
	unsigned count = 0;

	for (unsigned i = 0; i < l->count; i++)
		for (unsigned j = i + 1; j < l->count; j++)
			count += l->at[i].pid == l->at[j].pid &&
				 endpoint_equal(&l->at[i].local, &l->at[j].peer) &&
				 endpoint_equal(&l->at[i].peer, &l->at[j].local);
	return count;
}

static void report_loop(struct doctor_context *x, unsigned count)
{
	const struct context_listener *l = &x->listener[0];
	struct intercept_ids *spared = &x->proposed.not_uid;
	const char *why =
		"its own connections are intercepted and given to it again, until nothing "
		"is left: give them the mark of --upstream-mark, or let it run as a user of "
		"its own, and exclude that (--not-uid)";

	if (l->by.state && l->by.uid && spared->count < INTERCEPT_IDS_MAX) {
		spared->at[spared->count++] = l->by.uid;
		context_report_up(x, DOCTOR_FAIL, why, "", "%u connection%s with both ends in %s",
				  count, count == 1 ? "" : "s", l->by.owner);
		return;
	}
	context_report(x, DOCTOR_FAIL, why, "", "%u connection%s with both ends in %s", count,
		       count == 1 ? "" : "s", l->by.owner);
}

void check_listener_loop(struct doctor_context *x)
{
	const struct sockdiag_filter filter = { .protocol = IPPROTO_TCP,
						.states = 1U << TCP_ESTABLISHED };
	struct loop *l = intercept_takes_own(x->spec) && x->listeners ? calloc(1, sizeof(*l))
								      : NULL;
	unsigned count = 0;

	if (l) {
		l->x = x;
		l->owners = sockowner_read(NULL, NULL);
		if (l->owners && sockdiag_dump(x->diag, &filter, gather_loop, l, NULL) >= 0)
			count = count_loops(l);
		sockowner_free(l->owners);
	}
	free(l);
	if (count >= LOOP_LEAST)
		report_loop(x, count);
	context_ok(x, "no listener has both ends of a connection");
}

/* --- all of them ------------------------------------------------------------------------------ */

bool check_listener_all_marked(const struct doctor_context *x)
{
	unsigned marked = 0, listening = 0;

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];

		if (!l->matches || l->socket.protocol != IPPROTO_TCP)
			continue;
		listening++;
		marked += l->socket.mark != 0;
	}
	return listening && marked == listening;
}

/* Sockets of one family share connections; those of the other family are another group. */
static unsigned count_processes(const struct doctor_context *x, sa_family_t family)
{
	unsigned count = 0;

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];
		bool seen = !l->matches || l->socket.protocol != IPPROTO_TCP ||
			    l->socket.family != family;

		for (unsigned j = 0; j < i; j++)
			seen |= x->listener[j].matches && x->listener[j].by.pid == l->by.pid &&
				x->listener[j].socket.family == family;
		count += !seen;
	}
	return count;
}

unsigned check_listener_processes(const struct doctor_context *x)
{
	unsigned four = count_processes(x, AF_INET), six = count_processes(x, AF_INET6);

	return four > six ? four : six;
}
