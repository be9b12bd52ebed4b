/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keep - install an instance again whenever somebody else removes or changes a part of it.
 *
 * The kernel says when rules or routing change, whoever changes them, so it does not matter which
 * firewall is reloaded, or how. What tproxy-setup itself changes is accepted: after another `up`
 * that is kept, and after `down` nothing is.
 */
#ifndef TPROXY_SETUP_KEEP_H
#define TPROXY_SETUP_KEEP_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <sys/socket.h>

/* Keep the instance until SIGTERM or SIGINT, or until it is removed by `down`; the rules stay. The
 * specification is what is wished, which is decided again each time; `installed` is what `up` has
 * made of it, or the same, or NULL if that has failed. The family that is `demanded` is as in install_decide().
 * Sends READY=1. 0, or -1 with *why if the kernel's messages cannot be read. */
int keep_run(struct intercept *spec, const struct intercept *installed, sa_family_t demanded,
	     struct failure *why);

#endif
