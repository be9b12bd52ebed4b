/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor - finds what on this machine would break an interception, with evidence and the fix.
 *
 * Runs a table of checks over a specification and the kernel's state. Each check reports what it
 * saw, where, why that matters and the command that fixes it. The doctor never changes anything.
 * The kernel's own decisions (RTM_GETROUTE with mark and interface, the socket lookup) take
 * precedence over settings.
 */
#ifndef TPROXY_SETUP_DOCTOR_DOCTOR_H
#define TPROXY_SETUP_DOCTOR_DOCTOR_H

#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include "tproxy-setup/doctor/finding.h"
#include <stdbool.h>

/* `ok`, `warn`, `fail`. */
const char *doctor_severity_name(enum doctor_severity severity);

/* The input of the doctor. */
struct doctor_input {
	struct instance *kernel;
	const struct intercept *spec; /* validated and decided; the default one if none is known */
	bool asked;		      /* the specification was given: it need not be installed */
	const struct instance_view *view; /* of the instance of that name, with contents */
};

/*
 * Examine the machine. Every check reports at least one finding, and the worst come first. Returns
 * 0, or -1 with *why if the kernel's state could not be read at all.
 */
int doctor_run(const struct doctor_input *input, doctor_listener *report, void *context,
	       struct failure *why);

#endif
