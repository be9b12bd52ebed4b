/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/changes.h"

#include "base/plain.h"
#include "intercept/nft.h"
#include "net/netgroup.h"
#include "net/route.h"
#include <limits.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <string.h>
#include <unistd.h>

/* More than the kernel puts into one datagram. */
#define BUFFER_SIZE 65536

struct reading {
	struct changes *c;
	bool concerned;
};

int changes_open(struct changes *c, const char *name, struct failure *why)
{
	*c = (struct changes){ .rules = -1, .routing = -1 };
	snprintf(c->table, sizeof(c->table), NFT_TEXT_PREFIX "%s", name);
	c->rules = netgroup_open(NETLINK_NETFILTER, NETGROUP(NFNLGRP_NFTABLES), "nftables", why);
	if (c->rules >= 0)
		c->routing = netgroup_open(
			NETLINK_ROUTE,
			NETGROUP(RTNLGRP_IPV4_RULE) | NETGROUP(RTNLGRP_IPV6_RULE) |
				NETGROUP(RTNLGRP_IPV4_ROUTE) | NETGROUP(RTNLGRP_IPV6_ROUTE),
			"routing", why);
	return c->routing < 0 ? -1 : 0;
}

void changes_close(struct changes *c)
{
	if (c->rules >= 0)
		close(c->rules);
	if (c->routing >= 0)
		close(c->routing);
	c->rules = c->routing = -1;
}

/* Every object's first attribute is its table's name (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, ...). */
static bool is_in_our_table(struct nlmsghdr *message, const struct changes *c)
{
	struct nlattr *table = nlmsg_find_attr(message, sizeof(struct nfgenmsg), NFTA_TABLE_NAME);

	return table && !nla_strcmp(table, c->table);
}

static bool is_chain(struct nlmsghdr *message, const char *name)
{
	struct nlattr *chain = nlmsg_find_attr(message, sizeof(struct nfgenmsg), NFTA_CHAIN_NAME);

	return chain && !nla_strcmp(chain, name);
}

/* The last message of a transaction: who made it. What keep itself does concerns nobody: it would
 * wake itself. */
static void end_transaction(struct nlmsghdr *message, struct reading *r)
{
	struct nlattr *name = nlmsg_find_attr(message, sizeof(struct nfgenmsg), NFTA_GEN_PROC_NAME);
	struct changes *c = r->c;
	char text[sizeof(c->who)] = "";

	if (name)
		nla_strlcpy(text, name, sizeof(text));
	if (strcmp(text, "tproxy-setup") && strcmp(text, CHANGES_OWN_NAME))
		plain_copy(c->who, sizeof(c->who), text);
	r->concerned |= c->concerned && strcmp(text, CHANGES_OWN_NAME);
	c->concerned = false;
}

/* `down` marks what it removes; an `up` that succeeds ends with the checksums. */
static void take_ours(struct nlmsghdr *message, int type, struct changes *c)
{
	if (type != NFT_MSG_NEWCHAIN)
		return;
	if (is_chain(message, NFT_REMOVAL_CHAIN))
		c->removed = true;
	else if (is_chain(message, NFT_TEXT_CHECKSUM))
		c->removed = false;
}

/* Elements come and go all the time in sets of others, who ban addresses, for example. */
static void take_rules(struct nlmsghdr *message, struct reading *r)
{
	int type = NFNL_MSG_TYPE(message->nlmsg_type);
	bool ours;

	if (type == NFT_MSG_NEWGEN) {
		end_transaction(message, r);
		return;
	}
	ours = is_in_our_table(message, r->c);
	if (ours)
		take_ours(message, type, r->c);
	r->c->concerned |= ours || (type != NFT_MSG_NEWSETELEM && type != NFT_MSG_DELSETELEM);
}

/* Of routes only those with our tag: a router learns others by the thousand. */
static void take_routing(struct nlmsghdr *message, struct reading *r)
{
	const struct rtmsg *route = nlmsg_data(message);
	bool is_route = message->nlmsg_type == RTM_NEWROUTE || message->nlmsg_type == RTM_DELROUTE;

	r->concerned |= !is_route || route->rtm_protocol == ROUTE_PROTOCOL;
}

static void take_each(void *datagram, size_t size,
		      void (*take)(struct nlmsghdr *message, struct reading *r), struct reading *r)
{
	struct nlmsghdr *message = datagram;
	int left = (int)size;

	for (; nlmsg_ok(message, left); message = nlmsg_next(message, &left))
		if (nlmsg_valid_hdr(message, sizeof(struct nfgenmsg)))
			take(message, r);
}

static void take_rules_datagram(void *datagram, size_t size, void *context)
{
	take_each(datagram, size, take_rules, context);
}

static void take_routing_datagram(void *datagram, size_t size, void *context)
{
	take_each(datagram, size, take_routing, context);
}

/* What was lost may have concerned us. */
int changes_read(struct changes *c, struct failure *why)
{
	static char buffer[BUFFER_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct reading r = { .c = c };
	int rules, routing;

	rules = netgroup_read(c->rules, buffer, sizeof(buffer), UINT_MAX, take_rules_datagram, &r,
			      "nftables", why);
	if (rules < 0)
		return -1;
	routing = netgroup_read(c->routing, buffer, sizeof(buffer), UINT_MAX, take_routing_datagram,
				&r, "routing", why);
	if (routing < 0)
		return -1;
	return r.concerned || rules || routing;
}
