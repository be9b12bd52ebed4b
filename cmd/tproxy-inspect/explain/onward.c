/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/onward.h"

#include "net/onlink.h"
#include "net/relay_client.h"
#include "net/route_verdict.h"
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_S 10

/* --- policy ----------------------------------------------------------------------------------- */

struct asking {
	struct view *v;
	struct onward *onward;
	char command[128];
	bool answered;
	char reason[32], evidence[400], netns[64];
};

static void keep(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%s", text ? text : "");
}

/* A relay in its sandbox knows no interfaces by name. */
static struct endpoint unscoped(const struct endpoint *e)
{
	struct endpoint copy = *e;

	copy.scope = 0;
	return copy;
}

static int take_answer(const struct record *r, const struct relay_client_peer *peer, void *context,
		       struct failure *why)
{
	struct asking *a = context;
	const struct endpoint *to = &r->value[RECORD_UPSTREAM].endpoint;
	const struct endpoint client = unscoped(&a->v->client);

	if (a->v->holder.pid && peer->pid != a->v->holder.pid)
		return 0;
	if (!strcmp(record_get_text(r, RECORD_TYPE), "relay"))
		keep(a->netns, sizeof(a->netns), record_get_text(r, RECORD_UPSTREAM_NETNS));
	if (strcmp(record_get_text(r, RECORD_TYPE), "policy") != 0)
		return 0;
	a->answered = true;
	keep(a->reason, sizeof(a->reason), record_get_text(r, RECORD_REASON));
	keep(a->evidence, sizeof(a->evidence), record_get_text(r, RECORD_EVIDENCE));
	a->onward->known = true;
	if (r->present & RECORD_BIT(RECORD_UPSTREAM))
		a->onward->destination = *to;
	a->onward->foreign = !a->v->own && r->present & RECORD_BIT(RECORD_UPSTREAM_LOCAL) &&
			     endpoint_same_address(&r->value[RECORD_UPSTREAM_LOCAL].endpoint,
						   &client);
	if (r->present & RECORD_BIT(RECORD_UPSTREAM_LOCAL) && !a->onward->foreign)
		a->onward->sender = r->value[RECORD_UPSTREAM_LOCAL].endpoint;
	return 0;
}

static int ask(const struct relay_client_listener *at, void *context)
{
	struct asking *a = context;
	char wanted[RELAY_CLIENT_NAME_MAX];
	size_t length;

	snprintf(wanted, sizeof(wanted), "@tproxy-relay/%ld", a->v->holder.pid);
	length = strlen(wanted);
	if (a->v->holder.pid &&
	    (strncmp(at->name, wanted, length) || (at->name[length] && at->name[length] != '.')))
		return 0;
	relay_client_ask_within(at, a->command, TIMEOUT_S, take_answer, a, NULL);
	return a->answered;
}

static bool is_relay(const struct view *v)
{
	return !strncmp(v->holder.owner, "tproxy-relay ", 13);
}

static void conclude_denied(struct view *v, const struct asking *a)
{
	char to[ENDPOINT_TEXT_MAX];
	bool denied = !strcmp(a->reason, "denied");

	steps_conclude(&v->steps, denied ? "denied" : "refused", "",
		       "%s does not carry connections to %s: %s%s", v->holder.owner,
		       endpoint_format(&v->destination, to),
		       denied && !strncmp(a->evidence, "--", 2) ? "denied by " : "",
		       *a->evidence ? a->evidence : a->reason);
}

/* Nothing here, no route and no rule, is asked about its upstream leg. */
static void add_elsewhere(struct view *v, struct onward *onward, const char *netns)
{
	onward->elsewhere = true;
	onward->foreign = false;
	steps_add(&v->steps, "upstream", STEP_OK, "control-socket",
		  "in network namespace %s, which is not looked at here", netns);
}

/* What the relay carries on a condition, which a packet does not show. */
static void doubt_policy(struct view *v, const struct asking *a)
{
	steps_add(&v->steps, "policy", STEP_WARN, "control-socket", "%s", a->evidence);
	if (!*v->unless)
		snprintf(v->unless, sizeof(v->unless), "%s: %.200s", v->holder.owner, a->evidence);
}

bool onward_policy(struct view *v, struct onward *onward)
{
	struct asking a = { .v = v, .onward = onward };
	const struct endpoint from = unscoped(&v->client), to = unscoped(&v->destination);
	char client[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];

	*onward = (struct onward){ .destination = v->destination, .foreign = !v->own };
	snprintf(a.command, sizeof(a.command), "policy %s %s", endpoint_format(&from, client),
		 endpoint_format(&to, destination));
	if (!v->holder.pid || is_relay(v))
		relay_client_each(ask, &a, NULL);
	if (!a.answered) {
		steps_add(&v->steps, "policy", is_relay(v) ? STEP_WARN : STEP_OK, "",
			  is_relay(v)
				  ? "it does not say whom it serves: it answers root and its own "
				    "user, and is older perhaps"
				  : "no tproxy-relay: what it does with the connection is its own "
				    "business");
		return true;
	}
	steps_add(&v->steps, "policy", *a.reason ? STEP_FAIL : STEP_OK, "control-socket", "%s%s%s",
		  *a.reason ? a.reason : "carries it to ", *a.reason ? *a.evidence ? ": " : "" : "",
		  *a.reason ? a.evidence : endpoint_format(&onward->destination, destination));
	if (!*a.reason && *a.evidence)
		doubt_policy(v, &a);
	if (*a.reason)
		conclude_denied(v, &a);
	else if (*a.netns)
		add_elsewhere(v, onward, a.netns);
	return !*a.reason;
}

/* --- routes ----------------------------------------------------------------------------------- */

static const char *words_of(int type)
{
	return type == RTN_LOCAL	 ? "this very host"
	       : type == RTN_UNICAST	 ? "a neighbour or a router"
	       : type == RTN_BLACKHOLE	 ? "a blackhole route"
	       : type == RTN_PROHIBIT	 ? "a prohibit route"
	       : type == RTN_UNREACHABLE ? "an unreachable route"
					 : "no host";
}

static void describe_way(const struct route_answer *answer, char buf[200])
{
	char device[IFNAMSIZ] = "no interface", gateway[ENDPOINT_TEXT_MAX];
	char table[ROUTE_VERDICT_TABLE_MAX];

	route_verdict_table_name(answer->table, table);
	if_indextoname(answer->oif, device);
	if (answer->type != RTN_UNICAST)
		snprintf(buf, 200, "%s", words_of(answer->type));
	else if (endpoint_is_set(&answer->gateway))
		snprintf(buf, 200, "by %s via %s, table %s", device,
			 endpoint_format_address(&answer->gateway, gateway), table);
	else
		snprintf(buf, 200, "by %s, table %s", device, table);
}

/* The same if it has none. */
static void describe_refusal(const struct view *v, const struct route_verdict *verdict,
			     char buf[200])
{
	char rule[ROUTE_VERDICT_RULE_MAX];

	if (!verdict->refused)
		describe_way(&verdict->answer, buf);
	else if (verdict->has_rule)
		snprintf(buf, 200, "%s, by `%.120s`", strerror(verdict->failure.err),
			 route_verdict_describe_rule(&verdict->rule, v->client.family, rule));
	else
		snprintf(buf, 200, "%s", strerror(verdict->failure.err));
}

/* Past a rule that refuses what the proxy sends to servers. */
static void put_way_on(const struct view *v, const struct route_verdict *verdict, char *fix,
		       size_t size)
{
	const struct mark mark = { v->flow.upstream_mark, UINT32_MAX };
	struct shell_command c = shell_command(fix, size);
	char text[QUANTITY_MARK_MAX];

	if (!verdict->refused || !verdict->has_rule || verdict->rule.pref < 2 || !mark.value)
		return;
	shell_add(&c, "%s rule add pref %u fwmark %s lookup main",
		  v->client.family == AF_INET ? "ip" : "ip -6", verdict->rule.pref - 1,
		  quantity_format_mark(&mark, text));
}

static bool is_link_local(const struct endpoint *e)
{
	return e->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&e->addr.v6);
}

/* Such a client is somebody on its link alone, also where the proxy connects in its name. */
static bool leaves_link(struct view *v, const struct onward *onward)
{
	char client[ENDPOINT_TEXT_MAX];

	if (!onward->foreign || !is_link_local(&v->client) || is_link_local(&onward->destination))
		return false;
	endpoint_format_address(&v->client, client);
	steps_add(&v->steps, "upstream", STEP_FAIL, "", "%s is an address of its link alone",
		  client);
	steps_conclude(&v->steps, "no-route", "",
		       "the proxy cannot connect to another link by the client's address %s: a "
		       "relay with --source own serves such clients",
		       client);
	return true;
}

bool onward_route(struct view *v, const struct onward *onward)
{
	const struct route_question question = {
		.source = onward->foreign ? v->client : (struct endpoint){ 0 },
		.destination = onward->destination,
		.mark = v->flow.upstream_mark,
		.protocol = (uint8_t)v->protocol,
		.spoofed = onward->foreign,
		.has_uid = v->flow.has_uid,
		.uid = v->flow.uid,
	};
	struct route_verdict verdict;
	const struct route_answer *answer = &verdict.answer;
	char text[200], to[ENDPOINT_TEXT_MAX], fix[STEPS_FIX_MAX] = "";
	bool fine;

	if (leaves_link(v, onward))
		return false;
	route_verdict_ask(v->kernel.route, &question, &verdict);
	fine = !verdict.refused &&
	       (answer->type == RTN_UNICAST || (answer->type == RTN_LOCAL && !onward->foreign));
	describe_refusal(v, &verdict, text);
	endpoint_format(&onward->destination, to);
	steps_add(&v->steps, "upstream", fine ? STEP_OK : STEP_FAIL, "RTM_GETROUTE", "to %s: %s",
		  to, text);
	if (!fine)
		put_way_on(v, &verdict, fix, sizeof(fix));
	if (!fine)
		steps_conclude(&v->steps, "no-route", fix, "the proxy has no way to %s: %s", to,
			       text);
	else
		v->flow.upstream = view_out(v, &onward->destination, v->flow.upstream_mark);
	if (fine && !onward->foreign && !v->own) {
		v->flow.sender = onward->sender;
		if (!endpoint_is_set(&v->flow.sender))
			route_source(&onward->destination, &v->flow.sender);
		v->flow.sender.port = v->client.port;
	}
	return fine;
}

/* A rule other than that of the main table decides: route past it, to the interface where the
 * client is a neighbour. */
static void put_way_back(const struct view *v, const struct route_verdict *verdict, char *fix,
			 size_t size)
{
	const struct route_rule *rule = &verdict->rule;
	struct shell_command c = shell_command(fix, size);
	char client[ENDPOINT_TEXT_MAX];

	if (!verdict->has_rule || rule->table == RT_TABLE_MAIN || !rule->pref)
		onlink_command(&v->client, v->iif.name, fix, size);
	else
		shell_add(&c, "%s rule add pref %u iif lo to %s lookup main",
			  v->client.family == AF_INET ? "ip" : "ip -6", rule->pref - 1,
			  endpoint_format_address(&v->client, client));
}

/* The proxy's answers are routed like any packet of this host: there may be no route, or not to the
 * client's interface. */
bool onward_reply_route(struct view *v)
{
	const struct route_question question = {
		.source = v->destination,
		.destination = v->client,
		.protocol = (uint8_t)v->protocol,
		.spoofed = !v->here,
		.has_uid = v->flow.has_uid,
		.uid = v->flow.uid,
	};
	struct route_verdict verdict;
	const struct route_answer *answer = &verdict.answer;
	char text[200], client[ENDPOINT_TEXT_MAX], fix[STEPS_FIX_MAX] = "";
	bool near = *v->iif.name && onlink_has(&v->client, v->iif.name), fine, strays;

	route_verdict_ask(v->kernel.route, &question, &verdict);
	fine = !verdict.refused && answer->type == (v->own ? RTN_LOCAL : RTN_UNICAST);
	strays = fine && !v->own && answer->oif != v->iif.index;
	describe_refusal(v, &verdict, text);
	endpoint_format_address(&v->client, client);
	steps_add(&v->steps, "reply",
		  !fine || (strays && near) ? STEP_FAIL
		  : strays		    ? STEP_WARN
					    : STEP_OK,
		  "RTM_GETROUTE", "to %s: %s%s%s", client, text,
		  strays ? ", though it comes in by " : "", strays ? v->iif.name : "");
	if (fine && !(strays && near))
		return true;
	if (near)
		put_way_back(v, &verdict, fix, sizeof(fix));
	steps_conclude(&v->steps, "no-way-back", fix,
		       "no way leads back to the client %s, so its connection is never set up: %s",
		       client, text);
	return false;
}
