/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * finding - one result of a check of the doctor.
 */
#ifndef TPROXY_SETUP_DOCTOR_FINDING_H
#define TPROXY_SETUP_DOCTOR_FINDING_H

/* ok: as it should be; warn: works, or cannot be decided, but should be known; fail: broken. */
enum doctor_severity { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

/* What a check found. Texts are borrowed for the duration of the call. */
struct doctor_finding {
	const char *check; /* `src-valid-mark`; a check may have several findings */
	enum doctor_severity severity;
	const char *evidence; /* what was seen, and where */
	const char *why;      /* why it matters; "" when ok */
	const char *fix;      /* the command (for sh) that fixes it; "": `why` says what to do */
};
typedef void doctor_listener(const struct doctor_finding *finding, void *context);

#endif
