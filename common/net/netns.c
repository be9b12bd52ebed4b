/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

/* Where ip-netns(8) keeps its names. */
#define NAMED "/run/netns"

/* That of this thread: /proc/self/ns is the first thread's. */
#define SELF "/proc/thread-self/ns/net"

/* "", or a name that leads elsewhere. */
static bool is_bad_name(const char *name)
{
	return !*name || strchr(name, '/') || strlen(name) > 255 || !strcmp(name, ".") ||
	       !strcmp(name, "..");
}

static int fail_to_open(const char *path, bool is_pid, struct failure *why)
{
	int err = is_pid && errno == ENOENT ? ESRCH : errno;

	report_fail(why, err, "open", "%s", path);
	if (err == ENOENT)
		report_hint(why, "`ip netns list` shows the names");
	else if (err == EACCES && is_pid)
		report_hint(why, "a process of another user: needs CAP_SYS_PTRACE");
	return -1;
}

/* A name that ip-netns(8) has lost its mount of is an ordinary, empty file. */
static int check_kind(int fd, const char *path, struct failure *why)
{
	if (ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET)
		return fd;
	close(fd);
	report_refuse(why, "is not a network namespace");
	return report_about(why, "%s", path);
}

int netns_open(const char *name_or_pid, struct failure *why)
{
	const char *name = name_or_pid;
	bool is_pid = *name && !name[strspn(name, "0123456789")];
	char path[300];
	int fd;

	if (is_bad_name(name)) {
		report_refuse(why, "neither a process id nor a name under " NAMED);
		return report_about(why, "network namespace %s", name);
	}
	snprintf(path, sizeof(path), is_pid ? "/proc/%s/ns/net" : NAMED "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? fail_to_open(path, is_pid, why) : check_kind(fd, path, why);
}

static bool is_same(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* The user namespace that owns a network namespace gives the rights in it. */
static int enter_owner(int fd, struct failure *why)
{
	int owner = ioctl(fd, NS_GET_USERNS), err = 0;

	/* EPERM: this process may not see it, so we do not have to enter it. */
	if (owner < 0)
		return 0;
	if (!is_same(owner, "/proc/self/ns/user") && setns(owner, CLONE_NEWUSER))
		err = report_fail(why, errno, "setns", "its user namespace");
	close(owner);
	return err;
}

int netns_enter_fd(int fd, const char *name, struct failure *why)
{
	int err = 0;

	if (!is_same(fd, SELF) && setns(fd, CLONE_NEWNET)) {
		err = errno;
		if (err == EPERM && !enter_owner(fd, why) && !setns(fd, CLONE_NEWNET))
			err = 0;
	}
	if (!err)
		return 0;
	report_fail(why, err, "setns", "network namespace %s", name);
	if (err == EPERM)
		report_hint(why, "needs CAP_SYS_ADMIN here and over it");
	return -1;
}

bool netns_is_current(int fd)
{
	return is_same(fd, SELF);
}

int netns_enter(const char *name_or_pid, struct failure *why)
{
	int fd = netns_open(name_or_pid, why), err;

	if (fd < 0)
		return -1;
	err = netns_enter_fd(fd, name_or_pid, why);
	close(fd);
	return err;
}

/* The kernel's number for a socket's namespace (since Linux 5.14). */
static int namespace_cookie(int fd, uint64_t *cookie, struct failure *why)
{
	socklen_t length = sizeof(*cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &length) < 0)
		return report_fail(why, errno, "getsockopt(SO_NETNS_COOKIE)", "socket");
	return 0;
}

int netns_has_socket(int fd, struct failure *why)
{
	int own = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;
	uint64_t here = 0, there = 0;

	if (own < 0)
		return report_fail(why, errno, "socket", "AF_UNIX");
	err = namespace_cookie(own, &here, why) || namespace_cookie(fd, &there, why);
	close(own);
	return err ? -1 : here == there;
}

int netns_enter_socket(int fd, struct failure *why)
{
	int space = ioctl(fd, SIOCGSKNS), err;

	if (space < 0) {
		report_fail(why, errno, "ioctl(SIOCGSKNS)", "the socket's network namespace");
		if (errno == EPERM)
			report_hint(why, "needs CAP_NET_ADMIN in it");
		return -1;
	}
	err = netns_enter_fd(space, "of the socket", why);
	close(space);
	return err;
}
