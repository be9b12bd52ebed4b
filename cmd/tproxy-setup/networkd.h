/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * networkd - does systemd-networkd run here, and does it remove what others set up?
 *
 * Whenever it configures an interface (at its start, when an interface appears, on `networkctl
 * reconfigure`) it removes all routing rules that it did not make and that do not have the kernel's
 * protocol tag, unless networkd.conf(5) has ManageForeignRoutingPolicyRules=no; tested with version
 * 252. ManageForeignRoutes= does not affect us: networkd leaves routes on lo alone, even if it
 * manages lo.
 */
#ifndef TPROXY_SETUP_NETWORKD_H
#define TPROXY_SETUP_NETWORKD_H

#include <stdbool.h>

struct networkd_state {
	long pid; /* 0: it does not run in this network namespace */
	bool removes_rules;
	char source[160]; /* the file that sets it, or `the default` */
};

void networkd_look(struct networkd_state *state);

#endif
