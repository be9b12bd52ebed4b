/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/steps.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *step_severity_name(enum step_severity severity)
{
	static const char *const names[] = {
		[STEP_OK] = "ok",
		[STEP_WARN] = "warn",
		[STEP_FAIL] = "fail",
	};

	return names[severity];
}

static bool grow(struct steps *s)
{
	size_t room = s->room ? 2 * s->room : 32;
	struct step *grown = realloc(s->at, room * sizeof(*grown));

	if (!grown)
		return false;
	s->at = grown;
	s->room = room;
	return true;
}

void steps_add(struct steps *s, const char *name, enum step_severity severity, const char *where,
	       const char *evidence, ...)
{
	struct step *step;
	char text[1024];
	va_list ap;

	va_start(ap, evidence);
	vsnprintf(text, sizeof(text), evidence, ap);
	va_end(ap);
	if (s->count == s->room && !grow(s)) {
		s->lost = true;
		return;
	}
	step = &s->at[s->count++];
	*step = (struct step){ name, severity, strdup(where), strdup(text), 0 };
	s->lost |= !step->where || !step->evidence;
}

void steps_time(struct steps *s, uint64_t microseconds)
{
	if (s->count)
		s->at[s->count - 1].time = microseconds;
}

void steps_conclude(struct steps *s, const char *reason, const char *fix, const char *words, ...)
{
	va_list ap;

	if (s->reason)
		return;
	s->reason = reason;
	va_start(ap, words);
	vsnprintf(s->words, sizeof(s->words), words, ap);
	va_end(ap);
	/* A truncated command is another command. */
	if (strlen(fix) < sizeof(s->fix))
		strcpy(s->fix, fix);
}

bool steps_over(const struct steps *s)
{
	return s->reason != NULL;
}

bool steps_concluded(const struct steps *s, const char *reason)
{
	return s->reason && !strcmp(s->reason, reason);
}

void steps_free(struct steps *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->at[i].where);
		free(s->at[i].evidence);
	}
	free(s->at);
	*s = (struct steps){ 0 };
}
