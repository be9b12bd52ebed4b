/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor - what in this machine would break an interception, with evidence and the fix.
 *
 * A table of checks is run over a specification and the kernel's state. Each check tells what it saw,
 * where, why that matters and the command that mends it. Nothing is ever changed. The kernel's own
 * decisions (RTM_GETROUTE with mark and interface, the socket lookup) count for more than settings.
 */
#ifndef TPROXY_SETUP_DOCTOR_DOCTOR_H
#define TPROXY_SETUP_DOCTOR_DOCTOR_H

#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/* ok: as it should be; warn: works, or cannot be decided, and should be known; fail: it breaks. */
enum doctor_severity { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

/* `ok`, `warn`, `fail`. */
const char *doctor_severity_name(enum doctor_severity severity);

/* What a check found. Texts are borrowed for the duration of the call. */
struct doctor_finding {
	const char *check; /* `src-valid-mark`; a check may have several findings */
	enum doctor_severity severity;
	const char *evidence; /* what was seen, and where */
	const char *why;      /* why it matters; "" when ok */
	const char *fix;      /* the command (for sh) that mends it; "" when ok */
};
typedef void doctor_listener(const struct doctor_finding *finding, void *context);

/*
 * Examine the machine for `spec` (validated and decided), which is that of the installed instance when
 * `installed`. Every check reports at least one finding. Returns 0, or -1 with *why when the kernel's
 * state could not be read at all.
 */
int doctor_examine(struct instance *kernel, const struct intercept *spec, bool installed,
		   doctor_listener *report, void *context, struct failure *why);

#endif
