/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "base/marks.h"
#include "intercept/spec_text.h"
#include "net/onlink.h"
#include "net/route_verdict.h"
#include "net/sysctl.h"
#include "tproxy-setup/networkd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

/* --- rules and routes of others --------------------------------------------------------------- */

/* One family's rules against the specification's numbers. */
struct scan {
	struct doctor_context *x;
	sa_family_t family;
};

static const char *ip_of(sa_family_t family)
{
	return family == AF_INET ? "ip" : "ip -6";
}

/* Does a rule for one mark match packets that carry only the other? */
static bool catches(const struct mark *a, const struct mark *b)
{
	return a->mask & b->mask && marks_clash(a, b);
}

/* Two that deliver to this host, as the usual commands for tproxy do, lose nothing. */
static int judge_rule(const struct route_rule *rule, void *context)
{
	struct scan *scan = context;
	const struct intercept *spec = scan->x->spec;
	char mark[QUANTITY_MARK_MAX], ours[QUANTITY_MARK_MAX];
	bool alike;

	if (rule->protocol == ROUTE_PROTOCOL || rule->inverted ||
	    !catches(&rule->mark, &spec->mark))
		return 0;
	alike = route_table_is_local(scan->x->kernel->route, scan->family, rule->table);
	context_change_mark(scan->x, &scan->x->proposed.mark);
	context_report_up(scan->x, alike ? DOCTOR_WARN : DOCTOR_FAIL,
			  alike ? "both deliver to this host, so nothing is lost; if it was left "
				  "behind, remove it, else a mark of its own keeps the two apart"
				: "one mark cannot mean two things: packets of one of the two are "
				  "routed as the other's",
			  "",
			  "`%s rule: %u: fwmark %s lookup %u` is not ours and matches our mark %s",
			  ip_of(scan->family), rule->pref, quantity_format_mark(&rule->mark, mark),
			  rule->table, quantity_format_mark(&spec->mark, ours));
	return 0;
}

static void check_table(struct doctor_context *x, sa_family_t family)
{
	const struct route_plan plan = { .family = family,
					 .mark = x->spec->mark,
					 .table = x->spec->table,
					 .pref = x->spec->pref };
	struct route_state state;
	char conflict[160];

	if (route_look(x->kernel->route, &plan, &state, conflict, NULL))
		return;
	if (conflict[0]) {
		x->proposed.table = route_free_table(x->kernel->route, x->spec->table);
		context_report_up(
			x, DOCTOR_FAIL,
			"the table must hold only our route; entries of others are never touched",
			"", "routing table %u: %s", x->spec->table, conflict);
	}
	if (x->installed && !(state.rule && state.route))
		context_report_up(x, DOCTOR_FAIL,
				  "intercepted packets are not delivered to this host; another "
				  "program removed it (systemd-networkd removes foreign rules, an "
				  "interface that goes down takes its routes along)",
				  "", "our %s%s%s is missing in `%s %s`", state.rule ? "" : "rule",
				  state.rule || state.route ? "" : " and ",
				  state.route ? "" : "route", ip_of(family),
				  state.rule ? "route show table all" : "rule");
}

/* --divert-only --local: do answers of a server on a loopback address reach the proxy's socket? */
static void check_answers_kept(struct doctor_context *x, sa_family_t family)
{
	const struct cidr loopback = route_entry_loopback(family);
	struct route_question q = { .source = { .family = family },
				    .destination = { .family = family } };
	char text[ENDPOINT_TEXT_MAX];
	struct route_answer answer;

	memcpy(&q.source.addr, &loopback.addr, sizeof(loopback.addr));
	if (family == AF_INET)
		q.source.addr.v4.s_addr = htonl(INADDR_LOOPBACK);
	for (unsigned i = 0; i < x->flows; i++) {
		if (x->flow[i].client.family != family)
			continue;
		q.destination.addr = x->flow[i].client.addr;
		if (!route_ask(x->kernel->route, &q, &answer, NULL) && answer.type == RTN_LOCAL)
			return;
		context_report_up(
			x, DOCTOR_FAIL,
			"a server on a loopback address cannot answer to a client's address "
			"by which the proxy connects to it",
			"", "what %s sends to %s is not kept on this host (RTM_GETROUTE)",
			family == AF_INET ? "127.0.0.1" : "::1",
			endpoint_format_address(&q.destination, text));
		return;
	}
}

void check_routing_conflicts(struct doctor_context *x)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };
	struct scan scan = { .x = x };

	for (int i = 0; i < 2; i++) {
		if (!intercept_wants(x->spec, families[i]))
			continue;
		scan.family = families[i];
		check_table(x, families[i]);
		if (x->installed && intercept_keeps_answers(x->spec))
			check_answers_kept(x, families[i]);
		route_each_rule(x->kernel->route, families[i], judge_rule, &scan, NULL);
	}
	context_ok(x, "table %u, preference %u and the mark are ours alone", x->spec->table,
		   x->spec->pref);
}

/* --- systemd-networkd ------------------------------------------------------------------------- */

void check_routing_networkd(struct doctor_context *x)
{
	struct networkd_state state;

	networkd_look(&state);
	if (!state.pid) {
		context_ok(x, "systemd-networkd does not run here");
		return;
	}
	if (state.removes_rules)
		context_report(
			x, DOCTOR_WARN,
			"whenever it configures an interface it removes every routing rule that it "
			"did not make: intercepted packets are no longer delivered here, and lost",
			"mkdir -p /etc/systemd/networkd.conf.d && { echo '[Network]'; "
			"echo ManageForeignRoutingPolicyRules=no; } "
			">/etc/systemd/networkd.conf.d/tproxy-tools.conf && "
			"systemctl restart systemd-networkd",
			"systemd-networkd (pid %ld) runs with ManageForeignRoutingPolicyRules=yes "
			"(%s)",
			state.pid, state.source);
	context_ok(x, "systemd-networkd (pid %ld) leaves foreign rules alone (%s)", state.pid,
		   state.source);
}

/* --- the kernel's word on delivery ------------------------------------------------------------ */

static void describe_question(const struct route_question *q, char buf[200])
{
	char source[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX];
	char device[IFNAMSIZ] = "this host";

	if_indextoname(q->iif, device);
	snprintf(buf, 200, "RTM_GETROUTE for %s -> %s, mark 0x%x, from %s",
		 endpoint_format_address(&q->source, source),
		 endpoint_format_address(&q->destination, destination), q->mark, device);
}

/* A lower preference puts our rule before the other one; 0 is the local table's. */
static void report_earlier_rule(struct doctor_context *x, const struct route_question *q,
				const struct route_verdict *verdict)
{
	const struct route_rule *rule = &verdict->rule;
	char asked[200], first[120] = "", mark[QUANTITY_MARK_MAX];

	if (rule->pref <= x->proposed.pref)
		x->proposed.pref = rule->pref > 1 ? rule->pref - 1 : 1;
	describe_question(q, asked);
	/* Packets of the relay to servers have such a source, too. */
	if (verdict->refused && rule->selector.source.family)
		snprintf(first, sizeof(first), "%s rule add pref %u fwmark %s lookup main",
			 ip_of(q->destination.family), x->proposed.pref,
			 quantity_format_mark(&x->proposed.upstream_mark, mark));
	if (verdict->refused)
		context_report_up(
			x, DOCTOR_FAIL,
			"that rule is asked before ours, and intercepted packets, and what "
			"the proxy sends as its clients, are dropped",
			first, "%s: refused by the rule with preference %u, which is not ours",
			asked, rule->pref);
	else
		context_report_up(x, DOCTOR_FAIL,
				  "that rule is asked before ours, and intercepted packets are "
				  "routed on instead of being delivered",
				  "",
				  "%s: table %u, by the rule with preference %u, which is not ours",
				  asked, verdict->answer.table, rule->pref);
}

static void report_undelivered(struct doctor_context *x, const struct route_question *q,
			       const struct route_verdict *verdict)
{
	const struct route_answer *answer = &verdict->answer;
	char asked[200], fix[SYSCTL_FIX_MAX];

	describe_question(q, asked);
	if (verdict->refused)
		context_report(x, DOCTOR_FAIL,
			       "the packet is dropped instead of being delivered to the listener",
			       check_sysctl_fix_source(x, q->iif, fix), "%s: %s", asked,
			       strerror(verdict->failure.err));
	else
		context_report_up(
			x, DOCTOR_FAIL,
			"the packet is routed on instead of being delivered to the listener", "",
			"%s: type %d, table %u instead of `local` in table %u", asked, answer->type,
			answer->table, x->spec->table);
}

/* Is a packet with our mark delivered, with this family's current rules? Returns false if something
 * was reported. */
static bool check_delivery(struct doctor_context *x, const struct route_question *q)
{
	struct route_verdict verdict;
	bool foreign;

	route_verdict_ask(x->kernel->route, q, &verdict);
	if (route_verdict_delivers(&verdict))
		return true;
	foreign = route_verdict_is_foreign(&verdict, x->spec->pref);
	if (foreign)
		report_earlier_rule(x, q, &verdict);
	else if (x->installed)
		report_undelivered(x, q, &verdict);
	return !foreign && !x->installed;
}

void check_routing_delivery(struct doctor_context *x)
{
	bool fine = true;

	for (unsigned i = 0; fine && i < x->flows; i++) {
		const struct packet_path_flow *flow = &x->flow[i];
		const struct route_question question = {
			.source = flow->client,
			.destination = flow->destination,
			.mark = x->spec->mark.value,
			/* Connections of this host are routed to lo on output. */
			.iif = flow->own ? 0 : flow->device->index,
			.protocol = flow->protocol,
		};

		fine = check_delivery(x, &question);
	}
	if (!x->flows)
		context_report(x, DOCTOR_WARN,
			       "nothing is intercepted as long as there is no such interface "
			       "with an address",
			       "ip -brief address",
			       "no interface on which intercepted packets could come in");
	context_ok(x,
		   x->installed ? "marked packets are delivered by table %u, says RTM_GETROUTE"
				: "no rule stands before ours (table %u)",
		   x->spec->table);
}

/* --- the servers' answers --------------------------------------------------------------------- */

/* Check the server's answers to the client's address, on the interface of the upstream leg. */
static bool check_answer(struct doctor_context *x, const struct packet_path_flow *flow)
{
	const struct route_question question = {
		.source = flow->destination,
		.destination = flow->client,
		.mark = x->spec->mark.value,
		.iif = flow->upstream.index,
		.protocol = flow->protocol,
	};

	return !flow->upstream.index || !x->installed || flow->own || check_delivery(x, &question);
}

/* Relayed connections that wait in vain for a server's answer. */
struct waiting {
	struct doctor_context *x;
	unsigned count, established;
	struct sockdiag_socket first;
};

static bool is_spoofed(struct doctor_context *x, const struct endpoint *local)
{
	const struct route_question question = { .destination = *local };
	struct route_answer answer;

	return !route_ask(x->kernel->route, &question, &answer, NULL) && answer.type != RTN_LOCAL;
}

static int visit_upstream(const struct sockdiag_socket *s, void *context)
{
	struct waiting *w = context;

	if (s->transparent != SOCKDIAG_YES || s->state != TCP_SYN_SENT || s->retransmits < 2 ||
	    !is_spoofed(w->x, &s->local))
		return 0;
	if (!w->count++)
		w->first = *s;
	return 0;
}

/* An upstream on this very host sends its answers to the client's address, past the proxy. */
static void report_local_upstream(struct doctor_context *x, const struct waiting *w)
{
	char client[ENDPOINT_TEXT_MAX], server[ENDPOINT_TEXT_MAX];

	context_report(
		x, DOCTOR_FAIL,
		"the upstream is on this host, and its answers to the client's address "
		"bypass the proxy: use tproxy-relay --source own, or an upstream elsewhere",
		"", "%u connection%s as %s to %s: sent again and again, and no answer comes back",
		w->count, w->count == 1 ? "" : "s",
		endpoint_format_address(&w->first.local, client),
		endpoint_format(&w->first.peer, server));
}

static void report_waiting(struct doctor_context *x, const struct waiting *w)
{
	char server[ENDPOINT_TEXT_MAX], client[ENDPOINT_TEXT_MAX],
		own[ENDPOINT_TEXT_MAX] = "THIS_HOST", text[500];
	struct endpoint address = w->first.peer, source;

	if (route_source(&address, &source))
		endpoint_format_address(&source, own);
	endpoint_format_address(&w->first.local, client);
	endpoint_format_address(&address, server);
	snprintf(
		text, sizeof(text),
		"the server answers to the client's address, and unless its way there is through "
		"this host, its answers bypass the proxy: on %s it takes `%s route add %s via %s`; "
		"or other relays are beside this one, and its answers come to them (their doctor "
		"finds one-way; see tproxy-scale(7)); or the server is down",
		server, ip_of(address.family), client, own);
	context_report(
		x, DOCTOR_WARN, text, "",
		"%u connection%s as %s to %s: sent again and again, and no answer comes back",
		w->count, w->count == 1 ? "" : "s", client,
		endpoint_format(&w->first.peer, server));
}

void check_routing_answers(struct doctor_context *x)
{
	const struct sockdiag_filter filter = { .protocol = IPPROTO_TCP,
						.states = 1U << TCP_SYN_SENT };
	struct waiting w = { .x = x };
	bool fine = true;

	for (unsigned i = 0; fine && i < x->flows; i++)
		fine = check_answer(x, &x->flow[i]);
	if (!sockdiag_dump(x->diag, &filter, visit_upstream, &w, NULL) && w.count) {
		if (is_spoofed(x, &w.first.peer))
			report_waiting(x, &w);
		else
			report_local_upstream(x, &w);
	}
	context_ok(x, "answers to clients' addresses come back to this host");
}

/* --- what the proxy sends to clients ---------------------------------------------------------- */

static void check_reply(struct doctor_context *x, const struct packet_path_flow *flow)
{
	const struct route_question question = { .destination = flow->client };
	struct route_answer answer = { 0 };
	struct failure why = { 0 };
	char client[ENDPOINT_TEXT_MAX], fix[160] = "";
	int err = route_ask(x->kernel->route, &question, &answer, &why);

	if (flow->own || (!err && answer.type == RTN_UNICAST))
		return;
	endpoint_format_address(&flow->client, client);
	if (onlink_has(&flow->client, flow->device->name) && !x->spec->src.count)
		onlink_command(&flow->client, flow->device->name, fix, sizeof(fix));
	context_report(x, DOCTOR_FAIL,
		       "the proxy's answers to clients are routed like any packet of this host: "
		       "connections are never established",
		       fix, "RTM_GETROUTE for a client that comes in by %s, %s: %s",
		       flow->device->name, client, err ? strerror(why.err) : "no unicast route");
}

void check_routing_replies(struct doctor_context *x)
{
	for (unsigned i = 0; !x->count && i < x->flows; i++)
		if (!x->flow[i].own)
			check_reply(x, &x->flow[i]);
	context_ok(x, "there is a route back to clients");
}

/* --- VRF -------------------------------------------------------------------------------------- */

/* Packets from a VRF find a listener that is bound to no device only with that setting
 * (inet_sk_bound_dev_eq()), and its sockets then answer through the VRF. */
void check_routing_vrf(struct doctor_context *x)
{
	for (unsigned i = 0; i < x->devices; i++) {
		struct link master;

		if (!x->device[i].master || link_find(x->device[i].master, &master, NULL) != 1 ||
		    !master.is_vrf || sysctl_read(1, "net/ipv4/tcp_l3mdev_accept"))
			continue;
		context_report(
			x, DOCTOR_FAIL,
			"a listener that is not bound to the VRF gets no packets that come in on "
			"it, and the route back to clients is in the VRF's own table",
			"sysctl -w net.ipv4.tcp_l3mdev_accept=1 net.ipv4.udp_l3mdev_accept=1",
			"%s belongs to VRF %s, and net.ipv4.tcp_l3mdev_accept=0", x->device[i].name,
			master.name);
	}
	context_ok(x, "no VRF in the way");
}

/* --- several next hops ------------------------------------------------------------------------ */

/* Bits of fib_multipath_hash_fields (Documentation/networking/ip-sysctl.rst). */
#define HASH_SOURCE	 0x01
#define HASH_DESTINATION 0x02
#define HASH_FLOW_LABEL	 0x08
#define HASH_SOURCE_PORT 0x10
#define HASH_DEST_PORT	 0x20

/* Addresses, protocol and ports. */
#define HASH_FIELDS_BEST "0x37"

/* How the kernel chooses among the next hops of a route. */
struct hash {
	sa_family_t family;
	const char *ip; /* the family, as settings are named */
	long policy;
	long fields; /* of policy 3; -1: this kernel has none (before Linux 5.13) */
};

static struct hash hash_read(sa_family_t family)
{
	struct hash hash = { .family = family, .ip = family == AF_INET ? "ipv4" : "ipv6" };

	hash.policy = sysctl_read(0, "net/%s/fib_multipath_hash_policy", hash.ip);
	hash.fields = sysctl_read(-1, "net/%s/fib_multipath_hash_fields", hash.ip);
	return hash;
}

/* One of two bits, or both, or neither. */
static bool one_of(long fields, long a, long b)
{
	return !(fields & a) != !(fields & b);
}

/*
 * What makes the hash of a connection's answers another one than that of its requests; NULL:
 * nothing. The kernel sorts addresses, and ports, before it hashes them
 * (__flow_hash_consistentify()). Policies 0 and 2 hash the addresses, and in IPv6 the flow label
 * with them (ip6_multipath_l3_keys()). Policy 1 would hash what 3 does with HASH_FIELDS_BEST, if
 * the packet did not have a hash yet (skb->l4_hash in fib_multipath_hash(), rt6_multipath_hash()).
 */
static const char *asymmetry(const struct hash *hash)
{
	if (hash->policy == 1)
		return "it is the one that a packet brings along, from the network card or the "
		       "sender's socket, if it brings one, and answers bring another";
	if (hash->policy == 3 && one_of(hash->fields, HASH_SOURCE, HASH_DESTINATION))
		return "it has one address, not both";
	if (hash->policy == 3 && one_of(hash->fields, HASH_SOURCE_PORT, HASH_DEST_PORT))
		return "it has one port, not both";
	if (hash->family == AF_INET6 && (hash->policy == 0 || hash->policy == 2 ||
					 (hash->policy == 3 && hash->fields & HASH_FLOW_LABEL)))
		return "it has the flow label, which each end chooses for itself";
	return NULL;
}

/* Fields first: they mean nothing until the policy is 3. Without policy 3 IPv4 still has the
 * addresses alone, and IPv6 has nothing. */
static void hash_fix(const struct hash *hash, char *buf, size_t size)
{
	buf[0] = '\0';
	if (hash->fields >= 0)
		snprintf(buf, size,
			 "sysctl -w net.%s.fib_multipath_hash_fields=" HASH_FIELDS_BEST
			 " net.%s.fib_multipath_hash_policy=3",
			 hash->ip, hash->ip);
	else if (hash->family == AF_INET)
		snprintf(buf, size, "sysctl -w net.ipv4.fib_multipath_hash_policy=0");
}

/* The most next hops that a connection's packets meet here, by rules for interfaces, addresses,
 * protocol and ports; without our mark: whoever chooses among relays is not one. Marks of other
 * rules are not known. */
static unsigned hops_of(struct doctor_context *x, const struct packet_path_flow *flow,
			const struct endpoint *far)
{
	const uint32_t in = flow->device->index, back = flow->upstream.index;
	struct route_question question[] = {
		{ .destination = flow->client },
		{ .destination = flow->destination },
		{ .source = flow->client, .destination = flow->destination, .iif = in },
		{ .source = flow->destination, .destination = flow->client, .iif = back },
		{ .source = flow->client, .destination = *far, .iif = in },
	};
	unsigned most = 0;

	question[4].destination.port = flow->destination.port;
	for (size_t i = 0; i < sizeof(question) / sizeof(*question); i++) {
		unsigned hops;

		question[i].protocol = flow->protocol;
		hops = route_hops(x->kernel->route, &question[i]);
		most = hops > most ? hops : most;
	}
	return most;
}

/* Where these packets go, and where the rest of the world is. */
static unsigned most_hops(struct doctor_context *x, sa_family_t family)
{
	struct route_question rest = { .destination.family = family };
	unsigned most;

	/* Reserved for benchmarks: whoever has a route there has a default route. */
	inet_pton(family, family == AF_INET ? "198.18.0.1" : "2001:2::1", &rest.destination.addr);
	most = route_hops(x->kernel->route, &rest);
	for (unsigned i = 0; i < x->flows; i++) {
		unsigned hops = x->flow[i].client.family == family
					? hops_of(x, &x->flow[i], &rest.destination)
					: 0;

		most = hops > most ? hops : most;
	}
	return most;
}

/* Why it matters, and what the finding's remedy cannot do. */
static const char *hash_harm(const struct hash *hash, const char *fix, char *buf, size_t size)
{
	snprintf(buf, size,
		 "if relays are behind these next hops, the two directions of a connection meet "
		 "different ones, and the connection hangs%s%s; seeds and the order of next hops "
		 "must be the same on both sides, too, which one host cannot see: tproxy-scale(7)",
		 hash->policy == 1 ? ", though `ip route get' says the same for both: it asks for "
				     "packets without a hash"
				   : "",
		 *fix ? ""
		      : "; a hash of IPv6 that is the same for both needs policy 3, which this "
			"kernel does not have (Linux 5.13)");
	return buf;
}

static void check_multipath(struct doctor_context *x, sa_family_t family)
{
	const struct hash hash = hash_read(family);
	const char *what = asymmetry(&hash);
	unsigned hops = most_hops(x, family);
	char fix[120], why[600], fields[48] = "", count[16] = "many";

	if (hops < 2 || !what)
		return;
	hash_fix(&hash, fix, sizeof(fix));
	if (hops != ROUTE_HOPS_MANY)
		snprintf(count, sizeof(count), "%u", hops);
	if (hash.policy == 3)
		snprintf(fields, sizeof(fields), " with fib_multipath_hash_fields=0x%lx",
			 hash.fields);
	context_report(x, DOCTOR_WARN, hash_harm(&hash, fix, why, sizeof(why)), fix,
		       "a route with %s next hops, and net.%s.fib_multipath_hash_policy=%ld%s: "
		       "the hash is not the same for both directions: %s",
		       count, hash.ip, hash.policy, fields, what);
}

void check_routing_multipath(struct doctor_context *x)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };

	for (int i = 0; i < 2; i++)
		if (intercept_wants(x->spec, families[i]))
			check_multipath(x, families[i]);
	context_ok(x, "no route whose next hops the directions of a connection would share out");
}
