/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * link - the interfaces of this network namespace: up or down, bridges and their ports.
 *
 * Asks the kernel over netlink and not /sys, which shows the network namespace in which it was
 * mounted.
 */
#ifndef TPROXY_NET_LINK_H
#define TPROXY_NET_LINK_H

#include "base/report.h"
#include <net/if.h>
#include <stdbool.h>
#include <sys/socket.h>

struct link {
	char name[IFNAMSIZ];
	unsigned index;
	unsigned master; /* the bridge (or VRF, bond) it belongs to; 0: none */
	bool up;
	bool is_bridge, is_vrf;
	bool calls_iptables, calls_ip6tables; /* of a bridge: its own nf_call_* settings */
};

/* Called for each interface; a non-zero return ends the visit and is returned. */
typedef int link_visitor(const struct link *link, void *context);
int link_each(link_visitor *visit, void *context, struct failure *why);

/* The interface with that index. Returns 1, 0 if there is none, -1 with *why. */
int link_find(unsigned index, struct link *out, struct failure *why);

/*
 * Does br_netfilter run the rules of IP on frames of that bridge? The socket that tproxy finds there
 * is lost again before the packet is routed (ip_rcv() orphans it), and prerouting is not run a
 * second time (ip_sabotage_in).
 */
bool link_calls_iptables(const struct link *bridge, sa_family_t family);

/*
 * Is this a valid interface name? The kernel's own rule: dev_valid_name(), whose isspace() takes
 * 0xa0 for a blank, and __dev_alloc_name(), which takes % for the beginning of a pattern. So a name
 * may contain quotes, semicolons, terminal escape sequences and invalid UTF-8.
 */
bool link_valid_name(const char *name);

#endif
