/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xtables_nft - the extensions in iptables-nft's rules, which libnftables shows by name alone.
 */
#ifndef TPROXY_FIREWALL_XTABLES_NFT_H
#define TPROXY_FIREWALL_XTABLES_NFT_H

#include <jansson.h>

/* Replace them in nft's JSON, an array of objects, by what they do. What the kernel does not tell
 * is left as it is. */
void xtables_nft_decode(json_t *objects);

#endif
