/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/become.h"

#include "base/report.h"
#include "process/command.h"
#include "process/notify.h"
#include "process/watchdog.h"
#include "tproxy-setup/plan_systemd.h"
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Wait for one of the signals, and tell the service manager meanwhile that this process is alive. */
static void wait_for(const sigset_t *ends)
{
	uint64_t ms = watchdog_interval();
	const struct timespec interval = { .tv_sec = (time_t)(ms / 1000),
					   .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (sigtimedwait(ends, NULL, ms ? &interval : NULL) < 0)
		if (errno == EAGAIN)
			watchdog_feed();
}

static int wait_for_end(void)
{
	struct failure why;
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	if (notify_send("READY=1\nSTATUS=intercepts; somebody else serves", &why))
		return report_failure(&why, STATUS_REFUSED);
	wait_for(&ends);
	return STATUS_DONE;
}

int become_command(char **command)
{
	struct command found;
	struct failure why;
	int err;

	if (!*command)
		return wait_for_end();
	if (!plan_systemd_is_ours(command)) {
		report_error(
			"COMMAND: %s: not tproxy-relay, and not tproxy-listen without a command; "
			"others need a unit of their own, and an empty COMMAND here",
			*command);
		return STATUS_USAGE;
	}
	if (command_find(&found, command, &why)) {
		report_failure(&why, STATUS_NOT_FOUND);
		return command_exit_status(&why);
	}
	execv(found.path, command);
	err = errno;
	report_error("%s: %s", found.path, strerror(err));
	command_free(&found);
	return STATUS_CANNOT_RUN;
}
