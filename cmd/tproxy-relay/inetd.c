/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/inetd.h"

#include "net/sockdiag.h"
#include "net/sockowner.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

bool inetd_is_client(int fd)
{
	struct stat client, other;

	return fstat(STDIN_FILENO, &client) == 0 && S_ISSOCK(client.st_mode) &&
	       fstat(fd, &other) == 0 && client.st_dev == other.st_dev &&
	       client.st_ino == other.st_ino;
}

static int put_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), result;

	if (null < 0)
		return -1;
	result = dup2(null, fd);
	close(null);
	return result;
}

/* ---- what the reader of a PROXY header has said ---- */

static int refuse_variable(const char *name, const char *problem, struct failure *why)
{
	const char *value = getenv(name);

	report_refuse(why, "%s", problem);
	return report_about(why, "TPROXY_ORIGDST_BY=%s: %s%s%s", getenv("TPROXY_ORIGDST_BY"), name,
			    value ? "=" : "", value ? value : "");
}

static int take_end(const char *name, struct endpoint *out, struct failure *why)
{
	const char *value = getenv(name);

	if (value && endpoint_parse(value, out, NULL) == 0)
		return 0;
	return refuse_variable(name, "is no address and port", why);
}

/* Is the environment about this socket, not about one that an ancestor of ours had? */
static bool is_meant(int fd)
{
	const char *said = getenv("TPROXY_COOKIE");
	uint64_t cookie = 0, number;
	socklen_t size = sizeof(cookie);

	return said && quantity_number(said, 1, UINT64_MAX, &number, NULL) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 && number == cookie;
}

/*
 * If the environment says that there was a header, the kernel does not know the ends: then the
 * environment must be about this socket, or nothing is known. A header that led to the reader's own
 * listener named no destination (`none'), but it still named the client. The kernel may not be able
 * to tell a connection to this host's own address from a redirected one; the program that has the
 * listener can.
 */
static int take_said(struct transparent_connection *c, struct failure *why)
{
	const char *by = getenv("TPROXY_ORIGDST_BY");
	bool meant = is_meant(c->fd);

	if (!by)
		return 0;
	if (meant && take_end("TPROXY_CLIENT", &c->client, why) < 0)
		return -1;
	if (meant && strcmp(by, transparent_origin_name(ORIGIN_TPROXY)) == 0 &&
	    c->origin == ORIGIN_NONE) {
		c->origin = ORIGIN_TPROXY;
		c->origdst = c->local;
	}
	if (strcmp(by, transparent_origin_name(ORIGIN_PROXY)) != 0)
		return 0;
	if (!meant)
		return refuse_variable("TPROXY_COOKIE", "is not that of the socket on fd 0", why);
	if (take_end("TPROXY_ORIGDST", &c->origdst, why) < 0)
		return -1;
	c->origin = ORIGIN_PROXY;
	return 0;
}

/* ---- loops ---- */

/* Is it the same program, whatever name it was started under? */
static bool is_ours(uint32_t inode)
{
	struct failure why;
	struct sockowner_list *owners = sockowner_read(NULL, &why);
	const struct sockowner *owner = owners ? sockowner_find(owners, inode) : NULL;
	bool ours = owner && strncmp(owner->name, program_invocation_short_name,
				     SOCKOWNER_NAME_MAX - 1) == 0;

	sockowner_free(owners);
	return ours;
}

/* Find the socket on this host, if any, that opened the connection. */
static bool find_other_end(const struct transparent_connection *c, struct sockdiag_socket *other)
{
	const struct endpoint *to = c->origin == ORIGIN_NONE ? &c->local : &c->origdst;
	struct failure why;
	struct sockdiag *diag = sockdiag_open(&why);
	bool found = diag &&
		     sockdiag_lookup(diag, IPPROTO_TCP, to, &c->client, 0, other, &why) == 1 &&
		     endpoint_equal(&other->local, &c->client) && endpoint_equal(&other->peer, to);

	sockdiag_close(diag);
	return found;
}

static bool is_leg(const struct transparent_connection *c, const struct mark *legs)
{
	struct sockdiag_socket other;

	if (!find_other_end(c, &other))
		return false;
	if (other.has_mark && legs->value)
		return (other.mark & legs->mask) == (legs->value & legs->mask);
	return other.inode && is_ours(other.inode);
}

/* ---- taking it ---- */

/* No duplicate of ours may keep the connection open, or receive what is meant for others. */
static int leave_standard(struct failure *why)
{
	bool client[] = { true, inetd_is_client(STDOUT_FILENO), inetd_is_client(STDERR_FILENO) };

	for (int fd = 2; fd >= 0; fd--)
		if (client[fd] && put_null(fd) < 0)
			return report_fail(why, errno, "open", "/dev/null");
	return 0;
}

int inetd_take(const struct transparent_listen_options *options, const struct mark *legs,
	       struct inetd_client *out, struct failure *why)
{
	struct transparent_connection *c = &out->connection;
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (fd < 0 && errno != EBADF) {
		report_fail(why, errno, "dup", "fd 0");
		return STATUS_REFUSED;
	}
	if (transparent_take(fd, options, c, why) < 0) {
		int status = why->err ? STATUS_REFUSED : STATUS_USAGE;

		if (fd >= 0)
			close(fd);
		report_about(why, "--inetd: fd 0");
		return status;
	}
	out->loops = is_leg(c, legs);
	if (take_said(c, why) == 0 && leave_standard(why) == 0)
		return STATUS_DONE;
	transparent_reset(fd);
	return STATUS_REFUSED;
}
