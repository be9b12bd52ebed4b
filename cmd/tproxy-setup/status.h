/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * status - what is intercepted, for a person or a script.
 *
 * A line for each instance (what is intercepted, where it is delivered, who listens there, whether
 * it is intact, the number of connections), or a record for each part.
 */
#ifndef TPROXY_SETUP_STATUS_H
#define TPROXY_SETUP_STATUS_H

#include "base/record_table.h"
#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include <stdbool.h>

struct status_question {
	const char *name;		  /* NULL: all installed instances */
	const struct intercept *asked;	  /* also compare with this (decided); or NULL */
	const struct record_style *style; /* with json: everything, one object per line */
	bool parts;			  /* a record for each part, not a line for each instance */
};

/* Print it. STATUS_DONE if everything is installed, intact and served; else STATUS_NO, STATUS_USAGE
 * (already reported), or -1 with *why. */
int status_print(struct instance *kernel, const struct status_question *q, struct failure *why);

#endif
