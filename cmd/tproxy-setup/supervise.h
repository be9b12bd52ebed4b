/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * supervise - run a command, and keep something in place exactly as long as it runs.
 *
 * Theory of operation. Three processes:
 *
 *   wrapper  the one that was called: starts the command, forwards signals, passes its status on
 *   command  the wrapper's child
 *   supervisor   the wrapper's other child, in a session of its own: the only one that installs and
 *            removes. It learns of the wrapper through a socket; when that closes, however the wrapper
 *            ended, it ends the command and removes what it installed.
 *
 * So SIGKILL of the wrapper leaves nothing behind. A supervisor that was killed is replaced by the
 * wrapper. Only who kills both at once leaves something behind.
 */
#ifndef TPROXY_SETUP_SUPERVISE_H
#define TPROXY_SETUP_SUPERVISE_H

#include "base/report.h"
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What is kept in place. Each is called in the supervisor unless it says otherwise, and reports its
 * own failures; all return 0 or -1. */
struct supervise_work {
	/* Is the command ready for it? 1, 0 not yet, or -1. Called in the wrapper, many times. */
	int (*ready)(void *context);
	int (*install)(void *context);
	/* While it is not ready: what it waits for, and what there is, in buf. Processes of the
	 * command descend from `root`. Called in the wrapper. */
	void (*describe)(void *context, pid_t root, char *buf, size_t size);
	/* The command has ended: does a process that it left behind serve what is intercepted? */
	bool (*left)(void *context, pid_t root);
	/* Take nothing new; the command will be told to end. */
	int (*end)(void *context);
	/* Remove everything; *hurry becomes true when there is no time to be gentle. */
	int (*remove)(void *context, const volatile sig_atomic_t *hurry);
	void *context;
};

/*
 * Run argv with the work in place from the moment it is ready (or says READY=1 to the NOTIFY_SOCKET
 * it is given) until it ends or is told to end. While it is not ready that is told; and so is a
 * command that puts itself in the background, which is a failure. Returns the status to exit with:
 * the command's own, 128 + N if signal N ended it, 126 or 127 if it could not be run,
 * STATUS_WRAPPER if this failed. Prints what goes wrong, as the command's own failure would be
 * seen.
 */
int supervise_run(char **argv, const struct supervise_work *work);

#endif
