/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/xfrm.h"

#include "base/shell.h"
#include "net/netlink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/xfrm.h>
#include <stdlib.h>
#include <string.h>

/* How often to repeat a dump that keeps changing while it is read. */
#define DUMP_ATTEMPTS 10

static bool matches(const struct xfrm_policy *b, uint8_t protocol, const struct endpoint *source,
		    const struct endpoint *destination)
{
	return b->source.family == source->family && endpoint_in_cidr(source, &b->source) &&
	       endpoint_in_cidr(destination, &b->destination) &&
	       (!b->protocol || b->protocol == protocol) &&
	       (!b->source_port || b->source_port == source->port) &&
	       (!b->destination_port || b->destination_port == destination->port);
}

const struct xfrm_policy *xfrm_find(const struct xfrm_policies *p, bool out, uint8_t protocol,
				    const struct endpoint *source,
				    const struct endpoint *destination)
{
	const struct xfrm_policy *found = NULL;

	for (size_t i = 0; i < p->count; i++)
		if (p->at[i].out == out && matches(&p->at[i], protocol, source, destination) &&
		    (!found || p->at[i].priority <= found->priority))
			found = &p->at[i];
	return found;
}

static void add(struct xfrm_policies *p, const struct xfrm_policy *policy)
{
	struct xfrm_policy *grown = p->at;

	if (!(p->count & (p->count - 1)))
		grown = realloc(p->at, (p->count ? 2 * p->count : 1) * sizeof(*grown));
	if (!grown) {
		p->failed = true;
		return;
	}
	p->at = grown;
	p->at[p->count++] = *policy;
}

void xfrm_remove(const struct xfrm_policy *p, char *fix, size_t size)
{
	struct shell_command c = shell_command(fix, size);
	char source[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];

	shell_add(&c, "ip xfrm policy delete dir %s src %s dst %s", p->out ? "out" : "in",
		  endpoint_format_cidr(&p->source, source),
		  endpoint_format_cidr(&p->destination, destination));
	if (p->protocol)
		shell_add(&c, " proto %u", p->protocol);
	if (p->source_port)
		shell_add(&c, " sport %u", p->source_port);
	if (p->destination_port)
		shell_add(&c, " dport %u", p->destination_port);
}

static struct cidr prefix_of(sa_family_t family, const xfrm_address_t *address, uint8_t length)
{
	struct cidr prefix = { .family = family, .length = length };

	memcpy(&prefix.addr, address, family == AF_INET ? 4 : 16);
	return prefix;
}

static void read_policy(struct nlmsghdr *message, void *context)
{
	const struct xfrm_userpolicy_info *p = nlmsg_data(message);
	struct xfrm_policy policy = { 0 };

	if (message->nlmsg_type != XFRM_MSG_NEWPOLICY || nlmsg_datalen(message) < (int)sizeof(*p) ||
	    (p->dir != XFRM_POLICY_IN && p->dir != XFRM_POLICY_OUT) ||
	    (p->sel.family != AF_INET && p->sel.family != AF_INET6))
		return;
	policy.out = p->dir == XFRM_POLICY_OUT;
	policy.blocks = p->action == XFRM_POLICY_BLOCK;
	policy.priority = p->priority;
	policy.source = prefix_of(p->sel.family, &p->sel.saddr, p->sel.prefixlen_s);
	policy.destination = prefix_of(p->sel.family, &p->sel.daddr, p->sel.prefixlen_d);
	policy.protocol = p->sel.proto;
	policy.source_port = ntohs(p->sel.sport & p->sel.sport_mask);
	policy.destination_port = ntohs(p->sel.dport & p->sel.dport_mask);
	add(context, &policy);
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

static int dump(struct netlink *channel, struct xfrm_policies *p)
{
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < DUMP_ATTEMPTS; i++) {
		p->count = 0;
		err = netlink_ask(channel, build_dump(), read_policy, p);
	}
	return p->failed ? -ENOMEM : err;
}

int xfrm_read(struct xfrm_policies *p, struct failure *why)
{
	struct failure reason = { 0 };
	struct netlink *channel = netlink_open(NETLINK_XFRM, &reason);
	int err;

	*p = (struct xfrm_policies){ 0 };
	if (!channel && (reason.err == EPROTONOSUPPORT || reason.err == EAFNOSUPPORT))
		return 0;
	if (!channel)
		return report_fail(why, reason.err, "NETLINK_XFRM", "IPsec policies");
	err = dump(channel, p);
	netlink_close(channel);
	return err ? report_fail(why, -err, "XFRM_MSG_GETPOLICY", "IPsec policies") : 0;
}

void xfrm_free(struct xfrm_policies *p)
{
	free(p->at);
	*p = (struct xfrm_policies){ 0 };
}
