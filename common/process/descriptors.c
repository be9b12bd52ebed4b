/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/descriptors.h"

#include "base/libc.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <unistd.h>

int descriptors_guard(struct failure *why)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return report_fail(why, errno, "open", "/dev/null");
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return report_fail(why, errno, "close_range", "inherited descriptors");
	return 0;
}

int descriptors_raise_limit(uint64_t *files, struct failure *why)
{
	struct rlimit had, wanted;

	if (getrlimit(RLIMIT_NOFILE, &had) < 0)
		return report_fail(why, errno, "getrlimit", "open files");
	wanted = (struct rlimit){ had.rlim_max, had.rlim_max };
	if (setrlimit(RLIMIT_NOFILE, &wanted) < 0)
		wanted = had;
	if (files)
		*files = wanted.rlim_cur;
	return 0;
}

int descriptors_set_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}
