/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/ct_use.h"

#include "firewall/xtables_legacy.h"
#include "intercept/nft.h"
#include "intercept/nft_text.h"
#include "net/rule_use.h"
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How often to start again when the rules change while they are read. */
#define ATTEMPTS 50

struct search {
	enum ct_use use;
	char *evidence;
};

/* Source translation that is limited to some sources (such as a container bridge's) need not affect
 * the upstream leg. */
static enum ct_use judge(const struct rule_use *u)
{
	if (u->translates && !u->has_source)
		return CT_USE_SNAT;
	return u->translates || u->tracks ? CT_USE_TRACK : CT_USE_NONE;
}

static void visit_rule(const struct rule_use *use, void *context)
{
	struct search *s = context;

	if (use->family == NFPROTO_INET &&
	    !strncmp(use->table, NFT_TEXT_PREFIX, strlen(NFT_TEXT_PREFIX)))
		return;
	if (judge(use) <= s->use)
		return;
	s->use = judge(use);
	if (s->evidence)
		snprintf(s->evidence, CT_USE_EVIDENCE_MAX, "%s %.60s chain %.50s",
			 nft_family_name(use->family), use->table, use->chain);
}

static int visit_legacy(const struct xtables_legacy_use *use, void *context)
{
	struct search *s = context;
	struct rule_use v = { .has_source = use->has_source };

	rule_use_note_extension(&v, use->extension);
	if (judge(&v) <= s->use)
		return 0;
	s->use = judge(&v);
	if (s->evidence)
		snprintf(s->evidence, CT_USE_EVIDENCE_MAX,
			 "iptables-legacy %s table %.31s chain %.31s rule %u", use->family,
			 use->table, use->chain, use->rule);
	return 0;
}

int ct_use_find(enum ct_use *use, char evidence[CT_USE_EVIDENCE_MAX], struct failure *why)
{
	struct netlink *channel = netlink_open(NETLINK_NETFILTER, why);
	struct search s;
	int err = -EAGAIN;

	if (!channel)
		return -1;
	for (int i = 0; i < ATTEMPTS && err == -EAGAIN; i++) {
		s = (struct search){ .evidence = evidence };
		if (evidence)
			evidence[0] = '\0';
		err = rule_use_each(channel, visit_rule, &s);
	}
	netlink_close(channel);
	if (err)
		return report_fail(why, -err, "NFT_MSG_GETRULE", "rules of this network namespace");
	xtables_legacy_each_use(visit_legacy, &s);
	*use = s.use;
	return 0;
}

bool ct_use_may_be_hidden(void)
{
	char names[128];

	return xtables_legacy_names(names, sizeof(names)) < 0;
}
