/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/findings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool grow(struct findings *f)
{
	size_t room = f->room ? 2 * f->room : 64;
	struct findings_entry *grown = realloc(f->at, room * sizeof(*grown));

	if (!grown)
		return false;
	f->at = grown;
	f->room = room;
	return true;
}

void findings_add(struct findings *f, const struct doctor_finding *finding, bool up)
{
	struct findings_entry *e;

	if (f->count == f->room && !grow(f)) {
		f->lost = true;
		return;
	}
	e = &f->at[f->count++];
	*e = (struct findings_entry){
		.check = finding->check,
		.severity = finding->severity,
		.evidence = strdup(finding->evidence),
		.why = strdup(finding->why),
		.fix = strdup(finding->fix),
		.up = up,
	};
	f->lost |= !e->evidence || !e->why || !e->fix;
}

/* Longest command: `up` and what comes before it. */
#define FIX_MAX 1024

static void tell(const struct findings_entry *e, const char *up_command, doctor_listener *report,
		 void *context)
{
	char fix[FIX_MAX];
	const struct doctor_finding finding = {
		e->check, e->severity, e->evidence, e->why, e->up ? fix : e->fix,
	};

	/* A truncated command is another command. */
	if (!*up_command || snprintf(fix, sizeof(fix), "%s%s%s", e->fix, *e->fix ? " && " : "",
				     up_command) >= FIX_MAX)
		fix[0] = '\0';
	report(&finding, context);
}

int findings_tell(const struct findings *f, const char *up_command, doctor_listener *report,
		  void *context, struct failure *why)
{
	if (f->lost)
		return report_fail(why, ENOMEM, "malloc", "what was found");
	for (int severity = DOCTOR_FAIL; severity >= DOCTOR_OK; severity--)
		for (size_t i = 0; i < f->count; i++)
			if ((int)f->at[i].severity == severity)
				tell(&f->at[i], up_command, report, context);
	return 0;
}

void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->at[i].evidence);
		free(f->at[i].why);
		free(f->at[i].fix);
	}
	free(f->at);
	*f = (struct findings){ 0 };
}
