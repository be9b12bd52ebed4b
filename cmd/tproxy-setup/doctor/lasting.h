/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lasting - a rule that accepts what another program's rules drop is lost when that program loads
 * its own again; this tells how it is accepted then, too.
 */
#ifndef TPROXY_SETUP_DOCTOR_LASTING_H
#define TPROXY_SETUP_DOCTOR_LASTING_H

#include "tproxy-setup/doctor/context.h"

#define LASTING_MAX (CONTEXT_FIX_MAX + 700)

/* `why`, and for packets that `at` drops what has to be done with the program that has made the
 * rule: a command that `plan` accepts for this specification, or what cannot be told to that
 * program and what to do instead. Returns buf. */
const char *lasting(const struct doctor_context *x, const struct packet_path_step *at,
		    const char *why, char buf[LASTING_MAX]);

#endif
