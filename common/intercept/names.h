/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * names - the names of the installed instances.
 */
#ifndef TPROXY_INTERCEPT_NAMES_H
#define TPROXY_INTERCEPT_NAMES_H

#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include <stddef.h>

struct names {
	char (*at)[INTERCEPT_NAME_MAX + 1];
	size_t count;
};

/* 0, or -1 with *why; the caller frees *names in any case. */
int names_read(struct instance *kernel, struct names *names, struct failure *why);
void names_free(struct names *names);

/* `installed: one, two`, or `nothing is installed`; shortened to fit. Returns buf. */
const char *names_text(const struct names *names, char *buf, size_t size);

#endif
