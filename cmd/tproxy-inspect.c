/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-inspect - show the endpoints of sockets: peer, original destination, flags, mark, owner.
 *
 * Reads the kernel's own lists and changes nothing. Where an answer needs a privilege that is missing
 * it says so, rather than give a wrong one.
 */
#include "base/endpoint.h"
#include "base/match.h"
#include "base/options.h"
#include "base/record.h"
#include "base/report.h"
#include "net/conntrack.h"
#include "net/netns.h"
#include "net/sockdiag.h"
#include "net/tcpinfo.h"
#include "socket/transparent.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum command { COMMAND_SOCKETS, COMMAND_FD, COMMAND_ORIGDST };
#define SOCKETS (1 << COMMAND_SOCKETS)
#define NETNS	(SOCKETS | 1 << COMMAND_ORIGDST)

struct config {
	struct options_common common;
	struct record_style style;
	struct match_list local, peer;
	struct mark mark;
	uint64_t pid;
	const char *prog, *netns;
	uint32_t states; /* bits 1 << TCP_*; 0: all */
	bool all, transparent, by_mark;
};

static const struct option_command commands[] = {
	{ "sockets", "sockets with both endpoints, transparent flag, mark, owner" },
	{ "fd", "all about one socket: FD (an inherited one), or PID:FD" },
	{ "origdst", "original destination of the connection whose socket here\n"
		     "has the ends LOCAL and PEER; - reads pairs from stdin" },
	{ 0 },
};

/* `established,listening` or `ESTAB,LISTEN`; accumulates. */
static int set_states(void *field, const char *arg, const struct option_spec *self,
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
					     "%s: no such state; known are the names that ss(8) "
					     "prints (ESTAB, LISTEN, TIME-WAIT, ...)",
					     name);
		*states |= 1u << state;
		p += length;
		if (!*p)
			return 0;
	}
}

static int set_mark_filter(void *field, const char *arg, const struct option_spec *self,
			   struct failure *why)
{
	struct config *config = field;

	config->by_mark = true;
	return quantity_mark(arg, &config->mark, why);
}

#define SELECT(name, letter, arg, help, set, member) \
	OPTION_OF(SOCKETS, name, letter, arg, help, set, struct config, member)

static const struct option_spec options[] = {
	OPTION_HEADING("Which sockets (sockets):"),
	SELECT("all", 'a', NULL, "also those that are not transparent", option_flag, all),
	SELECT("transparent", 0, NULL, "transparent ones only (the default)", option_flag,
	       transparent),
	SELECT("state", 0, "LIST", "in one of these states, as ss(8) names them (any)", set_states,
	       states),
	SELECT("local", 0, "CIDR[:PORTS]", "whose own end is there; *:PORTS for any address",
	       match_option, local),
	SELECT("peer", 0, "CIDR[:PORTS]", "whose other end is there", match_option, peer),
	SELECT("mark", 0, "MARK", "with that mark (CAP_NET_ADMIN)", set_mark_filter, common),
	SELECT("pid", 0, "PID", "held by that process", option_count, pid),
	SELECT("prog", 0, "NAME", "held by a process of that name", option_text, prog),
	OPTION_OF(NETNS, "netns", 0, "NAME|PID", "in that network namespace", option_text,
		  struct config, netns),
	OPTIONS_TCP_UDP(struct config, common),
	OPTION_HEADING("Output:"),
	RECORD_TABLE_OPTIONS(struct config, style),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "all", "transparent" },
	{ "no-header", "json" },
	{ "columns", "json" },
	{ 0 },
};

static const struct options_program program = {
	.name = "tproxy-inspect",
	.summary = "Show the endpoints of sockets: peer, original destination, flags, mark, owner.",
	.usage = "tproxy-inspect [sockets] [OPTION...]\n"
		 "tproxy-inspect fd [OPTION...] FD | PID:FD\n"
		 "tproxy-inspect origdst [OPTION...] LOCAL PEER | -",
	.commands = commands,
	.default_command = COMMAND_SOCKETS,
	.options = options,
	.conflicts = conflicts,
	.epilogue = "Columns and fields are explained in tproxy-tools(7), all else in "
		    "tproxy-inspect(8).",
};

static const char *proto_name(int protocol)
{
	return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

/* SO_MARK is the whole mark: no mask. */
static void put_mark(struct record *r, uint32_t value)
{
	struct mark mark = { value, ~0u };

	record_mark(r, RECORD_MARK, &mark);
}

static const char *interface_name(unsigned index, char name[IF_NAMESIZE])
{
	return index ? if_indextoname(index, name) : NULL;
}

/* ---- sockets ---- */

static const enum record_field socket_columns[] = {
	RECORD_PROTO, RECORD_STATE, RECORD_LOCAL, RECORD_PEER, RECORD_TRANSPARENT,
	RECORD_MARK,  RECORD_PID,   RECORD_PROG,  RECORD_FD,
};

/* One walk through the kernel's list. */
struct listing {
	const struct config *config;
	struct record_table table;
	struct sockdiag_owners *owners; /* NULL when nobody asks for them */
	bool mark_hidden;		/* a mark was asked for that the kernel does not tell */
};

static bool wants_owners(const struct listing *l)
{
	if (l->config->pid || l->config->prog || l->config->common.json)
		return true;
	for (size_t i = 0; i < l->table.columns.count; i++)
		if (l->table.columns.at[i] == RECORD_PID || l->table.columns.at[i] == RECORD_PROG ||
		    l->table.columns.at[i] == RECORD_FD)
			return true;
	return false;
}

static bool mark_selected(struct listing *l, const struct sockdiag_socket *s)
{
	const struct mark *mark = &l->config->mark;

	if (!l->config->by_mark)
		return true;
	if (!s->has_mark)
		l->mark_hidden = true;
	return s->has_mark && (s->mark & mark->mask) == mark->value;
}

static bool selected(struct listing *l, const struct sockdiag_socket *s)
{
	const struct config *c = l->config;

	if (!c->all && s->transparent != SOCKDIAG_YES)
		return false;
	if (c->local.count && !match_list_has(&c->local, &s->local))
		return false;
	if (c->peer.count && !match_list_has(&c->peer, &s->peer))
		return false;
	return mark_selected(l, s);
}

/* The owner to show: the first of those asked for. *none: there is one to ask for, and it has not
 * got this socket. */
static const struct sockdiag_owner *selected_owner(const struct listing *l, uint32_t inode,
						   bool *none)
{
	const struct config *c = l->config;
	const struct sockdiag_owner *owner = sockdiag_owner(l->owners, inode);

	*none = false;
	if (!c->pid && !c->prog)
		return owner;
	for (; owner && owner->inode == inode; owner++)
		if ((!c->pid || owner->pid == (pid_t)c->pid) &&
		    (!c->prog || !strcmp(owner->name, c->prog)))
			return owner;
	*none = true;
	return NULL;
}

static void put_owner(struct record *r, const struct sockdiag_owner *owner)
{
	if (!owner)
		return;
	record_number(r, RECORD_PID, (uint64_t)owner->pid);
	record_text(r, RECORD_PROG, owner->name);
	record_number(r, RECORD_FD, (uint64_t)owner->fd);
}

static const char *flag_name(enum sockdiag_flag flag)
{
	static const char *const names[] = { "no", "yes", "unknown" };

	return names[flag];
}

static int list_socket(const struct sockdiag_socket *s, void *context)
{
	struct listing *l = context;
	const struct sockdiag_owner *owner;
	char interface[IF_NAMESIZE];
	struct record r;
	bool none;

	if (!selected(l, s))
		return 0;
	owner = selected_owner(l, s->inode, &none);
	if (none)
		return 0;
	record_begin(&r, "socket");
	record_text(&r, RECORD_PROTO, proto_name(s->protocol));
	record_text(&r, RECORD_STATE, sockdiag_state_name(s->state));
	record_endpoint(&r, RECORD_LOCAL, &s->local);
	if (s->peer.port)
		record_endpoint(&r, RECORD_PEER, &s->peer);
	record_text(&r, RECORD_TRANSPARENT, flag_name(s->transparent));
	record_text(&r, RECORD_IIF, interface_name(s->interface, interface));
	if (s->has_mark)
		put_mark(&r, s->mark);
	record_number(&r, RECORD_COOKIE, s->cookie);
	put_owner(&r, owner);
	record_table_put(&l->table, &r);
	return 0;
}

static int list_protocol(struct listing *l, struct sockdiag *diag, int protocol,
			 struct failure *why)
{
	const struct options_common *common = &l->config->common;
	struct sockdiag_filter filter = { .protocol = protocol,
					  .states = l->config->states ? l->config->states : ~0u };

	if (!options_wants_family(common, AF_INET6))
		filter.family = AF_INET;
	else if (!options_wants_family(common, AF_INET))
		filter.family = AF_INET6;
	return sockdiag_dump(diag, &filter, list_socket, l, why);
}

static int list_all(struct listing *l, struct failure *why)
{
	struct sockdiag *diag = sockdiag_open(why);
	int err = diag ? 0 : -1;

	if (!err && wants_owners(l) && !(l->owners = sockdiag_owners_read(why)))
		err = -1;
	if (!err && options_wants_tcp(&l->config->common))
		err = list_protocol(l, diag, IPPROTO_TCP, why);
	if (!err && options_wants_udp(&l->config->common))
		err = list_protocol(l, diag, IPPROTO_UDP, why);
	sockdiag_owners_free(l->owners);
	sockdiag_close(diag);
	return err;
}

static int run_sockets(const struct config *config, const struct options_rest *rest)
{
	struct listing l = { .config = config };
	struct failure why = { 0 };

	if (rest->count)
		return options_misuse(&program, "%s: no such command", rest->operands[0]);
	if (record_table_init(&l.table, &config->style, socket_columns,
			      sizeof(socket_columns) / sizeof(*socket_columns), &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	if (list_all(&l, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (l.mark_hidden) {
		report_error("--mark: the kernel tells the marks of sockets only with "
			     "CAP_NET_ADMIN");
		return STATUS_REFUSED;
	}
	return STATUS_DONE;
}

/* ---- what is needed to find original destinations ---- */

/* Channels to the kernel, opened once for many questions. conntrack is opened when it is needed. */
struct lookup {
	struct sockdiag *diag;
	struct conntrack *conntrack;
};

static int open_lookup(struct lookup *o, struct failure *why)
{
	*o = (struct lookup){ .diag = sockdiag_open(why) };
	return o->diag ? 0 : -1;
}

static void close_lookup(struct lookup *o)
{
	sockdiag_close(o->diag);
	conntrack_close(o->conntrack);
}

/* The search for a listener whose connections have that local end. */
struct listener_search {
	const struct endpoint *local;
	enum sockdiag_flag transparent;
	struct endpoint found;
};

static int match_listener(const struct sockdiag_socket *s, void *context)
{
	struct listener_search *search = context;

	if (s->local.port != search->local->port || s->transparent != search->transparent)
		return 0;
	if (s->local.family != search->local->family && !s->dual_stack)
		return 0;
	if (!endpoint_is_any(&s->local) && !endpoint_same_address(&s->local, search->local))
		return 0;
	search->found = s->local;
	return 1;
}

/*
 * Can a connection with that local end have been addressed to a listener of this host? A socket
 * inherits IP_TRANSPARENT from its listener, so only one with the same flag can have accepted it; and
 * one on any address accepts what is addressed to this host, unless it is intercepted.
 */
static int is_direct(struct lookup *o, const struct endpoint *local, bool transparent,
		     struct failure *why)
{
	struct sockdiag_filter filter = { AF_UNSPEC, IPPROTO_TCP, 1u << TCP_LISTEN };
	struct listener_search search = { .local = local,
					  .transparent = transparent ? SOCKDIAG_YES : SOCKDIAG_NO };
	int found;

	if (!transparent_is_local(local))
		return 0;
	if (!transparent)
		return 1;
	found = sockdiag_dump(o->diag, &filter, match_listener, &search, why);
	return found;
}

/* conntrack's word: 1 with *origdst when the connection was redirected to local, 0 when it was not, -1
 * with *why when conntrack cannot be asked. */
static int ask_conntrack(struct lookup *o, const struct endpoint *local,
			 const struct endpoint *peer, struct endpoint *origdst, struct failure *why)
{
	int known;

	if (!o->conntrack && !(o->conntrack = conntrack_open(why)))
		return -1;
	known = conntrack_origdst(o->conntrack, IPPROTO_TCP, local, peer, origdst, why);
	return known == 1 ? !endpoint_equal(origdst, local) : known;
}

/* ---- fd ---- */

static const enum record_field fd_columns[] = {
	RECORD_PROTO,	RECORD_STATE,	   RECORD_LOCAL,       RECORD_PEER,
	RECORD_ORIGDST, RECORD_ORIGDST_BY, RECORD_TRANSPARENT, RECORD_MARK,
	RECORD_PID,	RECORD_PROG,	   RECORD_FD,
};

/* A descriptor as the user names it, and a copy of it in this process. */
struct target {
	pid_t pid; /* 0: our own, inherited */
	int number, fd;
	char prog[SOCKDIAG_NAME_MAX];
};

static int parse_target(const char *text, struct target *t, struct failure *why)
{
	const char *colon = strchr(text, ':');
	char pid[24];
	uint64_t n;

	*t = (struct target){ .fd = -1 };
	if (colon) {
		snprintf(pid, sizeof(pid), "%.*s", (int)(colon - text), text);
		if (quantity_number(pid, 1, INT32_MAX, &n, why) < 0)
			return report_about(why, "%s: PID", text);
		t->pid = (pid_t)n;
	}
	if (quantity_number(colon ? colon + 1 : text, 0, INT32_MAX, &n, why) < 0)
		return report_about(why, "%s: FD", text);
	t->number = (int)n;
	return 0;
}

static void read_prog(struct target *t)
{
	char path[32];
	int fd;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)t->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? 0 : read(fd, t->prog, sizeof(t->prog) - 1);
	if (fd >= 0)
		close(fd);
	t->prog[length > 0 ? length - 1 : 0] = '\0'; /* in place of the newline */
}

/* Take a copy of another process's descriptor. */
static int fetch_target(struct target *t, struct failure *why)
{
	int process = pidfd_open(t->pid, 0), err;

	if (process < 0)
		return report_fail(why, errno, "pidfd_open", "process %d", (int)t->pid);
	t->fd = pidfd_getfd(process, t->number, 0);
	err = errno;
	close(process);
	if (t->fd < 0)
		return report_fail(why, err, "pidfd_getfd", "fd %d of process %d", t->number,
				   (int)t->pid);
	read_prog(t);
	return 0;
}

static int open_target(struct target *t, struct failure *why)
{
	if (t->pid)
		return fetch_target(t, why);
	t->fd = fcntl(t->number, F_DUPFD_CLOEXEC, 3);
	return t->fd < 0 ? report_fail(why, errno, "fcntl", "fd %d", t->number) : 0;
}

static int get_option(int fd, int level, int name)
{
	int value = 0;
	socklen_t length = sizeof(value);

	return getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

/* What the calls on a socket tell of it. */
struct socket_view {
	int family, protocol, state;
	struct endpoint local, peer, origdst;
	enum transparent_origin origin;
	bool transparent;
	enum tcpinfo_opener opener;
};

static int view_socket(const struct target *t, struct socket_view *v, struct failure *why)
{
	struct tcpinfo tcp = { 0 };
	bool v6;

	*v = (struct socket_view){ .family = get_option(t->fd, SOL_SOCKET, SO_DOMAIN) };
	if (v->family < 0)
		return report_fail(why, errno, "getsockopt", "fd %d", t->number);
	v->protocol = get_option(t->fd, SOL_SOCKET, SO_PROTOCOL);
	v6 = v->family == AF_INET6;
	if ((!v6 && v->family != AF_INET) ||
	    (v->protocol != IPPROTO_TCP && v->protocol != IPPROTO_UDP)) {
		report_refuse(why, "is no TCP or UDP socket");
		return report_about(why, "fd %d", t->number);
	}
	v->local = endpoint_local_of(t->fd);
	v->peer = endpoint_peer_of(t->fd);
	v->transparent = get_option(t->fd, v6 ? SOL_IPV6 : SOL_IP,
				    v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT) == 1;
	v->state = endpoint_is_set(&v->peer) ? TCP_ESTABLISHED : TCP_CLOSE;
	if (v->protocol == IPPROTO_TCP && tcpinfo_read(t->fd, &tcp) == 0) {
		v->state = tcp.state;
		v->opener = tcp.opener;
	}
	return 0;
}

/*
 * A connection that came in at a listener of our own network namespace is judged knowing that
 * listener; one that was opened here has no original destination.
 */
static int find_origin(const struct target *t, struct socket_view *v, struct failure *why)
{
	struct endpoint elsewhere = { .family = v->local.family };
	struct lookup o;
	int direct;

	if (v->protocol != IPPROTO_TCP || !endpoint_is_set(&v->peer) || v->opener == OPENER_HERE)
		return 0;
	if (open_lookup(&o, why) < 0)
		return -1;
	direct = is_direct(&o, &v->local, v->transparent, why);
	close_lookup(&o);
	if (direct < 0)
		return -1;
	v->origin = transparent_origdst(t->fd, direct ? NULL : &elsewhere, &v->origdst);
	return 0;
}

static void put_view(struct record_table *table, const struct target *t,
		     const struct socket_view *v)
{
	char interface[IF_NAMESIZE] = "";
	socklen_t length = sizeof(interface);
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);
	struct record r;

	record_begin(&r, "socket");
	record_text(&r, RECORD_PROTO, proto_name(v->protocol));
	record_text(&r, RECORD_STATE, sockdiag_state_name(v->state));
	record_endpoint(&r, RECORD_LOCAL, &v->local);
	record_endpoint(&r, RECORD_PEER, &v->peer);
	if (endpoint_is_set(&v->peer)) {
		record_endpoint(&r, RECORD_ORIGDST, &v->origdst);
		record_text(&r, RECORD_ORIGDST_BY, transparent_origin_name(v->origin));
	}
	record_text(&r, RECORD_TRANSPARENT, v->transparent ? "yes" : "no");
	put_mark(&r, (uint32_t)get_option(t->fd, SOL_SOCKET, SO_MARK));
	if (getsockopt(t->fd, SOL_SOCKET, SO_BINDTODEVICE, interface, &length) == 0)
		record_text(&r, RECORD_IIF, interface);
	if (getsockopt(t->fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0)
		record_number(&r, RECORD_COOKIE, cookie);
	if (t->pid)
		record_number(&r, RECORD_PID, (uint64_t)t->pid);
	record_text(&r, RECORD_PROG, t->prog);
	record_number(&r, RECORD_FD, (uint64_t)t->number);
	record_table_put(table, &r);
}

static int run_fd(const struct config *config, const struct options_rest *rest)
{
	struct record_table table;
	struct failure why = { 0 };
	struct socket_view view;
	struct target target;
	int err;

	if (rest->count != 1)
		return options_misuse(&program, "fd: which one? FD or PID:FD");
	if (parse_target(rest->operands[0], &target, &why) < 0 ||
	    record_table_init(&table, &config->style, fd_columns,
			      sizeof(fd_columns) / sizeof(*fd_columns), &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	err = open_target(&target, &why);
	if (!err)
		err = view_socket(&target, &view, &why);
	if (!err)
		err = find_origin(&target, &view, &why);
	if (!err)
		put_view(&table, &target, &view);
	if (target.fd >= 0)
		close(target.fd);
	return err ? report_failure(&why, STATUS_REFUSED) : STATUS_DONE;
}

/* ---- origdst ---- */

static const enum record_field origdst_columns[] = { RECORD_LOCAL, RECORD_PEER, RECORD_ORIGDST,
						     RECORD_ORIGDST_BY };

/* A connection by the ends of its socket here, and the answer. */
struct question {
	struct endpoint local, peer, origdst;
	enum transparent_origin origin;
};

/*
 * The answer for a socket of this host. Returns 1 found, 0 no such connection, -1 with *why.
 *
 * A local end that is foreign to this host, or at which no listener of the same kind is, came by
 * TPROXY. Only what is addressed to this host can have been redirected, and needs conntrack.
 */
static int answer_socket(struct lookup *o, struct question *q, const struct sockdiag_socket *s,
			 struct failure *why)
{
	int direct, redirected;

	if (s->tcp.opener == OPENER_HERE)
		return 1;
	direct = is_direct(o, &q->local, s->transparent != SOCKDIAG_NO, why);
	if (direct < 0)
		return -1;
	if (!direct) {
		q->origdst = q->local;
		q->origin = ORIGIN_TPROXY;
		return 1;
	}
	redirected = ask_conntrack(o, &q->local, &q->peer, &q->origdst, why);
	if (redirected == 1)
		q->origin = ORIGIN_CONNTRACK;
	else
		q->origdst = (struct endpoint){ 0 };
	return redirected < 0 ? -1 : 1;
}

/* The same without a socket: it may be closed already, or in another network namespace. */
static int answer_conntrack(struct lookup *o, struct question *q, struct failure *why)
{
	int redirected = ask_conntrack(o, &q->local, &q->peer, &q->origdst, why);

	if (redirected == 1)
		q->origin = ORIGIN_CONNTRACK;
	return redirected;
}

static int answer(struct lookup *o, struct question *q, struct failure *why)
{
	struct sockdiag_socket s;
	int found = sockdiag_lookup(o->diag, IPPROTO_TCP, &q->peer, &q->local, 0, &s, why);

	q->origin = ORIGIN_NONE;
	q->origdst = (struct endpoint){ 0 };
	if (found < 0)
		return -1;
	/* The kernel's lookup falls back to a listener. */
	if (found && endpoint_equal(&s.peer, &q->peer))
		return answer_socket(o, q, &s, why);
	return answer_conntrack(o, q, why);
}

static int parse_pair(const char *local, const char *peer, struct question *q, struct failure *why)
{
	if (endpoint_parse(local, &q->local, why) < 0)
		return report_about(why, "%s", local);
	if (endpoint_parse(peer, &q->peer, why) < 0)
		return report_about(why, "%s", peer);
	if (q->local.family == q->peer.family)
		return 0;
	report_refuse(why, "of different address families");
	return report_about(why, "%s %s", local, peer);
}

/* Ask and print. One record comes for every question, so that pipelines keep their lines. */
static int answer_one(struct lookup *o, struct record_table *table, struct question *q)
{
	struct failure why = { 0 };
	struct record r;
	int found = answer(o, q, &why);

	record_begin(&r, "origdst");
	record_text(&r, RECORD_PROTO, "tcp");
	record_endpoint(&r, RECORD_LOCAL, &q->local);
	record_endpoint(&r, RECORD_PEER, &q->peer);
	if (found == 1) {
		record_endpoint(&r, RECORD_ORIGDST, &q->origdst);
		record_text(&r, RECORD_ORIGDST_BY, transparent_origin_name(q->origin));
	}
	record_table_put(table, &r);
	fflush(stdout); /* somebody may be waiting for this answer before asking the next */
	if (found < 0)
		return report_failure(&why, STATUS_REFUSED);
	return found ? STATUS_DONE : STATUS_NO;
}

static int answer_pair(struct lookup *o, struct record_table *table, char **pair)
{
	struct failure why = { 0 };
	struct question q;
	int status;

	if (parse_pair(pair[0], pair[1], &q, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	status = answer_one(o, table, &q);
	if (status == STATUS_NO)
		report_notice("%s %s: no such connection here", pair[0], pair[1]);
	return status;
}

static int answer_line(struct lookup *o, struct record_table *table, char *line, unsigned number)
{
	static const char blanks[] = " \t\r\n";
	char *rest = NULL, *local = strtok_r(line, blanks, &rest);
	char *peer = strtok_r(NULL, blanks, &rest);
	struct failure why = { 0 };
	struct question q;

	if (!local)
		return STATUS_DONE;
	if (!peer)
		report_refuse(&why, "needs two endpoints, LOCAL and PEER");
	if (!peer || parse_pair(local, peer, &q, &why) < 0) {
		char text[512];

		report_error("line %u: %s", number, report_text(&why, text, sizeof(text)));
		return STATUS_USAGE;
	}
	return answer_one(o, table, &q);
}

/* The status of many answers is the gravest. */
static int answer_stdin(struct lookup *o, struct record_table *table)
{
	char *line = NULL;
	size_t room = 0;
	int worst = STATUS_DONE;

	for (unsigned number = 1; getline(&line, &room, stdin) >= 0; number++) {
		int status = answer_line(o, table, line, number);

		if (status > worst)
			worst = status;
	}
	free(line);
	return worst;
}

static int run_origdst(const struct config *config, const struct options_rest *rest)
{
	bool from_stdin = rest->count == 1 && !strcmp(rest->operands[0], "-");
	struct record_table table;
	struct failure why = { 0 };
	struct lookup o;
	int status;

	if (!from_stdin && rest->count != 2)
		return options_misuse(&program, "origdst: needs LOCAL and PEER, or -");
	if (config->common.udp)
		return options_misuse(&program, "--udp: conntrack and TCP sockets only are asked");
	if (record_table_init(&table, &config->style, origdst_columns,
			      sizeof(origdst_columns) / sizeof(*origdst_columns), &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	if (open_lookup(&o, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	status = from_stdin ? answer_stdin(&o, &table) : answer_pair(&o, &table, rest->operands);
	close_lookup(&o);
	return status;
}

int main(int argc, char **argv)
{
	static int (*const runs[])(const struct config *, const struct options_rest *) = {
		[COMMAND_SOCKETS] = run_sockets,
		[COMMAND_FD] = run_fd,
		[COMMAND_ORIGDST] = run_origdst,
	};
	struct config config = { 0 };
	struct options_rest rest;
	struct failure why = { 0 };
	int status;

	report_init(program.name);
	status = options_parse(&program, argc, argv, &config, &rest);
	if (status != OPTIONS_GO_ON)
		return status;
	if (rest.wrapped)
		return options_misuse(&program, "--: no command is run here");
	config.style.json = config.common.json;
	if (config.netns && netns_enter(config.netns, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	status = runs[rest.command](&config, &rest);
	match_list_free(&config.local);
	match_list_free(&config.peer);
	return report_close_stdout(status);
}
