/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/route_verdict.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct search {
	struct route *route;
	const struct route_question *question;
	struct route_verdict *verdict;
};

/* The errors of rules and routes of type blackhole, prohibit or unreachable (fib4_rule_action(),
 * fib6_rule_action()); EINVAL may also come from the source validation. */
static bool is_refusal(int err)
{
	return err == EINVAL || err == EACCES || err == ENETUNREACH || err == EHOSTUNREACH;
}

static bool has_port(const uint16_t range[2], uint16_t port)
{
	return !range[1] || (port >= range[0] && port <= range[1]);
}

static bool has_address(const struct cidr *c, const struct endpoint *e)
{
	return !c->family || endpoint_in_cidr(e, c);
}

/* (What this host sends comes in by lo, as rules see it. What comes in has no process, and counts
 * as root's.) */
static bool fits(const struct route_selector *s, const struct route_question *q)
{
	uint32_t uid = q->iif ? 0 : q->has_uid ? q->uid : getuid();
	char iif[IFNAMSIZ] = "lo";

	if (q->iif)
		if_indextoname(q->iif, iif);
	return has_address(&s->destination, &q->destination) &&
	       (!endpoint_is_set(&q->source) || has_address(&s->source, &q->source)) &&
	       (!*s->iif || !strcmp(s->iif, iif)) && (!s->protocol || s->protocol == q->protocol) &&
	       has_port(s->source_port, q->source.port) &&
	       has_port(s->destination_port, q->destination.port) &&
	       (!s->has_uid || (uid >= s->uid[0] && uid <= s->uid[1]));
}

static bool can_match(const struct route_rule *rule, const struct route_question *q)
{
	bool matches = (q->mark & rule->mark.mask) == rule->mark.value && fits(&rule->selector, q);

	return rule->inverted ? rule->selector.other || !matches : matches;
}

/* A rule of somebody's to a table of somebody's. */
static bool refuses(const struct search *s, const struct route_rule *rule)
{
	return rule->refuses ||
	       (rule->protocol != ROUTE_PROTOCOL && rule->table != RT_TABLE_LOCAL &&
		rule->table != RT_TABLE_MAIN &&
		route_table_refuses(s->route, s->question->destination.family, rule->table));
}

static int judge_rule(const struct route_rule *rule, void *context)
{
	const struct search *s = context;
	struct route_verdict *v = s->verdict;

	if (!can_match(rule, s->question))
		return 0;
	if (v->refused ? !refuses(s, rule) : rule->table != v->answer.table || rule->refuses)
		return 0;
	v->has_rule = true;
	v->rule = *rule;
	return 1;
}

void route_verdict_ask(struct route *route, const struct route_question *question,
		       struct route_verdict *v)
{
	struct search s = { route, question, v };

	*v = (struct route_verdict){ 0 };
	v->refused = route_ask(route, question, &v->answer, &v->failure) < 0;
	if (v->refused ? is_refusal(v->failure.err) : v->answer.table != 0)
		route_each_rule(route, question->destination.family, judge_rule, &s, NULL);
}

bool route_verdict_delivers(const struct route_verdict *v)
{
	return !v->refused && v->answer.type == RTN_LOCAL && v->answer.table != RT_TABLE_LOCAL;
}

bool route_verdict_is_foreign(const struct route_verdict *v, uint32_t pref)
{
	return v->has_rule && v->rule.protocol != ROUTE_PROTOCOL && v->rule.pref <= pref &&
	       (v->refused || v->answer.table != RT_TABLE_LOCAL);
}

const char *route_verdict_describe_rule(const struct route_rule *r, sa_family_t family,
					char buf[ROUTE_VERDICT_RULE_MAX])
{
	char mark[QUANTITY_MARK_MAX] = "", to[32] = "refuses", table[ROUTE_VERDICT_TABLE_MAX];

	if (!r->refuses)
		snprintf(to, sizeof(to), "lookup %s", route_verdict_table_name(r->table, table));
	snprintf(buf, ROUTE_VERDICT_RULE_MAX, "%s rule %u:%s%s%s%s %s",
		 family == AF_INET ? "ip" : "ip -6", r->pref, r->inverted ? " not" : "",
		 r->mark.mask ? " fwmark " : "",
		 r->mark.mask ? quantity_format_mark(&r->mark, mark) : "",
		 r->narrow ? " (and more)" : "", to);
	return buf;
}

const char *route_verdict_table_name(uint32_t table, char buf[ROUTE_VERDICT_TABLE_MAX])
{
	if (table == RT_TABLE_MAIN || table == RT_TABLE_LOCAL || table == RT_TABLE_DEFAULT)
		snprintf(buf, ROUTE_VERDICT_TABLE_MAX, "%s",
			 table == RT_TABLE_MAIN	   ? "main"
			 : table == RT_TABLE_LOCAL ? "local"
						   : "default");
	else
		snprintf(buf, ROUTE_VERDICT_TABLE_MAX, "%u", table);
	return buf;
}
