/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan - a specification as the text of other tools: what `tproxy-setup plan` prints.
 *
 * Each format is accepted as printed by the tool it is for. The nft text is nft_text's, the one
 * that `up` loads; units are plan_systemd's.
 */
#ifndef TPROXY_SETUP_PLAN_H
#define TPROXY_SETUP_PLAN_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>
#include <stdio.h>

/* Routing as commands of ip(8), for sh; and their undoing, as comments. 0, or -1 with *why. */
int plan_ip(const struct intercept *spec, FILE *out, struct failure *why);

/*
 * The rules as commands of iptables(8) and ip6tables(8), the routing as those of ip(8), for sh, and
 * their undoing, as comments. The routing has not our tag: `down` cannot take the rules away, and
 * leaves all of it. `reject`: --no-listener reject was asked for, not only the default. What
 * iptables cannot express is refused by name: -1 with *why.
 */
int plan_iptables(const struct intercept *spec, bool reject, FILE *out, struct failure *why);

/* Everything as one JSON object on one line. 0, or -1 with *why (no memory). */
int plan_json(const struct intercept *spec, FILE *out, struct failure *why);

#endif
