/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/tcfilter.h"

#include "base/shell.h"
#include "net/netlink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_gact.h>
#include <netlink/attr.h>
#include <string.h>

/* More attributes than the options of any filter have. */
#define OPTIONS_MAX 128

struct visit {
	bool egress;
	tcfilter_visitor *visit;
	void *context;
};

/* Where a kind of filter stores its actions; 0: unknown. */
static int actions_of(const char *kind)
{
	static const struct {
		const char *kind;
		int attribute;
	} kinds[] = {
		{ "matchall", TCA_MATCHALL_ACT },
		{ "u32", TCA_U32_ACT },
		{ "flower", TCA_FLOWER_ACT },
		{ "basic", TCA_BASIC_ACT },
		{ "fw", TCA_FW_ACT },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].kind, kind))
			return kinds[i].attribute;
	return 0;
}

static bool action_drops(struct nlattr *action)
{
	struct nlattr *a[TCA_ACT_MAX + 1], *g[TCA_GACT_MAX + 1];
	const struct tc_gact *gact;

	if (nla_parse_nested(a, TCA_ACT_MAX, action, NULL) || !a[TCA_ACT_KIND] ||
	    !a[TCA_ACT_OPTIONS] || nla_strcmp(a[TCA_ACT_KIND], "gact") ||
	    nla_parse_nested(g, TCA_GACT_MAX, a[TCA_ACT_OPTIONS], NULL) || !g[TCA_GACT_PARMS] ||
	    nla_len(g[TCA_GACT_PARMS]) < (int)sizeof(*gact))
		return false;
	gact = nla_data(g[TCA_GACT_PARMS]);
	return gact->action == TC_ACT_SHOT;
}

static bool drops(const char *kind, struct nlattr *options)
{
	struct nlattr *o[OPTIONS_MAX + 1], *action;
	int attribute = actions_of(kind), left;

	if (!attribute || nla_parse_nested(o, OPTIONS_MAX, options, NULL) || !o[attribute])
		return false;
	nla_for_each_nested(action, o[attribute], left) if (action_drops(action)) return true;
	return false;
}

static void read_filter(struct nlmsghdr *message, void *context)
{
	const struct tcmsg *header = nlmsg_data(message);
	const struct visit *v = context;
	struct nlattr *a[TCA_MAX + 1];
	struct tcfilter filter = { .egress = v->egress };

	/* An entry without a handle contains others. */
	if (message->nlmsg_type != RTM_NEWTFILTER ||
	    nlmsg_parse(message, sizeof(*header), a, TCA_MAX, NULL) || !a[TCA_KIND] ||
	    !a[TCA_OPTIONS] || !header->tcm_handle)
		return;
	filter.kind = nla_get_string(a[TCA_KIND]);
	filter.preference = (uint16_t)(header->tcm_info >> 16);
	filter.protocol = ntohs((uint16_t)header->tcm_info);
	filter.drops = drops(filter.kind, a[TCA_OPTIONS]);
	filter.all = !strcmp(filter.kind, "matchall");
	v->visit(&filter, v->context);
}

static struct nl_msg *build_dump(unsigned interface, bool egress)
{
	const struct tcmsg header = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)interface,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS),
	};
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETTFILTER, NLM_F_DUMP);

	if (message && !nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO))
		return message;
	nlmsg_free(message);
	return NULL;
}

int tcfilter_each(unsigned interface, tcfilter_visitor *visit, void *context, struct failure *why)
{
	struct netlink *channel = netlink_open(NETLINK_ROUTE, why);
	int err = 0;

	if (!channel)
		return -1;
	for (int egress = 0; egress < 2 && !err; egress++) {
		struct visit v = { egress, visit, context };

		err = netlink_ask(channel, build_dump(interface, egress), read_filter, &v);
		/* No such qdisc, or a kernel without qdiscs. */
		if (err == -EINVAL || err == -EAGAIN || err == -EOPNOTSUPP || err == -ENOENT)
			err = 0;
	}
	netlink_close(channel);
	return err ? report_fail(why, -err, "RTM_GETTFILTER", "interface %u", interface) : 0;
}

void tcfilter_remove(const struct tcfilter *filter, const char *device, char *fix, size_t size)
{
	struct shell_command c = shell_command(fix, size);

	shell_add(&c, "tc filter del dev");
	shell_word(&c, device);
	shell_add(&c, " %s pref %u", filter->egress ? "egress" : "ingress", filter->preference);
}
