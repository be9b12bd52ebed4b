/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xtables_nft - the extensions in iptables-nft's rules, of which libnftables only shows the names.
 */
#ifndef TPROXY_FIREWALL_XTABLES_NFT_H
#define TPROXY_FIREWALL_XTABLES_NFT_H

#include <jansson.h>
#include <netlink/attr.h>
#include <stdbool.h>

/* Replace them in nft's JSON, an array of objects, with what they do. An extension that the kernel
 * does not describe is left as it is. */
void xtables_nft_decode(json_t *objects);

/* Append what an expression of a rule does, if it is an extension; else false. */
bool xtables_nft_append(struct nlattr *expression, json_t *out);

#endif
