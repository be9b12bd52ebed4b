/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * link - the interfaces of this network namespace: up or not, bridges and what is plugged into
 * them.
 *
 * Asked of the kernel rather than of /sys, which shows the network namespace that it was mounted
 * in.
 */
#ifndef TPROXY_NET_LINK_H
#define TPROXY_NET_LINK_H

#include "base/report.h"
#include <net/if.h>
#include <stdbool.h>

struct link {
	char name[IFNAMSIZ];
	unsigned index;
	unsigned master; /* the bridge (or VRF, bond) it belongs to; 0: none */
	bool up;
	bool is_bridge, is_vrf;
	bool calls_iptables, calls_ip6tables; /* of a bridge: its own nf_call_* */
};

/* Called for each interface; a return other than 0 ends it and is returned. */
typedef int link_visitor(const struct link *link, void *context);
int link_each(link_visitor *visit, void *context, struct failure *why);

/* The interface of that index. Returns 1, 0 when there is none, -1 with *why. */
int link_find(unsigned index, struct link *out, struct failure *why);

/*
 * May an interface be called that? The kernel's own rule: dev_valid_name(), whose isspace() takes
 * 0xa0 for a blank, and __dev_alloc_name(), which takes % for the beginning of a pattern. So a name
 * may hold quotes, semicolons, commands for a terminal and what is no UTF-8.
 */
bool link_valid_name(const char *name);

#endif
