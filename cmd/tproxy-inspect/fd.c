/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/fd.h"

#include "base/libc.h"
#include "net/netns.h"
#include "net/tcpinfo.h"
#include "tproxy-inspect/origin.h"
#include "tproxy-inspect/socket_record.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const enum record_field fd_columns[] = {
	RECORD_PROTO,	RECORD_STATE,	   RECORD_LOCAL,       RECORD_PEER,
	RECORD_ORIGDST, RECORD_ORIGDST_BY, RECORD_TRANSPARENT, RECORD_MARK,
	RECORD_PID,	RECORD_PROG,	   RECORD_FD,
};

#define MORE (RECORD_BIT(RECORD_COOKIE) | RECORD_BIT(RECORD_IIF))

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

static int check_kind(const struct target *t, struct failure *why)
{
	int family = get_option(t->fd, SOL_SOCKET, SO_DOMAIN);
	int protocol = get_option(t->fd, SOL_SOCKET, SO_PROTOCOL);

	if (family < 0)
		return report_fail(why, errno, "getsockopt", "fd %d", t->number);
	if ((family == AF_INET || family == AF_INET6) &&
	    (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP))
		return 0;
	report_refuse(why, "is not a TCP or UDP socket");
	return report_about(why, "fd %d", t->number);
}

/* What the system calls on a socket report. */
static struct sockdiag_socket view(int fd)
{
	struct sockdiag_socket s = {
		.family = get_option(fd, SOL_SOCKET, SO_DOMAIN),
		.protocol = get_option(fd, SOL_SOCKET, SO_PROTOCOL),
		.local = endpoint_local_of(fd),
		.peer = endpoint_peer_of(fd),
		.mark = (uint32_t)get_option(fd, SOL_SOCKET, SO_MARK),
		.has_mark = true,
	};
	socklen_t size = sizeof(s.cookie);
	bool v6 = s.family == AF_INET6;

	s.transparent = get_option(fd, v6 ? SOL_IPV6 : SOL_IP,
				   v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT) == 1
				? SOCKDIAG_YES
				: SOCKDIAG_NO;
	s.dual_stack = v6 && !endpoint_is_set(&s.peer) &&
		       get_option(fd, SOL_IPV6, IPV6_V6ONLY) == 0;
	s.state = endpoint_is_set(&s.peer) ? TCP_ESTABLISHED : TCP_CLOSE;
	if (s.protocol == IPPROTO_TCP && tcpinfo_read(fd, &s.tcp) == 0)
		s.state = s.tcp.state;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &s.cookie, &size) < 0)
		s.cookie = 0;
	return s;
}

/*
 * SO_ORIGINAL_DST knows what was redirected in conntrack's zone 0, and needs no rights: ask it
 * first. It also answers for intercepted connections, as if they had been redirected, so ask it
 * only for others.
 */
static int ask_socket(struct origin *o, int fd, const struct sockdiag_socket *s,
		      struct origin_answer *answer, struct failure *why)
{
	int direct;

	if (s->protocol != IPPROTO_TCP || s->tcp.opener == OPENER_HERE)
		return 0;
	direct = origin_is_direct(o, s->protocol, &s->local, s->transparent == SOCKDIAG_YES, why);
	if (direct != 1)
		return direct;
	answer->origin = transparent_origdst(fd, NULL, &answer->origdst);
	return answer->origin != ORIGIN_NONE;
}

/* Returns 1 with the answer; 0: unknown; -1 with *why. */
static int find_origin(int fd, const struct sockdiag_socket *s, struct origin_answer *answer,
		       struct failure *why)
{
	struct origin *o;
	int known;

	if (!endpoint_is_set(&s->peer))
		return 0;
	o = origin_open(why);
	if (!o)
		return -1;
	known = ask_socket(o, fd, s, answer, why);
	if (!known)
		known = origin_of(o, s, answer, why);
	origin_close(o);
	return known;
}

static void put_view(struct record_table *table, const struct target *t,
		     const struct sockdiag_socket *s, const struct origin_answer *answer)
{
	char interface[IF_NAMESIZE] = "";
	socklen_t length = sizeof(interface);
	struct record r;

	socket_record_fill(&r, s, interface);
	if (answer)
		socket_record_origin(&r, answer);
	if (getsockopt(t->fd, SOL_SOCKET, SO_BINDTODEVICE, interface, &length) == 0)
		record_text(&r, RECORD_IIF, interface);
	if (t->pid)
		record_number(&r, RECORD_PID, (uint64_t)t->pid);
	record_text(&r, RECORD_PROG, t->prog);
	record_number(&r, RECORD_FD, (uint64_t)t->number);
	record_table_put(table, &r);
	record_table_end(table);
}

/* Its namespace is asked about its connections and interfaces. Returns 1; 0: it is none of --netns;
 * -1 with *why. */
static int enter_namespace(const struct config *config, const struct target *t, struct failure *why)
{
	int here;

	if (config->netns && netns_enter(config->netns, why) < 0)
		return -1;
	here = netns_has_socket(t->fd, why);
	if (here || config->netns)
		return here;
	return netns_enter_socket(t->fd, why) ? -1 : 1;
}

/* Print what is known without its network namespace, even if that cannot be entered. */
static int show(const struct config *config, const struct target *t, struct record_table *table,
		struct failure *why)
{
	struct origin_answer answer = { .origin = ORIGIN_NONE };
	int entered = enter_namespace(config, t, why), known = 0;
	struct sockdiag_socket s = view(t->fd);

	if (!entered) {
		report_notice("fd %d: its socket is not in network namespace %s", t->number,
			      config->netns);
		return STATUS_NO;
	}
	if (entered > 0)
		known = find_origin(t->fd, &s, &answer, why);
	put_view(table, t, &s, known == 1 ? &answer : NULL);
	return entered < 0 || known < 0 ? report_failure(why, STATUS_REFUSED) : STATUS_DONE;
}

int fd_run(const struct config *config, char **operands)
{
	struct record_table table;
	struct failure why = { 0 };
	struct target target;
	int status;

	if (parse_target(operands[0], &target, &why) < 0 ||
	    record_table_init(&table, &config->style, fd_columns,
			      sizeof(fd_columns) / sizeof(*fd_columns), MORE, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	if (open_target(&target, &why) || check_kind(&target, &why)) {
		status = report_failure(&why, why.err == ESRCH ? STATUS_NO : STATUS_REFUSED);
	} else {
		record_table_fit(&table);
		status = show(config, &target, &table, &why);
	}
	if (target.fd >= 0)
		close(target.fd);
	return status;
}
