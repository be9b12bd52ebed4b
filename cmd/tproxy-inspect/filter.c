/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/filter.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

/* ---- options ---- */

/* `established,listening` or `ESTAB,LISTEN`; accumulates. */
int filter_set_states(void *field, const char *arg, const struct option_spec *self,
		      struct failure *why)
{
	uint32_t *states = field;

	for (const char *p = arg;; p++) {
		size_t length = strcspn(p, ",");
		char name[32];
		int state;

		snprintf(name, sizeof(name), "%.*s", (int)length, p);
		state = sockdiag_state_parse(name);
		if (!state)
			return report_refuse(why,
					     "%s: no such state; use the names that ss(8) prints "
					     "(ESTAB, LISTEN, TIME-WAIT, ...)",
					     name);
		*states |= 1u << state;
		if (state == TCP_CLOSE)
			*states |= SOCKDIAG_BOUND_INACTIVE;
		p += length;
		if (!*p)
			return 0;
	}
}

int filter_set_mark(void *field, const char *arg, const struct option_spec *self,
		    struct failure *why)
{
	struct filter *filter = field;

	filter->by_mark = true;
	return quantity_mark(arg, &filter->mark, why);
}

void filter_settle(struct filter *filter, const struct options_common *common)
{
	filter->ipv4 = options_wants_family(common, AF_INET);
	filter->ipv6 = options_wants_family(common, AF_INET6);
	filter->tcp = options_wants_tcp(common);
	filter->udp = options_wants_udp(common);
}

void filter_free(struct filter *filter)
{
	match_list_free(&filter->local);
	match_list_free(&filter->peer);
}

bool filter_is_narrow(const struct filter *f)
{
	return f->local.count || f->peer.count || f->by_mark || f->states || f->pid || f->prog;
}

/* ---- selecting ---- */

/* Does that end of the socket have an address of the requested families? A dual-stack listener has
 * both. */
static bool has_family(const struct filter *f, const struct sockdiag_socket *s)
{
	if (s->dual_stack && endpoint_is_any(&s->local))
		return true;
	return s->local.family == AF_INET ? f->ipv4 : f->ipv6;
}

static bool has_mark(const struct filter *f, const struct sockdiag_socket *s)
{
	return !f->by_mark || (s->has_mark && (s->mark & f->mark.mask) == f->mark.value);
}

static bool is_selected(const struct filter *f, const struct sockdiag_socket *s)
{
	if (!f->all && s->transparent != SOCKDIAG_YES)
		return false;
	if (!has_family(f, s) || !has_mark(f, s))
		return false;
	if (f->local.count && !match_list_has(&f->local, &s->local))
		return false;
	return !f->peer.count || match_list_has(&f->peer, &s->peer);
}

struct visit {
	const struct filter *filter;
	struct filter_walk *walk;
	struct sockowner_list *owners;
	filter_visitor *visit;
	void *context;
};

/* May it have a mark that we may not see? (TIME-WAIT and SYN-RECV tell none, and a UDP flow need not
 * have a socket.) */
static void note_mark(struct filter_walk *walk, const struct filter *f,
		      const struct sockdiag_socket *s)
{
	if (!s->has_mark && s->inode && s->transparent != SOCKDIAG_UNKNOWN)
		walk->marks_hidden |= walk->mark || f->by_mark;
}

static bool has_owner(const struct filter *f, struct filter_walk *walk,
		      const struct sockdiag_socket *s, struct sockowner_list *owners)
{
	if (sockowner_find(owners, s->inode))
		return true;
	/* It has one, which we may not see (TIME-WAIT and SYN-RECV have none). */
	if (owners && s->inode && sockowner_hidden(owners))
		walk->owners_hidden = true;
	return !f->pid && !f->prog;
}

bool filter_has(const struct filter *f, struct filter_walk *walk, const struct sockdiag_socket *s,
		struct sockowner_list *owners)
{
	note_mark(walk, f, s);
	return is_selected(f, s) && has_owner(f, walk, s, owners);
}

bool filter_has_state(const struct filter *f, const struct sockdiag_socket *s)
{
	return !f->states || f->states >> s->state & 1;
}

static int visit(const struct sockdiag_socket *s, void *context)
{
	struct visit *v = context;

	if (!filter_has(v->filter, v->walk, s, v->owners))
		return 0;
	v->walk->count++;
	return v->visit(s, sockowner_find(v->owners, s->inode), v->context);
}

/* Does the filter take sockets without a peer? */
static bool takes_unconnected(const struct filter *f)
{
	const struct endpoint any[] = { { .family = AF_INET }, { .family = AF_INET6 } };

	return !f->peer.count || match_list_has(&f->peer, &any[0]) ||
	       match_list_has(&f->peer, &any[1]);
}

/* The kernel lists bound sockets that are not connected by a walk through all that are bound; those
 * with a peer were reset, and wait for close(). They count if their state is asked for. */
static uint32_t states_of(const struct filter *f)
{
	if (f->states)
		return f->states;
	return takes_unconnected(f) ? ~0u : ~SOCKDIAG_BOUND_INACTIVE;
}

/* An AF_INET6 socket may have IPv4 endpoints: ask for one family only if no IPv4 is wanted. */
static int dump(struct visit *v, struct sockdiag *diag, int protocol, const struct sockfilter *only,
		struct failure *why)
{
	const struct sockdiag_filter filter = {
		.family = v->filter->ipv4 ? AF_UNSPEC : AF_INET6,
		.protocol = protocol,
		.states = states_of(v->filter),
		.mixed = v->filter->ipv4,
		.info = v->walk->info,
		.only = only,
	};

	return sockdiag_dump(diag, &filter, visit, v, why);
}

static int dump_protocols(struct visit *v, struct sockdiag *diag, const struct sockfilter *only,
			  struct failure *why)
{
	int result = 0;

	if (v->filter->tcp)
		result = dump(v, diag, IPPROTO_TCP, only, why);
	if (!result && v->filter->udp)
		result = dump(v, diag, IPPROTO_UDP, only, why);
	return result;
}

int filter_owners(const struct filter *filter, const struct filter_walk *filter_walk,
		  struct sockowner_list **owners, struct failure *why)
{
	const struct sockowner_filter whose = {
		.pid = (pid_t)filter->pid,
		.name = filter->prog,
	};

	*owners = NULL;
	if (!filter_walk->owners && !whose.pid && !whose.name)
		return 0;
	*owners = sockowner_read(&whose, why);
	return *owners ? 0 : -1;
}

/* Without CAP_NET_ADMIN the kernel neither filters by mark nor reports marks. */
static int make_code(const struct filter *f, bool with_mark, struct sockfilter *out,
		     struct failure *why)
{
	const struct sockfilter_spec spec = {
		.local = &f->local,
		.peer = &f->peer,
		.mark = f->by_mark && with_mark ? &f->mark : NULL,
	};

	return sockfilter_make(&spec, out, why);
}

static int walk(struct visit *v, struct sockdiag *diag, struct failure *why)
{
	struct sockfilter only;
	int result = make_code(v->filter, true, &only, why);

	if (!result)
		result = dump_protocols(v, diag, &only, why);
	sockfilter_free(&only);
	if (result != -1 || !v->filter->by_mark || why->err != EPERM)
		return result;
	result = make_code(v->filter, false, &only, why);
	if (!result)
		result = dump_protocols(v, diag, &only, why);
	sockfilter_free(&only);
	return result;
}

int filter_each(const struct filter *filter, struct filter_walk *filter_walk,
		filter_visitor *visitor, void *context, struct failure *why)
{
	struct visit v = { filter, filter_walk, NULL, visitor, context };
	struct sockdiag *diag = sockdiag_open(why);
	int result = diag ? filter_owners(filter, filter_walk, &v.owners, why) : -1;

	if (!result)
		result = walk(&v, diag, why);
	sockowner_free(v.owners);
	sockdiag_close(diag);
	return result;
}

void filter_tell_hidden(const struct filter_walk *w)
{
	if (w->owners_hidden)
		report_notice("pid, prog and fd of other users' processes are not shown: needs "
			      "CAP_SYS_PTRACE");
	if (w->marks_hidden)
		report_notice("mark: the kernel shows marks of sockets only with CAP_NET_ADMIN");
}
