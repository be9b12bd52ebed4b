/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/listen_fds.h"

#include "base/quantity.h"
#include "process/descriptors.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Move the descriptors to 3, 4, ...: first out of each other's way, then into place. */
static int place_descriptors(int *fds, size_t count, struct failure *why)
{
	int beyond = LISTEN_FDS_FIRST + (int)count;

	for (size_t i = 0; i < count; i++) {
		int copy = fds[i];

		if (copy < beyond && copy != LISTEN_FDS_FIRST + (int)i)
			copy = fcntl(copy, F_DUPFD_CLOEXEC, beyond);
		if (copy < 0)
			return report_fail(why, errno, "fcntl(F_DUPFD_CLOEXEC)", "listener");
		fds[i] = copy;
	}
	for (size_t i = 0; i < count; i++) {
		int place = LISTEN_FDS_FIRST + (int)i;

		if (fds[i] == place ? fcntl(place, F_SETFD, 0) < 0 : dup2(fds[i], place) < 0)
			return report_fail(why, errno, "dup2", "listener");
		if (descriptors_set_blocking(place) < 0)
			return report_fail(why, errno, "fcntl", "listener");
	}
	return 0;
}

/* NOTIFY_SOCKET is left to the command: it knows better when it is ready. */
static int set_listen_variables(const char *const *names, size_t count)
{
	char list[LISTEN_FDS_MAX * 8] = "", number[24];

	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof(list) - used, "%s%s", i ? ":" : "", names[i]);
	}
	snprintf(number, sizeof(number), "%zu", count);
	if (setenv("LISTEN_FDS", number, 1) || setenv("LISTEN_FDNAMES", list, 1))
		return -1;
	snprintf(number, sizeof(number), "%d", (int)getpid());
	return setenv("LISTEN_PID", number, 1);
}

int listen_fds_become(struct command *command, int *fds, const char *const *names, size_t count,
		      struct failure *why)
{
	if (place_descriptors(fds, count, why) < 0)
		return -1;
	if (set_listen_variables(names, count) < 0)
		return report_fail(why, errno, "setenv", "LISTEN_FDS");
	execv(command->path, command->argv);
	return report_fail(why, errno, "execv", "%s", command->path);
}

static void forget_listen_variables(void)
{
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
}

int listen_fds_take(struct failure *why)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	uint64_t count = 0, target = 0;

	if (!fds || !pid)
		return 0;
	if (quantity_number(pid, 1, INT32_MAX, &target, why) < 0)
		return report_about(why, "LISTEN_PID=%s", pid);
	if (target == (uint64_t)getpid() &&
	    quantity_number(fds, 1, LISTEN_FDS_MAX, &count, why) < 0)
		return report_about(why, "LISTEN_FDS=%s", fds);
	for (int i = 0; i < (int)count; i++)
		if (fcntl(LISTEN_FDS_FIRST + i, F_SETFD, FD_CLOEXEC) < 0)
			return report_fail(why, errno, "fcntl", "LISTEN_FDS=%s: fd %d", fds,
					   LISTEN_FDS_FIRST + i);
	forget_listen_variables();
	return (int)count;
}
