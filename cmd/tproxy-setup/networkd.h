/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * networkd - is systemd-networkd at work here, and does it remove what others set up?
 *
 * Whenever it configures an interface (at its start, when one appears, by `networkctl reconfigure`)
 * it removes all routing rules that it did not make and that do not have the kernel's protocol tag,
 * unless networkd.conf(5) has ManageForeignRoutingPolicyRules=no; tried with version 252.
 * ManageForeignRoutes= is no concern of ours: it leaves routes on lo alone, also where it manages
 * lo.
 */
#ifndef TPROXY_SETUP_NETWORKD_H
#define TPROXY_SETUP_NETWORKD_H

#include <stdbool.h>

struct networkd_state {
	long pid; /* 0: it does not run in this network namespace */
	bool removes_rules;
	char source[160]; /* the file that says so, or `the default` */
};

void networkd_look(struct networkd_state *state);

#endif
