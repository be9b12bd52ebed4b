/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/become.h"

#include "base/report.h"
#include "process/command.h"
#include "process/notify.h"
#include "tproxy-setup/plan_systemd.h"
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static int wait_for_end(void)
{
	struct failure why;
	sigset_t ends;
	int signal;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	if (notify_send("READY=1\nSTATUS=intercepts; somebody else serves", &why))
		return report_failure(&why, STATUS_REFUSED);
	sigwait(&ends, &signal);
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
