/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * supervise - run a command, and keep something installed exactly as long as it runs.
 *
 * Theory of operation. Three processes:
 *
 *   wrapper     the one that was called: starts the command, forwards signals, returns its status
 *   command     the wrapper's child
 *   supervisor  the wrapper's other child, in its own session: the only one that installs and
 *               removes. It watches the wrapper through a socket; when that closes, however the
 *               wrapper ended, it ends the command and removes what it installed.
 *
 * So SIGKILL of the wrapper leaves nothing behind. The wrapper replaces a supervisor that was
 * killed. Only killing both at once leaves something behind.
 */
#ifndef TPROXY_SETUP_SUPERVISE_H
#define TPROXY_SETUP_SUPERVISE_H

#include "base/report.h"
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The callbacks that install and remove it. Each is called in the supervisor unless noted, and
 * reports its own failures; all return 0 or -1. */
struct supervise_work {
	/* Is the command ready? 1: yes; 0: not yet; or -1. Called in the wrapper, many times. */
	int (*ready)(void *context);
	int (*install)(void *context);
	/* Describe in buf, while the command is not ready, what is awaited and what there is
	 * instead. Processes of the command descend from `root`. Called in the wrapper. */
	void (*describe)(void *context, pid_t root, char *buf, size_t size);
	/* After the command has ended: does a process that it left behind serve what is
	 * intercepted? */
	bool (*left)(void *context, pid_t root);
	/* Intercept nothing new; the command is about to be told to end. */
	int (*end)(void *context);
	/* Remove everything; *hurry becomes true when there is no time to wait for connections. */
	int (*remove)(void *context, const volatile sig_atomic_t *hurry);
	void *context;
};

/*
 * Run argv with the work installed from the moment the command is ready (or sends READY=1 to the
 * NOTIFY_SOCKET it is given) until it ends or is told to end. Reports that it is not ready yet; a
 * command that puts itself in the background is a failure, and reported. Returns the status to exit
 * with: the command's own, 128 + N if signal N ended it, 126 or 127 if it could not be run,
 * STATUS_WRAPPER if the wrapper failed. Prints what goes wrong, as the command's own failure would
 * be seen.
 */
int supervise_run(char **argv, const struct supervise_work *work);

#endif
