/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The connected socket; -1: none. We try once. */
static int notify_socket = -1;
static bool notify_tried;

static int fail_to_notify(struct failure *why, int err, const char *call)
{
	return report_fail(why, err, call, "NOTIFY_SOCKET %s", getenv("NOTIFY_SOCKET"));
}

int notify_open(struct failure *why)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;
	int fd, err;

	if (!length || notify_tried)
		return 0;
	notify_tried = true;
	if (length >= sizeof(to.sun_path))
		return fail_to_notify(why, ENAMETOOLONG, "connect");
	memcpy(to.sun_path, path, length);
	if (path[0] == '@') /* an abstract name */
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail_to_notify(why, errno, "socket");
	if (connect(fd, (struct sockaddr *)&to,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0) {
		notify_socket = fd;
		return 0;
	}
	err = errno;
	close(fd);
	return fail_to_notify(why, err, "connect");
}

/* #syscalls base: send */
int notify_send(const char *state, struct failure *why)
{
	if (notify_open(why) < 0)
		return -1;
	if (notify_socket >= 0 && send(notify_socket, state, strlen(state), MSG_NOSIGNAL) < 0)
		return fail_to_notify(why, errno, "send");
	return 0;
}

/* #syscalls base: send */
void notify_try(const char *state)
{
	if (notify_open(NULL) == 0 && notify_socket >= 0)
		(void)!send(notify_socket, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT);
}

int notify_check_fd(uint32_t fd, struct failure *why)
{
	int flags;

	if (fd <= STDERR_FILENO)
		return report_refuse(why, "--ready-fd %u: is a standard descriptor", fd);
	flags = fcntl((int)fd, F_GETFL);
	if (flags < 0)
		return report_refuse(why, "--ready-fd %u: is not open", fd);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return report_refuse(why, "--ready-fd %u: is not open for writing", fd);
	return 0;
}

void notify_ready(uint32_t fd)
{
	if (!fd)
		return;
	if (write((int)fd, "\n", 1) != 1)
		report_warning("--ready-fd %u: %s", fd, strerror(errno));
	close((int)fd);
}
