/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/nft_message.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>

struct nl_msg *nft_message(int type, int flags, uint8_t family)
{
	struct nfgenmsg header = { .nfgen_family = family, .version = NFNETLINK_V0 };
	struct nl_msg *message = nlmsg_alloc_simple(NFNL_SUBSYS_NFTABLES << 8 | type, flags);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO))
		return message;
	nlmsg_free(message);
	return NULL;
}

struct nl_msg *nft_message_rules(uint8_t family, const char *table, const char *chain)
{
	struct nl_msg *message = nft_message(NFT_MSG_GETRULE, NLM_F_DUMP, family);

	if (message && (!table || (!nla_put_string(message, NFTA_RULE_TABLE, table) &&
				   !nla_put_string(message, NFTA_RULE_CHAIN, chain))))
		return message;
	nlmsg_free(message);
	return NULL;
}
