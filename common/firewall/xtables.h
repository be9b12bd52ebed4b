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
#include <stddef.h>

/*
 * `objects` is the array of nft's JSON: replace the extensions in it, and add the chains and rules of
 * iptables-legacy, each with "legacy": true. Tables of iptables-legacy that are not in use are not
 * asked for, because asking would create them. What the kernel does not tell is left as it is.
 */
void xtables_decode(json_t *objects);

/* The tables of iptables-legacy that are in use, as `filter, nat`, in buf. Returns how many; -1: that
 * cannot be known here (their list is for the initial user namespace's root alone). */
int xtables_legacy(char *buf, size_t size);

#endif
