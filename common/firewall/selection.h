/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * selection - which sources, destinations and ports a rule names.
 *
 * Not what it does to a packet, which rule_eval knows: this makes up packets that it might be
 * about, and says whether the destination is all that it looks at.
 */
#ifndef TPROXY_FIREWALL_SELECTION_H
#define TPROXY_FIREWALL_SELECTION_H

#include "base/endpoint.h"
#include "firewall/firewall.h"
#include <stdbool.h>

#define SELECTION_MAX 16

/* Up to SELECTION_MAX of each kind, in their order; none: it does not name any. */
struct selection {
	struct cidr source[SELECTION_MAX], destination[SELECTION_MAX];
	struct port_range port[SELECTION_MAX]; /* destination ports */
	unsigned sources, destinations, ports;
	bool exact; /* that is all that it asks for, but for a protocol and a new connection */
};

void selection_read(const struct firewall *firewall, const struct firewall_chain *chain,
		    const json_t *rule, struct selection *out);

#endif
