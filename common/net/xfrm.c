/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/xfrm.h"

#include "net/netlink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/xfrm.h>
#include <string.h>

struct visit {
	xfrm_visitor *visit;
	void *context;
};

bool xfrm_blocks(const struct xfrm_block *b, uint8_t protocol, const struct endpoint *source,
		 const struct endpoint *destination)
{
	return b->source.family == source->family && endpoint_in_cidr(source, &b->source) &&
	       endpoint_in_cidr(destination, &b->destination) &&
	       (!b->protocol || b->protocol == protocol) &&
	       (!b->source_port || b->source_port == source->port) &&
	       (!b->destination_port || b->destination_port == destination->port);
}

static struct cidr prefix_of(sa_family_t family, const xfrm_address_t *address, uint8_t length)
{
	struct cidr prefix = { .family = family, .length = length };

	memcpy(&prefix.addr, address, family == AF_INET ? 4 : 16);
	return prefix;
}

static void read_policy(struct nlmsghdr *message, void *context)
{
	const struct visit *v = context;
	const struct xfrm_userpolicy_info *p = nlmsg_data(message);
	struct xfrm_block block = { 0 };

	if (message->nlmsg_type != XFRM_MSG_NEWPOLICY || nlmsg_datalen(message) < (int)sizeof(*p) ||
	    p->action != XFRM_POLICY_BLOCK || p->dir == XFRM_POLICY_FWD ||
	    (p->sel.family != AF_INET && p->sel.family != AF_INET6))
		return;
	block.out = p->dir == XFRM_POLICY_OUT;
	block.source = prefix_of(p->sel.family, &p->sel.saddr, p->sel.prefixlen_s);
	block.destination = prefix_of(p->sel.family, &p->sel.daddr, p->sel.prefixlen_d);
	block.protocol = p->sel.proto;
	block.source_port = ntohs(p->sel.sport & p->sel.sport_mask);
	block.destination_port = ntohs(p->sel.dport & p->sel.dport_mask);
	v->visit(&block, v->context);
}

static struct nl_msg *build_dump(void)
{
	const struct xfrm_userpolicy_id id = { 0 };
	struct nl_msg *message = nlmsg_alloc_simple(XFRM_MSG_GETPOLICY, NLM_F_DUMP);

	if (message && !nlmsg_append(message, (void *)&id, sizeof(id), NLMSG_ALIGNTO))
		return message;
	nlmsg_free(message);
	return NULL;
}

int xfrm_each_block(xfrm_visitor *visit, void *context, struct failure *why)
{
	struct failure reason = { 0 };
	struct netlink *channel = netlink_open(NETLINK_XFRM, &reason);
	struct visit v = { visit, context };
	int err;

	if (!channel && (reason.err == EPROTONOSUPPORT || reason.err == EAFNOSUPPORT))
		return 0;
	if (!channel)
		return report_fail(why, reason.err, "NETLINK_XFRM", "IPsec policies");
	err = netlink_ask(channel, build_dump(), read_policy, &v);
	netlink_close(channel);
	return err && err != -EAGAIN
		       ? report_fail(why, -err, "XFRM_MSG_GETPOLICY", "IPsec policies")
		       : 0;
}
