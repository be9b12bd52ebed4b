/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/census.h"

#include "intercept/nft.h"
#include "net/netlink.h"
#include "net/nft_message.h"
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A transaction meanwhile interrupts a dump. */
#define ATTEMPTS 5

static void take_table(struct nlmsghdr *message, void *context)
{
	const struct nfgenmsg *header = nlmsg_data(message);
	struct nlattr *a[NFTA_TABLE_MAX + 1];
	struct census *c = context;
	struct census_table *grown;

	if (nlmsg_parse(message, sizeof(*header), a, NFTA_TABLE_MAX, NULL) || !a[NFTA_TABLE_NAME])
		return;
	grown = realloc(c->table, (c->tables + 1) * sizeof(*grown));
	if (!grown)
		return;
	c->table = grown;
	grown += c->tables++;
	snprintf(grown->name, sizeof(grown->name), "%s", nla_get_string(a[NFTA_TABLE_NAME]));
	grown->family = header->nfgen_family;
	grown->handle = be64toh(nla_get_u64(a[NFTA_TABLE_HANDLE]));
}

/* NFTA_CHAIN_USE: rules in it, and rules that jump to it (nf_tables_fill_chain_info()). */
static void take_chain(struct nlmsghdr *message, void *context)
{
	struct nlattr *a[NFTA_CHAIN_MAX + 1];
	struct census *c = context;

	if (!nlmsg_parse(message, sizeof(struct nfgenmsg), a, NFTA_CHAIN_MAX, NULL) &&
	    a[NFTA_CHAIN_USE] && nla_len(a[NFTA_CHAIN_USE]) >= 4)
		c->rules += ntohl(nla_get_u32(a[NFTA_CHAIN_USE]));
}

static int dump(struct netlink *channel, int type,
		void (*take)(struct nlmsghdr *message, void *context), struct census *c)
{
	return netlink_ask(channel, nft_message(type, NLM_F_DUMP, NFPROTO_UNSPEC), take, c);
}

int census_take(struct census *c, struct failure *why)
{
	struct netlink *channel = netlink_open(NETLINK_NETFILTER, why);
	int err = -EAGAIN;

	*c = (struct census){ 0 };
	if (!channel)
		return -1;
	for (int i = 0; err == -EAGAIN && i < ATTEMPTS; i++) {
		census_free(c);
		err = dump(channel, NFT_MSG_GETTABLE, take_table, c);
		if (!err)
			err = dump(channel, NFT_MSG_GETCHAIN, take_chain, c);
	}
	netlink_close(channel);
	return err ? report_fail(why, -err, "nft", "list of tables") : 0;
}

void census_free(struct census *c)
{
	free(c->table);
	*c = (struct census){ 0 };
}

uint64_t census_table_handle(const struct census *c, const char *family, const char *name)
{
	for (size_t i = 0; i < c->tables; i++)
		if (!strcmp(nft_family_name(c->table[i].family), family) &&
		    !strcmp(c->table[i].name, name))
			return c->table[i].handle;
	return 0;
}
