/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spec_check - contradictions in a specification.
 */
#ifndef TPROXY_INTERCEPT_SPEC_CHECK_H
#define TPROXY_INTERCEPT_SPEC_CHECK_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/*
 * Bring it into its canonical form (lists sorted and merged, families narrowed to those that the
 * addresses allow) and find contradictions. ipv4_only/ipv6_only: the options -4 and -6 as typed.
 * Returns 0, or -1 with *why naming the options; then it is a user error.
 */
int spec_check(struct intercept *spec, bool ipv4_only, bool ipv6_only, struct failure *why);

/*
 * Which option prevents the right choice of conntrack zones: the zones of the legs are chosen
 * before connection tracking (priority raw), when it is not known yet whether a mark excludes the
 * packet (other programs set marks at priority mangle) and whether anybody listens. NULL: none.
 */
const char *spec_check_zone_unfit(const struct intercept *spec);

/* Check marks, table, preference and zone only: for a stored specification. 0, or -1 with *why. */
int spec_check_numbers(const struct intercept *spec, struct failure *why);

#endif
