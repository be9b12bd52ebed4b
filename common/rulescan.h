/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rulescan - a table of nf_tables as the kernel has it, part by part, over netlink.
 *
 * libnftables can list a table only with all elements of its sets, which may be very many, and in a
 * spelling of its own. Here a part is told apart by a digest of its rules' expressions: whatever
 * nft's version calls them, they are the same exactly when they do the same.
 */
#ifndef TPROXY_RULESCAN_H
#define TPROXY_RULESCAN_H

#include <stdint.h>
#include "netlink.h"
#include "report.h"

enum rulescan_kind { RULESCAN_CHAIN, RULESCAN_SET, RULESCAN_COUNTER, RULESCAN_RULE };

struct rulescan_object {
	enum rulescan_kind kind;
	const char *name;    /* of the chain (a rule's: that it is in), the set or the counter */
	const char *comment; /* a rule's; "" if it has none */
	uint64_t digest;     /* of all that does not move by itself: no handles, counts, elements */
	uint64_t packets, bytes; /* a counter's */
};

/* Called for each object, chains first and rules in their order; the strings are the caller's only
 * until it returns. */
typedef void rulescan_visitor(const struct rulescan_object *object, void *context);

/*
 * Over a NETLINK_NETFILTER channel. Visit what is in table `inet NAME`; anonymous sets belong to the rules that they are in. *handle is
 * the table's, 0 if there is none. When the rules change meanwhile `restart` is called, and it begins
 * again. 0, or -1 with *why.
 */
int rulescan_table(struct netlink *channel, const char *name, uint64_t *handle,
		   rulescan_visitor *visit, void (*restart)(void *context), void *context,
		   struct failure *why);

#endif
