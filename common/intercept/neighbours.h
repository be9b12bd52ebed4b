/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * neighbours - the other installed instances: which of them a new one would conflict with, and what
 * they share.
 */
#ifndef TPROXY_INTERCEPT_NEIGHBOURS_H
#define TPROXY_INTERCEPT_NEIGHBOURS_H

#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include "net/route.h"
#include <stdbool.h>
#include <stddef.h>

/* An instance whose specification cannot be read has every family and protocol, and table 0: it may
 * cover anything. */
struct neighbours {
	struct intercept *at;
	size_t count;
};

/* Read all instances except `name`. contents: with their lists. 0, or -1 with *why; the caller
 * frees *n in any case. */
int neighbours_read(struct instance *kernel, const char *name, bool contents, struct neighbours *n,
		    struct failure *why);
void neighbours_free(struct neighbours *n);

/* Refuse a specification that takes the marks or packets of one of them (read with contents). 0, or
 * -1 with *why and a hint. */
int neighbours_check(struct instance *kernel, const struct intercept *spec,
		     const struct neighbours *n, struct failure *why);

/* Which of the plan's rule and route one of them uses, too. */
struct route_state neighbours_share(const struct neighbours *n, const struct route_plan *plan);

#endif
