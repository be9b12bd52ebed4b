/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * install - put a specification into the kernel, all or nothing.
 *
 * The order is: routes, then rules (nothing is marked before it can be routed), and undo in
 * reverse.
 */
#ifndef TPROXY_SETUP_INSTALL_H
#define TPROXY_SETUP_INSTALL_H

#include "base/report.h"
#include "intercept/instance.h"
#include "intercept/intercept.h"
#include "intercept/nft.h"
#include <sys/socket.h>

/*
 * Settle what the specification leaves to this machine: a family that cannot be used here is left
 * out (unless it is `demanded`, AF_UNSPEC for none), and --conntrack auto becomes a mode. `notice`
 * gets what the user should know, "" if nothing. With a kernel that is not open (all zero) auto is
 * off. 0, or -1 with *why.
 */
int install_decide(struct instance *kernel, struct intercept *spec, sa_family_t demanded,
		   char notice[256], struct failure *why);

/*
 * Keep for good what `up` put on probation (confirm_ms of the specification). *lease is what it
 * was: only LEASE_PENDING is changed. 0, or -1 with *why.
 */
int install_confirm(struct instance *kernel, const char *name, enum nft_lease *lease,
		    struct failure *why);

/* What `up` came to. */
enum install_outcome { INSTALL_UNCHANGED, INSTALL_NEW, INSTALL_REPLACED };

/*
 * Put the (validated and decided) specification in place; if it is there, intact, nothing at all is
 * touched. On failure everything is as before the call. 0, or -1 with *why.
 */
int install_up(struct instance *kernel, const struct intercept *spec, enum install_outcome *outcome,
	       struct failure *why);

#endif
