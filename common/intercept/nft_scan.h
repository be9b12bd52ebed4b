/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nft_scan - a table of nf_tables in the kernel, part by part, over netlink.
 *
 * libnftables can only list a table with all elements of its sets, of which there may be very many,
 * and in its own spelling. Here a part is identified by a digest of the expressions of its rules:
 * whatever nft's version calls them, they are equal exactly when they do the same.
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
	const char *name;    /* of the chain (a rule's: the chain that it is in), set or counter */
	const char *comment; /* a rule's; "" if it has none */
	uint64_t digest;     /* without what changes by itself: handles, counts, elements */
	uint64_t packets, bytes; /* a counter's */
};

/* The table itself. */
struct nft_scan_found {
	uint64_t handle; /* 0: there is no table */
	bool dormant;	 /* `flags dormant`: none of its chains is at its hook */
};

/* Called for each object, chains first and rules in order; the strings are valid only until it
 * returns. */
typedef void nft_scan_visitor(const struct nft_scan_object *object, void *context);

/*
 * Visit the contents of table `inet NAME`, over a NETLINK_NETFILTER channel; anonymous sets belong
 * to the rules that use them. *found describes the table itself. If the rules change meanwhile,
 * `restart` is called and the visit starts again. 0, or -1 with *why.
 */
int nft_scan_table(struct netlink *channel, const char *name, struct nft_scan_found *found,
		   nft_scan_visitor *visit, void (*restart)(void *context), void *context,
		   struct failure *why);

#endif
