/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/takeover.h"

#include "base/libc.h"
#include "net/listening.h"
#include "net/sockdiag.h"
#include "net/sockowner.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct search {
	const struct listeners *wanted;
	const char *program;
	const struct transparent_listen_options *options;
	struct sockowner_list *owners;
	struct listeners *found;
	struct failure *why;
};

/* Is the descriptor a different one since /proc was read? A socket's file belongs to the user whom
 * sock_diag names (sock_i_uid()), so the socket examined and the one taken belong to the same
 * user. */
static bool is_still(int fd, uint32_t inode)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && (uint32_t)st.st_ino == inode &&
	       st.st_uid == geteuid();
}

/* Returns the duplicate, or -1 with errno. ESRCH, EBADF: its owner has closed it meanwhile. */
static int duplicate(const struct sockowner *owner)
{
	int process = pidfd_open(owner->pid, 0);
	int fd = process < 0 ? -1 : pidfd_getfd(process, owner->fd, 0), saved = errno;

	if (process >= 0)
		close(process);
	if (fd >= 0 && !is_still(fd, owner->inode)) {
		close(fd);
		fd = -1;
		saved = EBADF;
	}
	errno = saved;
	return fd;
}

static int take(const struct search *search, const struct sockowner *owner)
{
	int fd = duplicate(owner);

	if (fd < 0 && (errno == ESRCH || errno == EBADF))
		return 0;
	if (fd < 0)
		return report_fail(search->why, errno, "pidfd_getfd", "listeners of %s (pid %d)",
				   owner->name, (int)owner->pid);
	if (fcntl(fd, F_SETOWN, getpid()) < 0)
		report_fail(search->why, errno, "fcntl(F_SETOWN)", "listener of %s (pid %d)",
			    owner->name, (int)owner->pid);
	else if (listeners_adopt(search->found, fd, 1, search->options, search->why) == 0)
		return 0;
	close(fd);
	return -1;
}

static bool is_wanted(const struct listeners *wanted, const struct endpoint *at)
{
	for (size_t i = 0; i < wanted->count; i++)
		if (endpoint_equal(&wanted->at[i].at, at))
			return true;
	return false;
}

/* What the kernel says about the socket, never what its owner says. */
static bool may_share(const struct sockdiag_socket *s, bool redirect)
{
	return s->uid == geteuid() && (redirect || s->transparent == SOCKDIAG_YES);
}

static int refuse(const struct sockdiag_socket *s, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX], owner[SOCKOWNER_TEXT_MAX];

	listening_describe(s->protocol, &s->local, owner);
	if (s->uid != geteuid())
		report_refuse(why,
			      "%s listens there with a socket of uid %u: only those of uid %u, "
			      "which is ours, can be taken over",
			      owner, (unsigned)s->uid, (unsigned)geteuid());
	else
		report_refuse(why,
			      "%s listens there with a socket that is not transparent: its share "
			      "of the connections would bypass the proxy",
			      owner);
	return report_about(why, "--takeover %s", endpoint_format(&s->local, text));
}

static int check_socket(const struct sockdiag_socket *s, void *context)
{
	const struct search *search = context;

	if (!is_wanted(search->wanted, &s->local) || may_share(s, search->options->redirect))
		return 0;
	return refuse(s, search->why);
}

/* Visit every socket of the wanted protocol that could be in the way. */
static int visit_all(struct search *search, sockdiag_visitor *visit)
{
	int protocol = search->wanted->protocol == IPPROTO_UDP ? IPPROTO_UDP : IPPROTO_TCP;
	struct sockdiag *diag = sockdiag_open(search->why);
	int result = diag ? listening_each(diag, protocol, visit, search, search->why) : -1;

	sockdiag_close(diag);
	return result;
}

int takeover_check(const struct listeners *wanted, const struct transparent_listen_options *options,
		   struct failure *why)
{
	struct search search = { .wanted = wanted, .options = options, .why = why };

	return visit_all(&search, check_socket);
}

/* Does it belong to one of our own programs? Only asked about sockets that may be shared. */
static int find_ours(const struct sockdiag_socket *s, void *context)
{
	const struct search *search = context;
	const struct sockowner *owner = sockowner_find(search->owners, s->inode);

	if (!is_wanted(search->wanted, &s->local))
		return 0;
	for (; owner; owner = sockowner_next(search->owners, owner))
		if (!strncmp(owner->name, search->program, strlen(search->program)))
			return 1;
	return 0;
}

bool takeover_would_help(const struct listeners *wanted,
			 const struct transparent_listen_options *options)
{
	struct search search = { .wanted = wanted, .program = "tproxy-", .options = options };
	bool help = takeover_check(wanted, options, NULL) == 0 &&
		    (search.owners = sockowner_read(NULL, NULL)) &&
		    visit_all(&search, find_ours) == 1;

	sockowner_free(search.owners);
	return help;
}

static int visit(const struct sockdiag_socket *s, void *context)
{
	struct search *search = context;
	const struct sockowner *owner = sockowner_find(search->owners, s->inode);
	char text[ENDPOINT_TEXT_MAX];

	if (!is_wanted(search->wanted, &s->local) || !may_share(s, search->options->redirect))
		return 0;
	if (!owner) /* of a process whose descriptors may not even be listed */
		return report_fail(search->why, EPERM, "pidfd_getfd", "the listener at %s",
				   endpoint_format(&s->local, text));
	for (; owner; owner = sockowner_next(search->owners, owner))
		if (owner->pid != getpid() && !strcmp(owner->name, search->program))
			return take(search, owner);
	return 0;
}

int takeover_find(const struct listeners *wanted, const char *program,
		  const struct transparent_listen_options *options, struct listeners *found,
		  struct failure *why)
{
	struct search search = { wanted, program, options, NULL, found, why };
	int result = -1;

	search.owners = sockowner_read(NULL, why);
	if (search.owners)
		result = visit_all(&search, visit);
	if (result < 0)
		listeners_close(found);
	sockowner_free(search.owners);
	return result;
}

/* The nth of those found at that endpoint; NULL after the last one. */
static const struct listener *nth(const struct listeners *found, const struct endpoint *at,
				  unsigned n)
{
	for (size_t i = 0; i < found->count; i++)
		if (endpoint_equal(&found->at[i].at, at) && n-- == 0)
			return &found->at[i];
	return NULL;
}

static unsigned count_at(const struct listeners *found, const struct endpoint *at)
{
	unsigned n = 0;

	while (nth(found, at, n))
		n++;
	return n;
}

static int share_one(struct listeners *own, const struct listener *one, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];
	int fd = fcntl(one->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return report_fail(why, errno, "dup", "%s", endpoint_format(&one->at, text));
	if (listeners_append(own, &one->at, fd, false, why) == 0)
		return 0;
	close(fd);
	return -1;
}

int takeover_share(struct listeners *own, const struct listeners *wanted,
		   const struct listeners *found, unsigned index, unsigned count, bool *shared,
		   struct failure *why)
{
	for (size_t i = 0; i < wanted->count; i++) {
		const struct listener *w = &wanted->at[i];
		unsigned there = count_at(found, &w->at);

		if (!there && listeners_append(own, &w->at, -1, w->optional, why) < 0)
			return -1;
		bool share = shared && there && there < count;

		if (share)
			*shared = true;
		for (unsigned n = share ? index % there : index; n < there; n += count)
			if (share_one(own, nth(found, &w->at, n), why) < 0)
				return -1;
	}
	return 0;
}

/*
 * The C library implements it with F_GETOWN_EX.
 * #syscalls control: fcntl(F_GETOWN), fcntl(F_GETOWN_EX)
 */
pid_t takeover_successor(int fd)
{
	int pid = fcntl(fd, F_GETOWN);

	return pid > 0 ? pid : 0;
}

bool takeover_migrates(void)
{
	FILE *in = fopen("/proc/sys/net/ipv4/tcp_migrate_req", "re");
	int value = 0;

	if (in && fscanf(in, "%d", &value) != 1)
		value = 0;
	if (in)
		fclose(in);
	return value != 0;
}
