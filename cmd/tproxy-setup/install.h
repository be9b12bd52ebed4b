/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * install - put a specification into the kernel, all or nothing.
 *
 * Routes first, then rules (nothing is marked before it can be routed); undone in reverse order.
 */
#ifndef TPROXY_SETUP_INSTALL_H
#define TPROXY_SETUP_INSTALL_H

#include "base/report.h"
#include "firewall/late_mark.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include "intercept/nft.h"
#include <sys/socket.h>

/* Longest notice of install_decide(), with the terminating NUL. */
#define INSTALL_NOTICE_MAX LATE_MARK_NOTICE_MAX

/*
 * Decide what the specification leaves to this machine: a family that cannot be used here is
 * dropped (unless it is `demanded`, AF_UNSPEC for none), and --conntrack auto becomes a mode.
 * `notice` gets what the user should know, or "". If `kernel` is not open (all zero), auto is off.
 * 0, or -1 with *why.
 */
int install_decide(struct instance *kernel, struct intercept *spec, sa_family_t demanded,
		   char notice[INSTALL_NOTICE_MAX], struct failure *why);

/*
 * Make permanent what `up` installed on probation (confirm_ms of the specification). *lease gets
 * the previous state: only LEASE_PENDING is changed. 0, or -1 with *why.
 */
int install_confirm(struct instance *kernel, const char *name, enum nft_lease *lease,
		    struct failure *why);

/* The outcome of `up`. */
enum install_outcome { INSTALL_UNCHANGED, INSTALL_NEW, INSTALL_REPLACED };

/*
 * Install the (validated and decided) specification. If it is installed and intact, nothing is
 * touched. On failure everything is as before the call. 0, or -1 with *why.
 */
int install_up(struct instance *kernel, const struct intercept *spec, enum install_outcome *outcome,
	       struct failure *why);

/*
 * Its parts, for who has to judge with the lock held. Is nothing to do (the lock itself changes the
 * rule set: do not take it without need)? 1, 0, or -1 with *why. The rest, with nft_lock() held,
 * which it may release: 0, or -1 with *why.
 */
int install_is_done(struct instance *kernel, const struct intercept *spec, struct failure *why);
int install_locked(struct instance *kernel, const struct intercept *spec,
		   enum install_outcome *outcome, struct failure *why);

#endif
