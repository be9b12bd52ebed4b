/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan_systemd - a specification as a systemd unit.
 *
 * Three kinds of unit:
 *
 *   without a command	`up` and `down`, as an ordinary user with the capabilities for that
 *   a program of ours	the program in a sandbox without the right to change rules; systemd itself
 *			runs `up` when it is ready and `down` before it is told to end, outside
 *			the sandbox
 *   another command	under `run`, in no sandbox: what it needs is not known here
 *
 * Programs of ours are tproxy-relay, and tproxy-listen without a command of its own.
 */
#ifndef TPROXY_SETUP_PLAN_SYSTEMD_H
#define TPROXY_SETUP_PLAN_SYSTEMD_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>
#include <stdio.h>

/* The input of the unit. */
struct plan_systemd {
	const struct intercept *spec;
	const char *program; /* the path of tproxy-setup */
	const char *netns;   /* a network namespace's name, or NULL */
	char **command;	     /* NULL-terminated, or NULL */
};

/* Print the unit. 0, or -1 with *why: an option that a unit cannot express is refused by name. */
int plan_systemd(const struct plan_systemd *plan, FILE *out, struct failure *why);

/* Is the command (or NULL) one that works in the sandbox of our programs? */
bool plan_systemd_is_ours(char **command);

#endif
