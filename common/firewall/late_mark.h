/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * late_mark - rules that mark packets too late for --not-mark and conntrack zones together.
 *
 * A zone is chosen before connection tracking. A mark that is set after that, and excludes the packet
 * all the same, leaves it forwarded in a zone in which its answers are not looked for: connection
 * tracking takes these for another connection with the same addresses and ports, and drops them.
 */
#ifndef TPROXY_FIREWALL_LATE_MARK_H
#define TPROXY_FIREWALL_LATE_MARK_H

#include "firewall/firewall.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/* Longest description of a rule, with the terminating NUL. */
#define LATE_MARK_TEXT_MAX 400

/* Longest notice of late_mark_look(), with the terminating NUL. */
#define LATE_MARK_NOTICE_MAX 640

/* Is there such a rule for this specification? Describes the first one. */
bool late_mark_find(const struct firewall *firewall, const struct intercept *spec,
		    char text[LATE_MARK_TEXT_MAX]);

/* The same for who has not read the rules, with what happens and what to do; false, and the notice is
 * as it was, if there is none, or they cannot be read. */
bool late_mark_look(struct nft *rules, const struct intercept *spec,
		    char notice[LATE_MARK_NOTICE_MAX]);

#endif
