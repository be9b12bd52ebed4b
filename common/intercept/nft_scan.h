/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nft_scan - a table of nf_tables as the kernel has it, part by part, over netlink.
 *
 * libnftables can list a table only with all elements of its sets, which may be very many, and in a
 * spelling of its own. Here a part is told apart by a digest of its rules' expressions: whatever
 * nft's version calls them, they are the same exactly when they do the same.
 */
#ifndef TPROXY_INTERCEPT_NFT_SCAN_H
#define TPROXY_INTERCEPT_NFT_SCAN_H

#include "base/report.h"
#include "net/netlink.h"
#include <stdbool.h>
#include <stdint.h>

enum nft_scan_kind { NFT_SCAN_CHAIN, NFT_SCAN_SET, NFT_SCAN_COUNTER, NFT_SCAN_RULE };

struct nft_scan_object {
	enum nft_scan_kind kind;
	const char *name;    /* of the chain (a rule's: that it is in), the set or the counter */
	const char *comment; /* a rule's; "" if it has none */
	uint64_t digest;     /* of all that does not move by itself: no handles, counts, elements */
	uint64_t packets, bytes; /* a counter's */
};

/* The table itself. */
struct nft_scan_found {
	uint64_t handle; /* 0: there is none */
	bool dormant;	 /* `flags dormant`: none of its chains is at its hook */
};

/* Called for each object, chains first and rules in their order; the strings are the caller's only
 * until it returns. */
typedef void nft_scan_visitor(const struct nft_scan_object *object, void *context);

/*
 * Over a NETLINK_NETFILTER channel. Visit what is in table `inet NAME`; anonymous sets belong to
 * the rules that they are in. *found tells of the table itself. When the rules change meanwhile
 * `restart` is called, and it begins again. 0, or -1 with *why.
 */
int nft_scan_table(struct netlink *channel, const char *name, struct nft_scan_found *found,
		   nft_scan_visitor *visit, void (*restart)(void *context), void *context,
		   struct failure *why);

#endif
