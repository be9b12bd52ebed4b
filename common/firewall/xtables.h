/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xtables - what iptables says, in nft's JSON words.
 *
 * libnftables shows the extensions that iptables-nft uses (`-m conntrack`, `-j TPROXY`) by name alone,
 * and nothing at all of iptables-legacy. Both keep the same binary structures in the kernel
 * (linux/netfilter/xt_*.h); those that matter here are decoded, the others stay
 * {"xt": {"type": "match", "name": ...}}.
 */
#ifndef TPROXY_FIREWALL_XTABLES_H
#define TPROXY_FIREWALL_XTABLES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * `objects` is the array of nft's JSON: replace the extensions in it, and add the chains and rules of
 * iptables-legacy, each with "legacy": true. Tables of iptables-legacy that are not in use are not
 * asked for, because asking would create them. What the kernel does not tell is left as it is.
 */
void xtables_decode(json_t *objects);

/* An extension in a rule of iptables-legacy: `conntrack`, `MASQUERADE`; `standard` for a mere verdict. */
struct xtables_use {
	const char *family; /* `ip`, `ip6` */
	const char *table, *chain;
	unsigned rule; /* its number in the chain, from 1 */
	const char *extension;
	bool has_source; /* the rule asks for a source address */
};

/* Called for each; a return other than 0 ends it and is returned. 0 also where the tables cannot be read. */
typedef int xtables_visitor(const struct xtables_use *use, void *context);
int xtables_each_use(xtables_visitor *visit, void *context);

/* The tables of iptables-legacy that are in use, as `filter, nat`, in buf. Returns how many; -1: that
 * cannot be known here (their list is for the initial user namespace's root alone). */
int xtables_legacy(char *buf, size_t size);

#endif
