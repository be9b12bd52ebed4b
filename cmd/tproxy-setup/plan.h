/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan - a specification in the languages of other tools, as `tproxy-setup plan` prints it.
 *
 * Each format is accepted, as printed, by the tool it is for. nft_text makes the nft text, the same
 * that `up` loads; plan_systemd makes units, plan_firewall
 * adapts other firewalls.
 */
#ifndef TPROXY_SETUP_PLAN_H
#define TPROXY_SETUP_PLAN_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>
#include <stdio.h>

/* The routing as ip(8) commands, for sh; the commands that undo it follow as comments. 0, or -1
 * with *why. */
int plan_ip(const struct intercept *spec, FILE *out, struct failure *why);

/*
 * The rules as iptables(8) and ip6tables(8) commands and the routing as ip(8) commands, for sh; the
 * commands that undo them follow as comments. The routing does not have our tag: `down` cannot
 * remove the rules, so it leaves everything in place. `reject`: --no-listener reject was given, not
 * only the default. An option that iptables cannot express is refused by name: -1 with *why.
 */
int plan_iptables(const struct intercept *spec, bool reject, FILE *out, struct failure *why);

/* Each command that undoes a plan for sh begins with that, a comment to sh; the head of these
 * commands says how to run them. */
#define PLAN_UNDO "#undo "
void plan_put_undo_head(FILE *out);

/* Everything as one JSON object on one line. 0, or -1 with *why (no memory). */
int plan_json(const struct intercept *spec, FILE *out, struct failure *why);

#endif
