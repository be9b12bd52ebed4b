/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/route_verdict.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>

struct search {
	const struct route_question *question;
	struct route_verdict *verdict;
};

/* The errors of rules of type blackhole, prohibit or unreachable (fib4_rule_action(),
 * fib6_rule_action()); EINVAL may also come from the source validation. */
static bool is_refusal(int err)
{
	return err == EINVAL || err == EACCES || err == ENETUNREACH;
}

/* The mark rules a packet out for certain; further conditions may or may not match. */
static bool can_match(const struct route_rule *rule, const struct route_question *q)
{
	bool marked = (q->mark & rule->mark.mask) == rule->mark.value;

	return rule->inverted ? rule->narrow || !marked : marked;
}

static int judge_rule(const struct route_rule *rule, void *context)
{
	const struct search *s = context;
	struct route_verdict *v = s->verdict;
	bool leads = v->refused ? rule->refuses : rule->table == v->answer.table && !rule->refuses;

	if (!leads || !can_match(rule, s->question))
		return 0;
	v->has_rule = true;
	v->rule = *rule;
	return 1;
}

void route_verdict_ask(struct route *route, const struct route_question *question,
		       struct route_verdict *v)
{
	struct search s = { question, v };

	*v = (struct route_verdict){ 0 };
	v->refused = route_ask(route, question, &v->answer, &v->failure) < 0;
	if (v->refused ? is_refusal(v->failure.err) : v->answer.table != 0)
		route_each_rule(route, question->destination.family, judge_rule, &s, NULL);
}

bool route_verdict_delivers(const struct route_verdict *v, uint32_t table)
{
	return !v->refused && v->answer.type == RTN_LOCAL && v->answer.table == table;
}

bool route_verdict_is_foreign(const struct route_verdict *v, uint32_t pref)
{
	return v->has_rule && v->rule.protocol != ROUTE_PROTOCOL && v->rule.pref <= pref &&
	       (v->refused || v->answer.table != RT_TABLE_LOCAL);
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
