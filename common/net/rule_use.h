/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rule_use - which rules of nf_tables use connection tracking, and how.
 *
 * It asks nf_tables itself: libnftables 1.0.6 loses iptables-nft's extensions of one family after
 * it has printed the same extensions of the other, and is slow when there are many rules.
 */
#ifndef TPROXY_NET_RULE_USE_H
#define TPROXY_NET_RULE_USE_H

#include "net/netlink.h"
#include <stdbool.h>
#include <stdint.h>

/* What one rule does; texts are borrowed from the message. */
struct rule_use {
	int family; /* NFPROTO_... of its table */
	const char *table, *chain;
	bool tracks;	 /* the kernel tracks connections for it (nf_ct_netns_get()) */
	bool translates; /* it translates source addresses */
	bool has_source; /* it matches on a source address */
	uint16_t zone;	 /* it puts packets into that zone; 0: none */
	uint16_t value;	 /* the last number that it loads */
};

/* An iptables extension that is a match or the target of the rule: `conntrack`, `MASQUERADE`. */
void rule_use_note_extension(struct rule_use *use, const char *name);

/*
 * Called for each rule of the network namespace, of all tables. Returns 0, or the kernel's -errno.
 * -EAGAIN: the rules changed meanwhile; forget what was seen and start again. (Needs
 * CAP_NET_ADMIN.)
 */
typedef void rule_use_visitor(const struct rule_use *use, void *context);
int rule_use_each(struct netlink *channel, rule_use_visitor *visit, void *context);

/* A number that changes with each change of the rules; *generation stays as it is if the kernel
 * does not say it. 0 or -errno. */
int rule_use_generation(struct netlink *channel, uint32_t *generation);

#endif
