/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/listeners.h"
#include "net/listening.h"
#include "socket/datagram.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int listeners_append(struct listeners *l, const struct endpoint *at, int fd, bool optional,
		     struct failure *why)
{
	struct listener *grown = realloc(l->at, (l->count + 1) * sizeof(*grown));

	if (!grown)
		return report_fail(why, errno, "malloc", "list of listeners");
	l->at = grown;
	l->at[l->count++] = (struct listener){ .at = *at, .fd = fd, .optional = optional };
	return 0;
}

static bool has_endpoint(const struct listeners *l, const struct endpoint *at)
{
	for (size_t i = 0; i < l->count; i++)
		if (endpoint_equal(&l->at[i].at, at))
			return true;
	return false;
}

static int add_wanted(struct listeners *l, const struct endpoint_list *found,
		      const struct options_common *common, struct failure *why)
{
	for (size_t i = 0; i < found->count; i++) {
		const struct endpoint *at = &found->at[i];

		if (has_endpoint(l, at)) {
			return report_refuse(why, "stands for an endpoint that is given already");
		} else if (options_wants_family(common, at->family)) {
			if (listeners_append(l, at, -1, found->count > 1, why) < 0)
				return -1;
		} else if (found->count == 1) {
			return report_refuse(why, "is an %s address, which %s excludes",
					     at->family == AF_INET ? "IPv4" : "IPv6",
					     at->family == AF_INET ? "-6" : "-4");
		}
	}
	return 0;
}

int listeners_add(struct listeners *l, const char *operand, enum endpoint_bare bare,
		  const struct options_common *common, struct failure *why)
{
	struct endpoint_list found = { 0 };
	int result = endpoint_parse_listener(operand, bare, &found, why);

	if (result == 0)
		result = add_wanted(l, &found, common, why);
	if (result < 0)
		report_about(why, "%s", operand);
	endpoint_list_free(&found);
	return result;
}

static bool has_family(const struct listeners *l, int family)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].at.family == family)
			return true;
	return false;
}

int listeners_check(const struct listeners *l, const struct options_common *common,
		    struct failure *why)
{
	bool v4 = has_family(l, AF_INET), v6 = has_family(l, AF_INET6);

	if (v4 == v6 || common->ipv4 || common->ipv6)
		return 0;
	return report_refuse(why,
			     "only %s endpoints are given: add one of %s, or -%c if %s is meant",
			     v4 ? "IPv4" : "IPv6", v4 ? "IPv6" : "IPv4", v4 ? '4' : '6',
			     v4 ? "IPv4 alone" : "IPv6 alone");
}

/* A machine without IPv6 (or IPv4), or without that family on lo. */
static bool is_lack(const struct failure *why)
{
	return why->err == EAFNOSUPPORT || why->err == EADDRNOTAVAIL;
}

/* bind() is no evidence: a transparent socket may have any address. */
static bool is_elsewhere(const struct listener *one)
{
	return one->optional && endpoint_is_loopback(&one->at) && !transparent_is_local(&one->at);
}

static int open_one(struct listener *one, int protocol,
		    const struct transparent_listen_options *options, struct failure *why)
{
	char owner[SOCKOWNER_TEXT_MAX], text[ENDPOINT_TEXT_MAX];

	if (is_elsewhere(one)) {
		report_fail(&one->lack, EADDRNOTAVAIL, "bind", "%s",
			    endpoint_format(&one->at, text));
		return 0;
	}
	one->fd = protocol == IPPROTO_UDP ? datagram_listen(&one->at, options, why)
					  : transparent_listen(&one->at, options, why);
	if (one->fd >= 0)
		return 0;
	if (one->optional && is_lack(why)) {
		one->lack = *why;
		return 0;
	}
	if (why->err == EADDRINUSE)
		report_detail(why, "%s listens there",
			      listening_describe(protocol, &one->at, owner));
	if (why->err == ENODEV)
		report_detail(why, "interface %s", options->device);
	if (why->err == EINVAL && one->at.family == AF_INET6 && !one->at.scope &&
	    IN6_IS_ADDR_LINKLOCAL(&one->at.addr.v6))
		report_hint(why, "a link-local address needs its interface: fe80::1%%eth0");
	return -1;
}

static bool is_any_open(const struct listeners *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].fd >= 0)
			return true;
	return false;
}

static void close_all(struct listeners *l)
{
	for (size_t i = 0; i < l->count; i++) {
		if (l->at[i].fd >= 0)
			close(l->at[i].fd);
		l->at[i].fd = -1;
	}
}

int listeners_open(struct listeners *l, const struct transparent_listen_options *options,
		   struct failure *why)
{
	int protocol = l->protocol ? l->protocol : IPPROTO_TCP;
	struct failure local;

	if (!why)
		why = &local;
	for (size_t i = 0; i < l->count; i++) {
		if (l->at[i].fd >= 0 || open_one(&l->at[i], protocol, options, why) == 0)
			continue;
		close_all(l);
		return -1;
	}
	if (l->count && !is_any_open(l)) {
		*why = l->at[0].lack;
		return -1;
	}
	return 0;
}

void listeners_tell_left_out(const struct listeners *l)
{
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].fd < 0)
			report_notice("%s: left out: %s", endpoint_format(&l->at[i].at, text),
				      strerror(l->at[i].lack.err));
}

void listeners_prune(struct listeners *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].fd >= 0)
			l->at[kept++] = l->at[i];
	l->count = kept;
}

int listeners_adopt(struct listeners *l, int fd, int count,
		    const struct transparent_listen_options *options, struct failure *why)
{
	struct endpoint at;

	for (int i = 0; i < count; i++) {
		int result = l->protocol == IPPROTO_UDP
				     ? datagram_adopt(fd + i, options, &at, why)
				     : transparent_adopt(fd + i, options, &at, why);

		if (result < 0 || listeners_append(l, &at, fd + i, false, why) < 0)
			return -1;
	}
	return 0;
}

static int copy(struct listeners *to, const struct listeners *from, struct failure *why)
{
	for (size_t i = 0; i < from->count; i++)
		if (listeners_append(to, &from->at[i].at, -1, false, why) < 0)
			return -1;
	return 0;
}

int listeners_share(struct listeners *to, const struct listeners *from, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];

	if (copy(to, from, why) < 0)
		return -1;
	for (size_t i = 0; i < from->count; i++) {
		to->at[i].fd = fcntl(from->at[i].fd, F_DUPFD_CLOEXEC, 0);
		if (to->at[i].fd < 0)
			return report_fail(why, errno, "dup", "%s",
					   endpoint_format(&from->at[i].at, text));
	}
	return 0;
}

void listeners_close(struct listeners *l)
{
	close_all(l);
	free(l->at);
	*l = (struct listeners){ 0 };
}
