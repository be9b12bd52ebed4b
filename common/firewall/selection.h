/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * selection - which sources, destinations and ports a rule names.
 *
 * It does not say what the rule does to a packet, which is rule_eval's job: it helps to make up
 * packets that the rule might match, and says whether the rule looks at anything but the
 * destination.
 */
#ifndef TPROXY_FIREWALL_SELECTION_H
#define TPROXY_FIREWALL_SELECTION_H

#include "base/endpoint.h"
#include "firewall/firewall.h"
#include <stdbool.h>

#define SELECTION_MAX 16

/* Up to SELECTION_MAX of each kind, in order; empty: the rule names none. */
struct selection {
	struct cidr source[SELECTION_MAX], destination[SELECTION_MAX];
	struct port_range port[SELECTION_MAX]; /* destination ports */
	unsigned sources, destinations, ports;
	bool exact; /* it asks for nothing else, except a protocol and a new connection */
};

void selection_read(const struct firewall *firewall, const struct firewall_chain *chain,
		    const json_t *rule, struct selection *out);

#endif
