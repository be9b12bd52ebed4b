/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/route.h"

#include "net/netlink.h"
#include "net/sysctl.h"
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How often to repeat a dump that keeps changing while it is read. */
#define DUMP_ATTEMPTS 10

/* How many tables route_free_table() tries. */
#define TABLES_TRIED 100

struct route {
	struct netlink *channel;
};

struct route *route_open(struct failure *why)
{
	struct route *route = calloc(1, sizeof(*route));

	if (!route) {
		report_fail(why, ENOMEM, "calloc", "netlink");
		return NULL;
	}
	route->channel = netlink_open(NETLINK_ROUTE, why);
	if (route->channel)
		return route;
	free(route);
	return NULL;
}

void route_close(struct route *route)
{
	if (!route)
		return;
	netlink_close(route->channel);
	free(route);
}

/* --- requests --------------------------------------------------------------------------------- */

static void describe_rule(const struct route_plan *plan, char *buf, size_t size)
{
	char mark[QUANTITY_MARK_MAX];

	snprintf(buf, size, "%s rule pref %u fwmark %s lookup %u",
		 plan->family == AF_INET ? "IPv4" : "IPv6", plan->pref,
		 quantity_format_mark(&plan->mark, mark), plan->table);
}

static void describe_answers(const struct route_plan *plan, char *buf, size_t size)
{
	snprintf(buf, size, "%s rule pref %u from %s iif lo lookup %u",
		 plan->family == AF_INET ? "IPv4" : "IPv6", plan->pref,
		 plan->family == AF_INET ? "127.0.0.0/8" : "::1", plan->table);
}

static void describe_route(const struct route_plan *plan, char *buf, size_t size)
{
	snprintf(buf, size, "%s route local default dev lo table %u",
		 plan->family == AF_INET ? "IPv4" : "IPv6", plan->table);
}

static struct nl_msg *build_rule(int type, int flags, const struct route_plan *plan)
{
	struct fib_rule_hdr header = {
		.family = (uint8_t)plan->family,
		.action = FR_ACT_TO_TBL,
		.table = plan->table < 256 ? (uint8_t)plan->table : RT_TABLE_UNSPEC,
	};
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
	    !nla_put_u32(message, FRA_PRIORITY, plan->pref) &&
	    !nla_put_u32(message, FRA_FWMARK, plan->mark.value) &&
	    !nla_put_u32(message, FRA_FWMASK, plan->mark.mask) &&
	    !nla_put_u32(message, FRA_TABLE, plan->table) &&
	    !nla_put_u8(message, FRA_PROTOCOL, ROUTE_PROTOCOL))
		return message;
	nlmsg_free(message);
	return NULL;
}

static struct nl_msg *build_answers(int type, int flags, const struct route_plan *plan)
{
	const struct cidr loopback = route_entry_loopback(plan->family);
	struct fib_rule_hdr header = {
		.family = (uint8_t)plan->family,
		.src_len = loopback.length,
		.action = FR_ACT_TO_TBL,
		.table = plan->table < 256 ? (uint8_t)plan->table : RT_TABLE_UNSPEC,
	};
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
	    !nla_put_u32(message, FRA_PRIORITY, plan->pref) &&
	    !nla_put(message, FRA_SRC, plan->family == AF_INET ? 4 : 16, &loopback.addr) &&
	    !nla_put_string(message, FRA_IIFNAME, "lo") &&
	    !nla_put_u32(message, FRA_TABLE, plan->table) &&
	    !nla_put_u8(message, FRA_PROTOCOL, ROUTE_PROTOCOL))
		return message;
	nlmsg_free(message);
	return NULL;
}

static struct nl_msg *build_route(int type, int flags, const struct route_plan *plan)
{
	struct rtmsg header = {
		.rtm_family = (uint8_t)plan->family,
		.rtm_table = plan->table < 256 ? (uint8_t)plan->table : RT_TABLE_UNSPEC,
		.rtm_protocol = ROUTE_PROTOCOL,
		.rtm_scope = plan->family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_LOCAL,
	};
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
	    !nla_put_u32(message, RTA_TABLE, plan->table) &&
	    !nla_put_u32(message, RTA_OIF, if_nametoindex("lo")))
		return message;
	nlmsg_free(message);
	return NULL;
}

/* Send a request and put a refusal into words. Returns 0 or -1. */
static int request(struct route *route, struct nl_msg *message, const char *call,
		   const char *subject, struct failure *why)
{
	int err = netlink_ask(route->channel, message, NULL, NULL);

	if (!err)
		return 0;
	report_fail(why, -err, call, "%s", subject);
	report_detail(why, "%s", netlink_words(route->channel));
	if (err == -ENETDOWN)
		report_hint(why, "lo is down: ip link set lo up");
	return -1;
}

/* --- dumps ------------------------------------------------------------------------------------ */

/* Collects the entries of one dump, so that a repeated dump can start over. */
struct entries {
	struct route_entry *at;
	size_t count;
	bool failed;
};

static void add_entry(struct entries *list, const struct route_entry *entry)
{
	struct route_entry *grown = list->at;

	if (!(list->count & (list->count - 1)))
		grown = realloc(list->at, (list->count ? 2 * list->count : 1) * sizeof(*grown));
	if (!grown) {
		list->failed = true;
		return;
	}
	list->at = grown;
	list->at[list->count++] = *entry;
}

static void read_rule(struct nlmsghdr *message, void *context)
{
	struct route_entry e;

	if (route_entry_read_rule(message, &e))
		add_entry(context, &e);
}

static void read_route(struct nlmsghdr *message, void *context)
{
	struct route_entry e;

	if (route_entry_read_route(message, &e))
		add_entry(context, &e);
}

static struct nl_msg *build_rule_dump(sa_family_t family)
{
	struct fib_rule_hdr header = { .family = (uint8_t)family };
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETRULE, NLM_F_DUMP);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO))
		return message;
	nlmsg_free(message);
	return NULL;
}

/* table 0: those of all tables; protocol 0: of all protocols. */
static struct nl_msg *build_route_dump(sa_family_t family, uint32_t table, uint8_t protocol)
{
	struct rtmsg header = { .rtm_family = (uint8_t)family, .rtm_protocol = protocol };
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_DUMP);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
	    (!table || !nla_put_u32(message, RTA_TABLE, table)))
		return message;
	nlmsg_free(message);
	return NULL;
}

static int dump_rules(struct route *route, sa_family_t family, struct entries *list,
		      struct failure *why)
{
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < DUMP_ATTEMPTS; i++) {
		list->count = 0;
		err = netlink_ask(route->channel, build_rule_dump(family), read_rule, list);
	}
	/* A family that this kernel lacks has no rules. */
	if (err == -EAFNOSUPPORT || err == -EOPNOTSUPP)
		err = 0;
	if (err || list->failed)
		return report_fail(why, list->failed ? ENOMEM : -err, "RTM_GETRULE", "%s rules",
				   family == AF_INET ? "IPv4" : "IPv6");
	return 0;
}

static int dump_routes(struct route *route, sa_family_t family, uint32_t table, uint8_t protocol,
		       struct entries *list, struct failure *why)
{
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < DUMP_ATTEMPTS; i++) {
		list->count = 0;
		err = netlink_ask(route->channel, build_route_dump(family, table, protocol),
				  read_route, list);
	}
	/* The kernel answers ENOENT for a table that was never used. */
	if (err == -ENOENT || err == -EAFNOSUPPORT || err == -EOPNOTSUPP)
		err = 0;
	if (err || list->failed)
		return report_fail(why, list->failed ? ENOMEM : -err, "RTM_GETROUTE",
				   "%s routes of table %u", family == AF_INET ? "IPv4" : "IPv6",
				   table);
	return 0;
}

int route_own_addresses(struct route *route, struct cidr_list *list, struct failure *why)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };
	struct entries found = { 0 };
	int result = 0;

	for (int f = 0; f < 2 && result == 0; f++) {
		found.count = 0;
		result = dump_routes(route, families[f], RT_TABLE_LOCAL, 0, &found, why);
		for (size_t i = 0; i < found.count && result == 0; i++) {
			const struct route_entry *e = &found.at[i];
			struct cidr c = { .family = families[f], .length = e->dst_length };

			memcpy(&c.addr, &e->dst.addr, sizeof(c.addr));
			if (e->type == RTN_LOCAL)
				result = endpoint_cidr_add(list, &c, why);
		}
	}
	free(found.at);
	return result;
}

bool route_table_is_local(struct route *route, sa_family_t family, uint32_t table)
{
	struct entries routes = { 0 };
	bool covered = false, other = false;

	if (!dump_routes(route, family, table, 0, &routes, NULL))
		for (size_t i = 0; i < routes.count; i++) {
			other |= routes.at[i].type != RTN_LOCAL;
			covered |= !routes.at[i].dst_length;
		}
	free(routes.at);
	return covered && !other;
}

/* --- ours and others' ------------------------------------------------------------------------- */

static bool is_our_rule(const struct route_entry *e, const struct route_plan *plan)
{
	return e->protocol == ROUTE_PROTOCOL && e->plain && !e->plan.answers &&
	       e->plan.table == plan->table && e->plan.pref == plan->pref &&
	       e->plan.mark.value == plan->mark.value && e->plan.mark.mask == plan->mark.mask;
}

static bool is_our_answers(const struct route_entry *e, const struct route_plan *plan)
{
	return e->protocol == ROUTE_PROTOCOL && e->plan.answers && e->plan.table == plan->table &&
	       e->plan.pref == plan->pref;
}

static bool is_our_route(const struct route_entry *e)
{
	return e->protocol == ROUTE_PROTOCOL && e->plain;
}

static void look_at_rules(const struct entries *list, const struct route_plan *plan,
			  struct route_state *state, char conflict[160])
{
	char mark[QUANTITY_MARK_MAX];

	for (size_t i = 0; i < list->count; i++) {
		const struct route_entry *e = &list->at[i];

		if (is_our_rule(e, plan))
			state->rule = true;
		else if (is_our_answers(e, plan))
			state->answers = true;
		else if (e->plan.table == plan->table && e->action == FR_ACT_TO_TBL &&
			 e->protocol != ROUTE_PROTOCOL)
			snprintf(conflict, 160,
				 "a rule that is not ours leads to it: `ip %srule: %u: fwmark %s "
				 "lookup %u`",
				 plan->family == AF_INET ? "" : "-6 ", e->plan.pref,
				 quantity_format_mark(&e->plan.mark, mark), e->plan.table);
	}
}

static void look_at_routes(const struct entries *list, const struct route_plan *plan,
			   struct route_state *state, char conflict[160])
{
	char address[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < list->count; i++) {
		const struct route_entry *e = &list->at[i];

		if (e->plan.table != plan->table)
			continue;
		if (is_our_route(e))
			state->route = true;
		else if (e->protocol == ROUTE_PROTOCOL)
			continue; /* somebody changed it: see route_tags_read() */
		else if (!e->dst_length)
			snprintf(conflict, 160, "it holds a default route that is not ours");
		else
			snprintf(conflict, 160, "it holds a route that is not ours: %s/%u",
				 endpoint_format_address(&e->dst, address), e->dst_length);
	}
}

int route_look(struct route *route, const struct route_plan *plan, struct route_state *state,
	       char conflict[160], struct failure *why)
{
	struct entries rules = { 0 }, routes = { 0 };
	int err = -1;

	*state = (struct route_state){ 0 };
	conflict[0] = '\0';
	if (!dump_rules(route, plan->family, &rules, why) &&
	    !dump_routes(route, plan->family, plan->table, 0, &routes, why)) {
		look_at_rules(&rules, plan, state, conflict);
		look_at_routes(&routes, plan, state, conflict);
		err = 0;
	}
	free(rules.at);
	free(routes.at);
	return err;
}

/* The route first: a packet must never be sent to a table that cannot answer. Everything requested
 * counts as added even if the request fails: the kernel may have done it, and only its answer was
 * lost. Removing something that is not there, or not ours by its tag, does nothing. */
int route_add(struct route *route, const struct route_plan *plan, const struct route_state *there,
	      struct route_state *added, struct failure *why)
{
	char subject[120];

	*added = (struct route_state){ 0 };
	if (!there->route) {
		describe_route(plan, subject, sizeof(subject));
		added->route = true;
		if (request(route, build_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, plan),
			    "RTM_NEWROUTE", subject, why))
			return -1;
	}
	if (!there->rule) {
		describe_rule(plan, subject, sizeof(subject));
		added->rule = true;
		if (request(route, build_rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, plan),
			    "RTM_NEWRULE", subject, why))
			return -1;
	}
	if (plan->answers && !there->answers) {
		describe_answers(plan, subject, sizeof(subject));
		added->answers = true;
		if (request(route, build_answers(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, plan),
			    "RTM_NEWRULE", subject, why))
			return -1;
	}
	return 0;
}

int route_remove(struct route *route, const struct route_plan *plan,
		 const struct route_state *which, struct failure *why)
{
	struct failure reason;
	char subject[120];

	describe_answers(plan, subject, sizeof(subject));
	if (which->answers &&
	    request(route, build_answers(RTM_DELRULE, 0, plan), "RTM_DELRULE", subject, &reason) &&
	    reason.err != ENOENT) {
		*why = reason;
		return -1;
	}
	describe_rule(plan, subject, sizeof(subject));
	if (which->rule &&
	    request(route, build_rule(RTM_DELRULE, 0, plan), "RTM_DELRULE", subject, &reason) &&
	    reason.err != ENOENT) {
		*why = reason;
		return -1;
	}
	describe_route(plan, subject, sizeof(subject));
	if (which->route &&
	    request(route, build_route(RTM_DELROUTE, 0, plan), "RTM_DELROUTE", subject, &reason) &&
	    reason.err != ESRCH && reason.err != ENOENT) {
		*why = reason;
		return -1;
	}
	return 0;
}

static bool leads_to(const struct entries *rules, uint32_t table)
{
	for (size_t i = 0; i < rules->count; i++)
		if (rules->at[i].plan.table == table)
			return true;
	return false;
}

static bool table_is_free(struct route *route, uint32_t table)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };
	bool is_free = true;

	for (int i = 0; is_free && i < 2; i++) {
		struct entries rules = { 0 }, routes = { 0 };

		is_free = !dump_rules(route, families[i], &rules, NULL) &&
			  !dump_routes(route, families[i], table, 0, &routes, NULL) &&
			  !leads_to(&rules, table) && !leads_to(&routes, table);
		free(rules.at);
		free(routes.at);
	}
	return is_free;
}

uint32_t route_free_table(struct route *route, uint32_t from)
{
	for (uint32_t table = from + 1; table && table - from <= TABLES_TRIED; table++)
		if ((table < RT_TABLE_DEFAULT || table > RT_TABLE_LOCAL) &&
		    table_is_free(route, table))
			return table;
	return 0;
}

/* --- everything with our tag
 * ---------------------------------------------------------------------- */

struct tag_reading {
	struct route_tags *tags;
	size_t before; /* of the current dump */
	bool failed;
};

/* Attributes that change by themselves are left out. */
static void forget_times(struct nlmsghdr *route)
{
	struct nlattr *times = route->nlmsg_type == RTM_NEWROUTE
				       ? nlmsg_find_attr(route, sizeof(struct rtmsg), RTA_CACHEINFO)
				       : NULL;

	if (times)
		memset(nla_data(times), 0, (size_t)nla_len(times));
}

static void add_tagged(struct tag_reading *r, struct nlmsghdr *message, const struct route_entry *e)
{
	struct route_tags *tags = r->tags;
	struct route_tagged *grown = realloc(tags->at, (tags->count + 1) * sizeof(*grown));
	struct nlmsghdr *copy = grown ? malloc(message->nlmsg_len) : NULL;

	if (grown)
		tags->at = grown;
	if (!copy) {
		r->failed = true;
		return;
	}
	memcpy(copy, message, message->nlmsg_len);
	forget_times(copy);
	tags->at[tags->count++] = (struct route_tagged){
		.is_rule = message->nlmsg_type == RTM_NEWRULE,
		.plain = e->plain,
		.plan = e->plan,
		.message = copy,
	};
}

static void read_tagged(struct nlmsghdr *message, void *context)
{
	struct route_entry e;

	if ((route_entry_read_rule(message, &e) || route_entry_read_route(message, &e)) &&
	    e.protocol == ROUTE_PROTOCOL)
		add_tagged(context, message, &e);
}

static void forget_tagged(struct route_tags *tags, size_t count)
{
	while (tags->count > count)
		free(tags->at[--tags->count].message);
}

static int read_tags(struct route *route, sa_family_t family, bool rules, struct route_tags *tags,
		     struct failure *why)
{
	struct tag_reading r = { tags, tags->count, false };
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < DUMP_ATTEMPTS; i++) {
		forget_tagged(tags, r.before);
		err = netlink_ask(route->channel,
				  rules ? build_rule_dump(family)
					: build_route_dump(family, 0, ROUTE_PROTOCOL),
				  read_tagged, &r);
	}
	if (err == -ENOENT || err == -EAFNOSUPPORT || err == -EOPNOTSUPP)
		err = 0;
	if (err || r.failed)
		return report_fail(why, r.failed ? ENOMEM : -err,
				   rules ? "RTM_GETRULE" : "RTM_GETROUTE", "%s with our tag",
				   family == AF_INET ? "IPv4" : "IPv6");
	return 0;
}

int route_tags_read(struct route *route, struct route_tags *tags, struct failure *why)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };

	*tags = (struct route_tags){ 0 };
	for (int i = 0; i < 2; i++)
		if (read_tags(route, families[i], true, tags, why) ||
		    read_tags(route, families[i], false, tags, why))
			return -1;
	return 0;
}

void route_tags_free(struct route_tags *tags)
{
	forget_tagged(tags, 0);
	free(tags->at);
	*tags = (struct route_tags){ 0 };
}

/* The kernel's message, as a request. Its flags report the kernel's findings about the route
 * (linkdown and the like); a request must not contain them. */
static struct nl_msg *build_again(const struct route_tagged *tagged, int type, int flags)
{
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);
	int length = nlmsg_datalen(tagged->message);

	if (!message || nlmsg_append(message, nlmsg_data(tagged->message), (size_t)length, 0)) {
		nlmsg_free(message);
		return NULL;
	}
	if (!tagged->is_rule)
		((struct rtmsg *)nlmsg_data(nlmsg_hdr(message)))->rtm_flags = 0;
	return message;
}

int route_tags_remove(struct route *route, const struct route_tagged *tagged, struct failure *why)
{
	char text[ROUTE_ENTRY_TEXT_MAX];
	struct failure reason;

	route_entry_describe(tagged->message, text);
	if (!request(route, build_again(tagged, tagged->is_rule ? RTM_DELRULE : RTM_DELROUTE, 0),
		     tagged->is_rule ? "RTM_DELRULE" : "RTM_DELROUTE", text, &reason) ||
	    reason.err == ENOENT || reason.err == ESRCH)
		return 0;
	*why = reason;
	return -1;
}

int route_tags_restore(struct route *route, const struct route_tagged *tagged, struct failure *why)
{
	char text[ROUTE_ENTRY_TEXT_MAX];

	route_entry_describe(tagged->message, text);
	return request(
		route,
		build_again(tagged, tagged->is_rule ? RTM_NEWRULE : RTM_NEWROUTE, NLM_F_CREATE),
		tagged->is_rule ? "RTM_NEWRULE" : "RTM_NEWROUTE", text, why);
}

int route_each_rule(struct route *route, sa_family_t family, route_rule_visitor *visit,
		    void *context, struct failure *why)
{
	struct entries rules = { 0 };
	int result = dump_rules(route, family, &rules, why);

	for (size_t i = 0; !result && i < rules.count; i++) {
		const struct route_entry *e = &rules.at[i];
		const struct route_rule rule = {
			.pref = e->plan.pref,
			.table = e->plan.table,
			.mark = e->plan.mark,
			.protocol = e->protocol,
			.narrow = e->narrow,
			.inverted = e->inverted,
			.selector = e->selector,
			.refuses = e->action >= FR_ACT_BLACKHOLE && e->action <= FR_ACT_PROHIBIT,
		};

		if (e->action == FR_ACT_TO_TBL || rule.refuses)
			result = visit(&rule, context);
	}
	free(rules.at);
	return result;
}

/* #syscalls collect: socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0), close */
bool route_family_usable(sa_family_t family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char disabled = '0';
	FILE *in;

	if (fd < 0) /* if unknown, do not refuse: a later step will fail */
		return errno != EAFNOSUPPORT;
	close(fd);
	if (family == AF_INET)
		return true;
	in = fopen("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "re");
	if (in) {
		disabled = (char)fgetc(in);
		fclose(in);
	}
	return disabled != '1';
}

bool route_table_refuses(struct route *route, sa_family_t family, uint32_t table)
{
	struct entries routes = { 0 };
	bool found = false;

	if (!dump_routes(route, family, table, 0, &routes, NULL))
		for (size_t i = 0; i < routes.count; i++)
			found |= routes.at[i].type == RTN_BLACKHOLE ||
				 routes.at[i].type == RTN_UNREACHABLE ||
				 routes.at[i].type == RTN_PROHIBIT;
	free(routes.at);
	return found;
}

/* --- the kernel's decision -------------------------------------------------------------------- */

static int put_address(struct nl_msg *message, int attribute, const struct endpoint *e)
{
	return nla_put(message, attribute,
		       e->family == AF_INET ? sizeof(e->addr.v4) : sizeof(e->addr.v6), &e->addr);
}

static int put_ports(struct nl_msg *message, const struct route_question *q)
{
	if (!q->protocol)
		return 0;
	if (nla_put_u8(message, RTA_IP_PROTO, q->protocol))
		return -1;
	if (q->source.port && nla_put_u16(message, RTA_SPORT, htons(q->source.port)))
		return -1;
	return q->destination.port ? nla_put_u16(message, RTA_DPORT, htons(q->destination.port))
				   : 0;
}

static struct nl_msg *build_question(const struct route_question *q, unsigned flags)
{
	uint8_t bits = q->destination.family == AF_INET ? 32 : 128;
	bool with_source = endpoint_is_set(&q->source);
	struct rtmsg header = {
		.rtm_family = (uint8_t)q->destination.family,
		.rtm_dst_len = bits,
		.rtm_src_len = with_source ? bits : 0,
		/* IPv6 always reports the table, and a strict kernel refuses the flag. */
		.rtm_flags = flags | (q->destination.family == AF_INET ? RTM_F_LOOKUP_TABLE : 0),
	};
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETROUTE, 0);

	if (message && !nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
	    !put_address(message, RTA_DST, &q->destination) &&
	    (!with_source || !put_address(message, RTA_SRC, &q->source)) &&
	    (!q->iif || !nla_put_u32(message, RTA_IIF, q->iif)) &&
	    (!q->destination.scope || !nla_put_u32(message, RTA_OIF, q->destination.scope)) &&
	    (!q->has_uid || !nla_put_u32(message, RTA_UID, q->uid)) &&
	    (!q->mark || !nla_put_u32(message, RTA_MARK, q->mark)) && !put_ports(message, q))
		return message;
	nlmsg_free(message);
	return NULL;
}

static void read_answer(struct nlmsghdr *message, void *context)
{
	const struct rtmsg *header = nlmsg_data(message);
	struct route_answer *answer = context;
	struct nlattr *a[RTA_MAX + 1];

	if (message->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(message, sizeof(*header), a, RTA_MAX, NULL))
		return;
	answer->type = header->rtm_type;
	answer->table = route_entry_u32(a[RTA_TABLE], header->rtm_table);
	answer->oif = route_entry_u32(a[RTA_OIF], 0);
	route_entry_read_address(&answer->gateway, header->rtm_family, a[RTA_GATEWAY]);
}

static int ask(struct route *route, const struct route_question *question,
	       struct route_answer *answer, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];
	int err;

	*answer = (struct route_answer){ 0 };
	err = netlink_ask(route->channel, build_question(question, 0), read_answer, answer);
	if (!err)
		return 0;
	report_fail(why, -err, "RTM_GETROUTE", "%s",
		    endpoint_format_address(&question->destination, text));
	return report_detail(why, "%s", netlink_words(route->channel));
}

static int is_by_source(const struct route_rule *rule, void *context)
{
	(void)context;
	return rule->selector.source.family && rule->protocol != ROUTE_PROTOCOL;
}

/* Would lo take any source, and pass it on? */
static bool lo_routes(void)
{
	return sysctl_read(0, "net/ipv4/conf/lo/forwarding") == 1 &&
	       sysctl_read(0, "net/ipv4/conf/lo/rp_filter") == 0 &&
	       sysctl_read(0, "net/ipv4/conf/all/rp_filter") == 0;
}

static int ask_spoofed(struct route *route, const struct route_question *question,
		       struct route_answer *answer, struct failure *why)
{
	struct route_question plain = *question;

	plain.source.family = AF_UNSPEC; /* its port stays */
	if (ask(route, &plain, answer, why))
		return -1;
	if (!lo_routes() || route_each_rule(route, AF_INET, is_by_source, NULL, NULL) != 1)
		return 0;
	plain = *question;
	plain.iif = if_nametoindex("lo");
	return ask(route, &plain, answer, why);
}

int route_ask(struct route *route, const struct route_question *question,
	      struct route_answer *answer, struct failure *why)
{
	if (question->spoofed && question->destination.family == AF_INET)
		return ask_spoofed(route, question, answer, why);
	return ask(route, question, answer, why);
}

/* Connecting a UDP socket sends nothing. */
bool route_source(const struct endpoint *destination, struct endpoint *out)
{
	union endpoint_sockaddr sa;
	socklen_t length = endpoint_to_sockaddr(destination, &sa);
	int fd = socket(destination->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool found = fd >= 0 && !connect(fd, &sa.sa, length);

	length = sizeof(sa);
	found = found && !getsockname(fd, &sa.sa, &length);
	if (found)
		*out = endpoint_from_sockaddr(&sa, length);
	if (fd >= 0)
		close(fd);
	return found;
}

/* Of a route that a nexthop object describes the kernel tells the hops, too
 * (net.ipv4.nexthop_compat_mode). */
static void count_hops(struct nlmsghdr *message, void *context)
{
	struct nlattr *a[RTA_MAX + 1];
	struct rtnexthop *hop;
	unsigned *hops = context;
	int left;

	if (message->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(message, sizeof(struct rtmsg), a, RTA_MAX, NULL))
		return;
	*hops = 1;
	if (!a[RTA_MULTIPATH])
		return;
	left = nla_len(a[RTA_MULTIPATH]);
	*hops = 0;
	for (hop = nla_data(a[RTA_MULTIPATH]); RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		left -= NLA_ALIGN(hop->rtnh_len);
		++*hops;
	}
}

unsigned route_hops(struct route *route, const struct route_question *question)
{
	unsigned hops = 0;
	int err = netlink_ask(route->channel, build_question(question, RTM_F_FIB_MATCH), count_hops,
			      &hops);

	/* About a hundred, of IPv6 addresses (inet_rtm_getroute()). */
	if (err == -EMSGSIZE)
		return ROUTE_HOPS_MANY;
	return err ? 0 : hops;
}
