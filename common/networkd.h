/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * networkd - is systemd-networkd at work here, and does it remove what others set up?
 *
 * networkd.conf(5): at its start it removes rules and routes that it did not make, unless
 * ManageForeignRoutingPolicyRules= and ManageForeignRoutes= say no.
 */
#ifndef TPROXY_NETWORKD_H
#define TPROXY_NETWORKD_H

#include <stdbool.h>

struct networkd_state {
	long pid; /* 0: it does not run in this network namespace */
	bool removes_rules, removes_routes;
	char source[160]; /* the file that says so, or `the default` */
};

void networkd_look(struct networkd_state *state);

#endif
