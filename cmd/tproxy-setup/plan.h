/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan - a specification as the text of other tools: what `tproxy-setup plan` prints.
 *
 * Each format is accepted as printed by the tool it is for. The nft text is nft_text's, the one that
 * `up` loads; units are plan_systemd's.
 */
#ifndef TPROXY_SETUP_PLAN_H
#define TPROXY_SETUP_PLAN_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdio.h>

/* Routing as commands of ip(8), for sh; and their undoing, as comments. */
void plan_ip(const struct intercept *spec, FILE *out);

/*
 * The rules as commands of iptables(8) and ip6tables(8), the routing as those of ip(8), for sh. What
 * iptables cannot express is refused by name: -1 with *why.
 */
int plan_iptables(const struct intercept *spec, FILE *out, struct failure *why);

/* Everything as one JSON object on one line. 0, or -1 with *why (no memory). */
int plan_json(const struct intercept *spec, FILE *out, struct failure *why);

#endif
