/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nft_message - requests to nf_tables, for netlink_ask().
 */
#ifndef TPROXY_NET_NFT_MESSAGE_H
#define TPROXY_NET_NFT_MESSAGE_H

#include <netlink/msg.h>
#include <stdint.h>

/* NFT_MSG_GETTABLE, ... with flags as NLM_F_DUMP. family: NFPROTO_INET, ...; NFPROTO_UNSPEC: all.
 * The caller adds attributes. NULL: no memory. */
struct nl_msg *nft_message(int type, int flags, uint8_t family);

/* The request for the rules of that chain, or, without a table, of all chains of the family. NULL: no
 * memory. */
struct nl_msg *nft_message_rules(uint8_t family, const char *table, const char *chain);

#endif
