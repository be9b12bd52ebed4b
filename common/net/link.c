/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/link.h"

#include "net/netlink.h"
#include "net/sysctl.h"
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>

bool link_valid_name(const char *name)
{
	size_t length = strlen(name);

	return length && length < IFNAMSIZ && !name[strcspn(name, "/:% \t\n\v\f\r\xa0")] &&
	       strcmp(name, ".") && strcmp(name, "..");
}

struct visit {
	link_visitor *visit;
	void *context;
	int result;
};

static void read_bridge(struct link *link, struct nlattr *data)
{
	struct nlattr *a[IFLA_BR_MAX + 1];

	if (!data || nla_parse_nested(a, IFLA_BR_MAX, data, NULL))
		return;
	if (a[IFLA_BR_NF_CALL_IPTABLES])
		link->calls_iptables = nla_get_u8(a[IFLA_BR_NF_CALL_IPTABLES]);
	if (a[IFLA_BR_NF_CALL_IP6TABLES])
		link->calls_ip6tables = nla_get_u8(a[IFLA_BR_NF_CALL_IP6TABLES]);
}

static void read_kind(struct link *link, struct nlattr *info)
{
	struct nlattr *a[IFLA_INFO_MAX + 1];

	if (!info || nla_parse_nested(a, IFLA_INFO_MAX, info, NULL) || !a[IFLA_INFO_KIND])
		return;
	link->is_bridge = !strcmp(nla_get_string(a[IFLA_INFO_KIND]), "bridge");
	link->is_vrf = !strcmp(nla_get_string(a[IFLA_INFO_KIND]), "vrf");
	if (link->is_bridge)
		read_bridge(link, a[IFLA_INFO_DATA]);
}

static void read_link(struct nlmsghdr *message, void *context)
{
	const struct ifinfomsg *header = nlmsg_data(message);
	struct nlattr *a[IFLA_MAX + 1];
	struct visit *v = context;
	struct link link = { 0 };

	if (message->nlmsg_type != RTM_NEWLINK || v->result ||
	    nlmsg_parse(message, sizeof(*header), a, IFLA_MAX, NULL) || !a[IFLA_IFNAME])
		return;
	nla_strlcpy(link.name, a[IFLA_IFNAME], sizeof(link.name));
	link.index = (unsigned)header->ifi_index;
	link.up = header->ifi_flags & IFF_UP;
	link.master = a[IFLA_MASTER] ? nla_get_u32(a[IFLA_MASTER]) : 0;
	read_kind(&link, a[IFLA_LINKINFO]);
	v->result = v->visit(&link, v->context);
}

static struct nl_msg *build_dump(void)
{
	struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_DUMP);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO))
		return message;
	nlmsg_free(message);
	return NULL;
}

int link_each(link_visitor *visit, void *context, struct failure *why)
{
	struct netlink *channel = netlink_open(NETLINK_ROUTE, why);
	struct visit v = { visit, context, 0 };
	int err;

	if (!channel)
		return -1;
	/* It does not matter if an interface came or went meanwhile (EAGAIN). */
	err = netlink_ask(channel, build_dump(), read_link, &v);
	netlink_close(channel);
	if (err && err != -EAGAIN)
		return report_fail(why, -err, "RTM_GETLINK", "interfaces");
	return v.result;
}

struct search {
	unsigned index;
	struct link *out;
};

static int match_index(const struct link *link, void *context)
{
	struct search *search = context;

	if (link->index != search->index)
		return 0;
	*search->out = *link;
	return 1;
}

int link_find(unsigned index, struct link *out, struct failure *why)
{
	struct search search = { index, out };

	return link_each(match_index, &search, why);
}

bool link_calls_iptables(const struct link *bridge, sa_family_t family)
{
	if (!bridge->is_bridge)
		return false;
	return family == AF_INET
		       ? bridge->calls_iptables ||
				 sysctl_read(0, "net/bridge/bridge-nf-call-iptables") > 0
		       : bridge->calls_ip6tables ||
				 sysctl_read(0, "net/bridge/bridge-nf-call-ip6tables") > 0;
}
