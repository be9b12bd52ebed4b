/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan_firewall - what makes another program's firewall accept intercepted packets for good.
 *
 * They pass INPUT with a destination that is not this host's, and these programs drop that. A rule
 * that is only inserted in the kernel is lost when they load their own again; so this changes their
 * configuration.
 */
#ifndef TPROXY_SETUP_PLAN_FIREWALL_H
#define TPROXY_SETUP_PLAN_FIREWALL_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdio.h>

enum plan_firewall_tool { PLAN_FIREWALLD, PLAN_FIREWALL_UFW, PLAN_FIREWALL_FW4 };

/* Can that program be told of an instance of this name; and of this specification, apart from its
 * name? 0, or -1 with *why, which says what to do instead. */
int plan_firewall_check_name(const struct intercept *spec, enum plan_firewall_tool tool,
			     struct failure *why);
int plan_firewall_check(const struct intercept *spec, enum plan_firewall_tool tool,
			struct failure *why);

/* A name that every program takes, made of an instance's that one of them does not take: what is
 * possible of it, and a hash, so that two instances have two. */
void plan_firewall_fit_name(const char *name, char fitting[INTERCEPT_NAME_MAX + 1]);

/* Print commands for sh; those that undo them follow as comments. Run again, they replace what they
 * did before. 0, or -1 with *why: the instance's name or an option does not fit there. */
int plan_firewall(const struct intercept *spec, enum plan_firewall_tool tool, FILE *out,
		  struct failure *why);

#endif
