/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * An address of this host is a route of type local in table local (ip-route(8)); so are whole
 * prefixes that it answers for. There are two channels: one receives notifications, the other reads
 * the whole list after any notification. The contents of notifications are not used, so none can be
 * missed.
 *
 * A router with a full Internet table sees thousands of other routes come and go. A filter in the
 * kernel drops their notifications. It passes those of links, because IPv4 routes that disappear
 * with their link do so without a notification (fib_flush()).
 */
#include "tproxy-relay/local_addrs.h"

#include "base/container.h"
#include "net/route.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MS 1000

struct local_addrs {
	struct loop_source changes;
	struct loop_timer retry;
	struct route *route;
	pthread_mutex_t asking; /* guards route */
	pthread_rwlock_t lock;	/* guards own */
	struct cidr_list own;	/* merged */
};

/* Read the whole list. On failure the old list stays. */
static int refresh(struct local_addrs *l, struct failure *why)
{
	struct cidr_list fresh = { 0 }, old;
	int result;

	pthread_mutex_lock(&l->asking);
	result = route_own_addresses(l->route, &fresh, why);
	pthread_mutex_unlock(&l->asking);
	if (result < 0) {
		endpoint_cidr_free(&fresh);
		return -1;
	}
	endpoint_cidr_merge(&fresh);
	pthread_rwlock_wrlock(&l->lock);
	old = l->own;
	l->own = fresh;
	pthread_rwlock_unlock(&l->lock);
	endpoint_cidr_free(&old);
	return 0;
}

/*
 * Pass messages about links, and about routes only those of type local in table local; the types
 * are in host order, which BPF reads as network order.
 */
static int attach_filter(int fd)
{
	const unsigned type = offsetof(struct nlmsghdr, nlmsg_type);
	const unsigned table = NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_table);
	const unsigned kind = NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_type);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, type),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWLINK), 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELLINK), 4, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, table),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RT_TABLE_LOCAL, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kind),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RTN_LOCAL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int open_changes(struct local_addrs *l, struct failure *why)
{
	const struct sockaddr_nl groups = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	l->changes.fd = fd;
	if (fd < 0)
		return report_fail(why, errno, "socket(AF_NETLINK)", "own addresses");
	if (attach_filter(fd) < 0)
		return report_fail(why, errno, "setsockopt(SO_ATTACH_FILTER)", "own addresses");
	if (bind(fd, (const struct sockaddr *)&groups, sizeof(groups)) < 0)
		return report_fail(why, errno, "bind(AF_NETLINK)", "own addresses");
	return 0;
}

/* Notifications start before the list is read, so that no change is missed. */
struct local_addrs *local_addrs_new(struct failure *why)
{
	struct local_addrs *l = calloc(1, sizeof(*l));

	if (!l) {
		report_fail(why, errno, "malloc", "own addresses");
		return NULL;
	}
	l->changes.fd = -1;
	pthread_mutex_init(&l->asking, NULL);
	pthread_rwlock_init(&l->lock, NULL);
	l->route = route_open(why);
	if (l->route && open_changes(l, why) == 0 && refresh(l, why) == 0)
		return l;
	local_addrs_free(l);
	return NULL;
}

void local_addrs_free(struct local_addrs *l)
{
	if (!l)
		return;
	if (l->changes.fd >= 0)
		close(l->changes.fd);
	route_close(l->route);
	endpoint_cidr_free(&l->own);
	pthread_rwlock_destroy(&l->lock);
	pthread_mutex_destroy(&l->asking);
	free(l);
}

static void follow(struct loop *loop, struct local_addrs *l)
{
	if (refresh(l, NULL) < 0)
		loop_arm(loop, &l->retry, RETRY_MS);
}

static void handle_retry(struct loop *loop, struct loop_timer *timer)
{
	follow(loop, container_of(timer, struct local_addrs, retry));
}

/* ENOBUFS, more notifications than there was room for, is as good as one.
 * #syscalls netlink: recv */
static void handle_changes(struct loop *loop, struct loop_source *source, uint32_t events)
{
	char message[512]; /* the rest is cut off */

	while (recv(source->fd, message, sizeof(message), 0) >= 0 || errno == ENOBUFS ||
	       errno == EINTR)
		;
	follow(loop, container_of(source, struct local_addrs, changes));
}

int local_addrs_watch(struct local_addrs *l, struct loop *loop, struct failure *why)
{
	l->changes.handler = handle_changes;
	l->retry.alarm = handle_retry;
	if (loop_watch(loop, &l->changes, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "own addresses");
	return 0;
}

bool local_addrs_has(struct local_addrs *l, const struct endpoint *e)
{
	bool has;

	pthread_rwlock_rdlock(&l->lock);
	has = endpoint_in_merged(e, &l->own);
	pthread_rwlock_unlock(&l->lock);
	return has;
}

/* The kernel's errors for a destination without a route. */
static bool is_no_way(int err)
{
	return err == ENETUNREACH || err == EHOSTUNREACH || err == EACCES || err == EINVAL ||
	       err == EXDEV;
}

int local_addrs_end(struct local_addrs *l, const struct endpoint *to, uint32_t mark,
		    struct failure *why)
{
	const struct route_question question = { .destination = *to, .mark = mark };
	struct failure error = { 0 };
	struct route_answer answer;
	int result;

	if (local_addrs_has(l, to))
		return 1;
	pthread_mutex_lock(&l->asking);
	result = route_ask(l->route, &question, &answer, &error);
	pthread_mutex_unlock(&l->asking);
	if (result == 0)
		return answer.type == RTN_LOCAL || answer.type == RTN_ANYCAST ||
		       answer.type == RTN_BROADCAST || answer.type == RTN_MULTICAST;
	if (is_no_way(error.err))
		return 0;
	*why = error;
	return -1;
}

bool local_addrs_keep(struct local_addrs *l, const struct endpoint *from, const struct endpoint *to)
{
	const struct route_question question = { .source = *from, .destination = *to };
	struct route_answer answer;
	int result;

	pthread_mutex_lock(&l->asking);
	result = route_ask(l->route, &question, &answer, NULL);
	pthread_mutex_unlock(&l->asking);
	return result == 0 && answer.type == RTN_LOCAL;
}
