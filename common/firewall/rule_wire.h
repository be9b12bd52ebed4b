/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rule_wire - a rule of nf_tables, as netlink tells it, in nft's JSON words.
 *
 * libnftables takes ten times as long for a list of rules as the kernel does. Nearly all rules of a
 * long list are alike and plain: addresses, ports, interfaces, connection states, extensions of
 * iptables, a verdict. Those are read here; whatever else a rule has is left to libnftables.
 */
#ifndef TPROXY_FIREWALL_RULE_WIRE_H
#define TPROXY_FIREWALL_RULE_WIRE_H

#include "firewall/first_match.h"
#include <jansson.h>
#include <stdint.h>

struct rule_wire {
	uint8_t family;	  /* its table's: NFPROTO_INET, ... */
	const void *data; /* of NFTA_RULE_EXPRESSIONS, aligned to 4 bytes; borrowed */
	int size;
};

/* The same as first_match_of() says of the rule's JSON. */
struct first_match rule_wire_first(const struct rule_wire *rule);

/* Its statements, which come to the same for a packet as those that libnftables lists: it hides
 * some matches on protocols, and details of log and reject are left out here. The caller frees
 * them. NULL: the rule has something else, or there is no memory. */
json_t *rule_wire_statements(const struct rule_wire *rule);

#endif
