/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "base/shell.h"
#include "intercept/spec_text.h"
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
	char there[ENDPOINT_TEXT_MAX], wanted[ENDPOINT_TEXT_MAX], fix[CONTEXT_FIX_MAX];
	struct intercept changed = *x->spec;

	if (to->family == AF_INET)
		changed.to4 = l->socket.local;
	else
		changed.to6 = l->socket.local;
	context_report(x, gravity(x),
		       "the rules deliver to another address, and the kernel looks for the "
		       "listener there alone",
		       spec_text_up_command(&changed, fix), "%s listens at %s, not at %s", l->owner,
		       endpoint_format(&l->socket.local, there), endpoint_format(to, wanted));
}

static void report_none(struct doctor_context *x, int protocol, const struct endpoint *to)
{
	char text[ENDPOINT_TEXT_MAX], fix[160];
	struct shell_command c = shell_command(fix, sizeof(fix));
	bool udp = protocol == IPPROTO_UDP;

	shell_add(&c, "tproxy-relay%s", !udp ? "" : x->spec->tcp ? " -t -u" : " -u");
	shell_word(&c, endpoint_format(to, text));
	context_report(x, gravity(x), meanwhile(x->spec), fix, "nobody listens at %s%s", text,
		       udp ? " (UDP)" : "");
}

/* The kernel's own lookup, for a client that comes in by a certain interface. */
static void ask_kernel(struct doctor_context *x, const struct packet_path_flow *flow)
{
	struct sockdiag_socket found;
	char text[ENDPOINT_TEXT_MAX], fix[CONTEXT_FIX_MAX], device[IFNAMSIZ] = "?";
	struct intercept changed = *x->spec;
	const struct endpoint *to = context_to(x, flow->client.family);
	const struct context_listener *l = find_listener(x, flow->protocol, to, true);
	int answer = sockdiag_lookup(x->diag, flow->protocol, &flow->client, to,
				     flow->device->index, &found, NULL);

	if (answer || !l)
		return;
	if_indextoname(l->socket.interface, device);
	changed.devices = 1;
	snprintf(changed.device[0], IFNAMSIZ, "%s", device);
	context_report(x, gravity(x), meanwhile(x->spec), spec_text_up_command(&changed, fix),
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
	for (unsigned i = 0; !x->findings && i < x->flows; i++)
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
		if (l->matches && l->socket.transparent == SOCKDIAG_NO)
			report_nontransparent(x, l, count_members(x, l));
	}
	if (heard)
		context_ok(x, "each of %u listeners is transparent", heard);
	else
		context_ok(x, "there is none");
}

/* --- marks ------------------------------------------------------------------------------------ */

void check_listener_mark(struct doctor_context *x)
{
	const struct mark *mark = &x->spec->mark;
	char text[QUANTITY_MARK_MAX], fix[160], at[ENDPOINT_TEXT_MAX];
	struct shell_command c;

	for (unsigned i = 0; i < x->listeners; i++) {
		const struct sockdiag_socket *s = &x->listener[i].socket;

		if (!x->listener[i].matches || !s->has_mark || !s->mark ||
		    (s->mark & mark->mask) != mark->value)
			continue;
		c = shell_command(fix, sizeof(fix));
		shell_add(&c, "tproxy-relay --upstream-mark %s",
			  quantity_format_mark(&x->spec->upstream_mark, text));
		shell_word(&c, endpoint_format(&s->local, at));
		context_report(x, DOCTOR_FAIL,
			       "what its connections send carries that mark, too, and is routed "
			       "back to this host: clients never get an answer",
			       fix, "the listener of %s has the intercept mark (SO_MARK 0x%x, %s)",
			       x->listener[i].owner, s->mark, quantity_format_mark(mark, text));
	}
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

unsigned check_listener_processes(const struct doctor_context *x)
{
	unsigned count = 0;

	for (unsigned i = 0; i < x->listeners; i++) {
		bool seen = !x->listener[i].matches ||
			    x->listener[i].socket.protocol != IPPROTO_TCP;

		for (unsigned j = 0; j < i; j++)
			seen |= x->listener[j].matches && x->listener[j].pid == x->listener[i].pid;
		count += !seen;
	}
	return count;
}
