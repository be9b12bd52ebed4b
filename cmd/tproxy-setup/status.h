/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * status - what is intercepted, as a person or a script reads it.
 *
 * A line for each instance (what is taken, where it goes, who listens there, whether it is intact,
 * how many came), or a record for each part.
 */
#ifndef TPROXY_SETUP_STATUS_H
#define TPROXY_SETUP_STATUS_H

#include "base/record_table.h"
#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include <stdbool.h>

struct status_question {
	const char *name;		  /* NULL: all that are installed */
	const struct intercept *asked;	  /* compare with this (decided), too; or NULL */
	const struct record_style *style; /* with json: everything, one object a line */
	bool parts;			  /* a record for each part, not a line for each instance */
};

/* Print it. STATUS_DONE when all is there, intact and served; STATUS_NO, STATUS_USAGE (which it has
 * explained), or -1 with *why. */
int status_print(struct instance *kernel, const struct status_question *q, struct failure *why);

#endif
