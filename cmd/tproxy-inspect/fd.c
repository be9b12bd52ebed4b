/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/fd.h"

#include "net/sockowner.h"
#include "net/tcpinfo.h"
#include "tproxy-inspect/origin.h"
#include "tproxy-inspect/socket_record.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

static const enum record_field fd_columns[] = {
	RECORD_PROTO,	RECORD_STATE,	   RECORD_LOCAL,       RECORD_PEER,
	RECORD_ORIGDST, RECORD_ORIGDST_BY, RECORD_TRANSPARENT, RECORD_MARK,
	RECORD_PID,	RECORD_PROG,	   RECORD_FD,
};

/* A descriptor as the user names it, and a copy of it in this process. */
struct target {
	pid_t pid; /* 0: our own, inherited */
	int number, fd;
	char prog[SOCKOWNER_NAME_MAX];
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
	struct origin o;
	int direct;

	if (v->protocol != IPPROTO_TCP || !endpoint_is_set(&v->peer) || v->opener == OPENER_HERE)
		return 0;
	if (origin_open(&o, why) < 0)
		return -1;
	direct = origin_is_direct(&o, &v->local, v->transparent, why);
	origin_close(&o);
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
	record_text(&r, RECORD_PROTO, socket_record_proto(v->protocol));
	record_text(&r, RECORD_STATE, sockdiag_state_name(v->state));
	record_endpoint(&r, RECORD_LOCAL, &v->local);
	record_endpoint(&r, RECORD_PEER, &v->peer);
	if (endpoint_is_set(&v->peer)) {
		record_endpoint(&r, RECORD_ORIGDST, &v->origdst);
		record_text(&r, RECORD_ORIGDST_BY, transparent_origin_name(v->origin));
	}
	record_text(&r, RECORD_TRANSPARENT, v->transparent ? "yes" : "no");
	socket_record_mark(&r, (uint32_t)get_option(t->fd, SOL_SOCKET, SO_MARK));
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

int fd_run(const struct config *config, char **operands)
{
	struct record_table table;
	struct failure why = { 0 };
	struct socket_view view;
	struct target target;
	int err;

	if (parse_target(operands[0], &target, &why) < 0 ||
	    record_table_init(&table, &config->style, fd_columns,
			      sizeof(fd_columns) / sizeof(*fd_columns), 0, &why) < 0)
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
