/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * findings - collects what the doctor's checks found, until all of them have run.
 *
 * Two fixes that are a `tproxy-setup up` must be combined: the second would undo the first. So a
 * finding only says that it takes another `up`, and the command is written when every check has
 * added its options. The worst findings are reported first.
 */
#ifndef TPROXY_SETUP_DOCTOR_FINDINGS_H
#define TPROXY_SETUP_DOCTOR_FINDINGS_H

#include "base/report.h"
#include "tproxy-setup/doctor/finding.h"
#include <stdbool.h>
#include <stddef.h>

struct findings_entry {
	const char *check; /* borrowed */
	enum doctor_severity severity;
	char *evidence, *why, *fix;
	bool up; /* after `fix` comes the one `up` */
};

/* A list that grows; all zero is an empty one. */
struct findings {
	struct findings_entry *at;
	size_t count, room;
	bool lost; /* memory ran out */
};

/* Keep a copy; nothing is printed. `up`: finding->fix comes before that command. */
void findings_add(struct findings *findings, const struct doctor_finding *finding, bool up);

/* Report all findings, the worst first, in the order of arrival within each severity. up_command:
 * the command for `up`; "" if it cannot be written, and then such findings have no command. 0, or
 * -1 with *why. */
int findings_tell(const struct findings *findings, const char *up_command, doctor_listener *report,
		  void *context, struct failure *why);
void findings_free(struct findings *findings);

#endif
