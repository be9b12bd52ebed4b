/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tcfilter - the traffic control filters of an interface (tc-u32(8), tc-matchall(8), ...).
 *
 * They see incoming packets before any netfilter rule does, and outgoing ones after all rules.
 */
#ifndef TPROXY_NET_TCFILTER_H
#define TPROXY_NET_TCFILTER_H

#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tcfilter {
	const char *kind; /* `u32`, `flower`, `bpf`: borrowed */
	bool egress;
	uint16_t preference, protocol; /* protocol: an ethertype */
	bool drops;		       /* one of its actions is gact's `drop`, */
	bool all;		       /* and it matches everything */
};

/* Called for each filter at an interface's ingress and egress (qdiscs clsact and ingress), except
 * entries that only contain others. 0, or -1 with *why. */
typedef void tcfilter_visitor(const struct tcfilter *filter, void *context);
int tcfilter_each(unsigned interface, tcfilter_visitor *visit, void *context, struct failure *why);

/* The command that removes it from the interface, whole into fix or not at all. */
void tcfilter_remove(const struct tcfilter *filter, const char *device, char *fix, size_t size);

#endif
