/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "base/shell.h"
#include "net/listening.h"
#include <netinet/in.h>
#include <stdio.h>
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

/* Before `up`, a listener that is not there yet is nothing unusual. */
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
		x->mended.to4 = l->socket.local;
	else
		x->mended.to6 = l->socket.local;
	context_report_up(x, gravity(x),
			  "the rules deliver to another address, and the kernel looks for the "
			  "listener there alone",
			  "", "%s listens at %s, not at %s", l->owner,
			  endpoint_format(&l->socket.local, there), endpoint_format(to, wanted));
}

/* Is nobody there for that family and protocol? */
static bool is_lacking(const struct doctor_context *x, int protocol, sa_family_t family)
{
	const struct endpoint *to = context_to(x, family);

	return context_wants(x, protocol) && endpoint_is_set(to) &&
	       !find_listener(x, protocol, to, true) && !find_listener(x, protocol, to, false);
}

/* ` 3129`, which is both families' loopback address, ` 192.0.2.1:3129`, or ` -4 127.0.0.1:3129`: there a
 * relay of both families would ask for the other one, too. */
static void add_addresses(struct doctor_context *x, struct shell_command *c, bool four, bool six)
{
	const struct endpoint *to4 = &x->spec->to4, *to6 = &x->spec->to6;
	char text[ENDPOINT_TEXT_MAX];

	if (four && six && endpoint_is_loopback(to4) && endpoint_is_loopback(to6) &&
	    to4->port == to6->port) {
		shell_add(c, " %u", to4->port);
		return;
	}
	if (four != six)
		shell_add(c, four ? " -4" : " -6");
	if (four)
		shell_word(c, endpoint_format(to4, text));
	if (six)
		shell_word(c, endpoint_format(to6, text));
}

/* One relay for all that nobody listens for, or what is there for one protocol. */
static void propose_relay(struct doctor_context *x, int protocol, char *fix, size_t size)
{
	int other = protocol == IPPROTO_TCP ? IPPROTO_UDP : IPPROTO_TCP;
	bool four = is_lacking(x, protocol, AF_INET), six = is_lacking(x, protocol, AF_INET6);
	bool both = four == is_lacking(x, other, AF_INET) && six == is_lacking(x, other, AF_INET6);
	struct shell_command c = shell_command(fix, size);
	char mark[QUANTITY_MARK_MAX];
	struct intercept usual;

	intercept_init(&usual);
	shell_add(&c, "tproxy-relay%s", both ? " -t -u" : protocol == IPPROTO_UDP ? " -u" : "");
	if (memcmp(&usual.upstream_mark, &x->mended.upstream_mark, sizeof(usual.upstream_mark)))
		shell_add(&c, " --upstream-mark %s",
			  quantity_format_mark(&x->mended.upstream_mark, mark));
	/* The client's own port is in use: the client is this host itself. */
	if (x->spec->local)
		shell_add(&c, " --source client-addr");
	add_addresses(x, &c, four, six);
	intercept_free(&usual);
}

static void report_none(struct doctor_context *x, int protocol, const struct endpoint *to)
{
	char text[ENDPOINT_TEXT_MAX], fix[200];

	propose_relay(x, protocol, fix, sizeof(fix));
	context_report(x, gravity(x), meanwhile(x->spec), fix, "nobody listens at %s%s",
		       endpoint_format(to, text), protocol == IPPROTO_UDP ? " (UDP)" : "");
}

/* The kernel's own lookup, for a client that comes in by a certain interface. */
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
	/* To intercept less is no remedy: what comes in elsewhere would pass by the proxy. */
	context_report(x, gravity(x),
		       "what comes in by other interfaces is not delivered: start it without that "
		       "binding (tproxy-listen --bind-device), or, if nothing else is to be "
		       "intercepted, `up` with --iif",
		       "",
		       "%s listens at %s, but only for packets from %s (SO_BINDTODEVICE), and "
		       "not for those from %s",
		       l->owner, endpoint_format(to, text), device, flow->device->name);
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
		context_ok(x, "%s listens", x->listeners ? x->listener[0].owner : "nobody");
}

/* --- every member of a SO_REUSEPORT group ----------------------------------------------------- */

static void report_nontransparent(struct doctor_context *x, const struct context_listener *l,
				  unsigned members)
{
	static const char shared[] =
		"each listener of the group gets its share of the "
		"connections, and the kernel delivers to transparent ones only";
	/* No command: a process calls itself what it likes, and would then be run as whoever mends. */
	static const char alone[] =
		"the kernel delivers to transparent sockets only: the program "
		"must set IP_TRANSPARENT (haproxy: bind ... transparent), or be "
		"started with its sockets by tproxy-listen --pass, if it takes LISTEN_FDS";
	char text[ENDPOINT_TEXT_MAX], fix[32] = "";

	endpoint_format(&l->socket.local, text);
	if (members > 1 && l->pid)
		snprintf(fix, sizeof(fix), "kill %ld", l->pid);
	context_report(x, DOCTOR_FAIL, members > 1 ? shared : alone, fix,
		       "%s, one of %u listeners at %s, is not transparent", l->owner, members,
		       text);
}

/* Was that process told of, for another of its sockets? */
static bool is_told(const struct doctor_context *x, unsigned at)
{
	const struct context_listener *l = &x->listener[at];

	for (unsigned i = 0; l->pid && i < at; i++)
		if (x->listener[i].matches && x->listener[i].pid == l->pid &&
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

/* Another mark of ours mends it without anybody else's doing. */
void check_listener_mark(struct doctor_context *x)
{
	const struct mark *mark = &x->spec->mark;
	char text[QUANTITY_MARK_MAX];

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct sockdiag_socket *s = &x->listener[i].socket;

		if (!x->listener[i].matches || !s->has_mark || !s->mark ||
		    (s->mark & mark->mask) != mark->value)
			continue;
		context_report_up(
			x, DOCTOR_FAIL,
			"what its connections send carries that mark, too, and is routed "
			"back to this host: clients never get an answer; or start it with "
			"another mark",
			"", "the listener of %s has the intercept mark (SO_MARK 0x%x, %s)",
			x->listener[i].owner, s->mark, quantity_format_mark(mark, text));
	}
	if (x->count)
		context_change_mark(x, &x->mended.mark);
	context_ok(x, "no listener has the intercept mark");
}

bool check_listener_all_marked(const struct doctor_context *x)
{
	unsigned marked = 0, hear = 0;

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];

		if (!l->matches || l->socket.protocol != IPPROTO_TCP)
			continue;
		hear++;
		marked += l->socket.mark != 0;
	}
	return hear && marked == hear;
}

/* Sockets of one family share connections, those of the other are another group. */
static unsigned count_processes(const struct doctor_context *x, sa_family_t family)
{
	unsigned count = 0;

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct context_listener *l = &x->listener[i];
		bool seen = !l->matches || l->socket.protocol != IPPROTO_TCP ||
			    l->socket.family != family;

		for (unsigned j = 0; j < i; j++)
			seen |= x->listener[j].matches && x->listener[j].pid == l->pid &&
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
