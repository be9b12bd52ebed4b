/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/plan.h"

#include "base/shell.h"
#include "intercept/nft_text.h"
#include "intercept/spec_text.h"
#include "net/route.h"
#include "tproxy-setup/spec_json.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* xt_multiport takes this many ports; a range counts twice. */
#define MULTIPORT_MAX 15

/* Chains of iptables have names of up to 28 characters; ours are tproxy_NAME_STAGE. */
#define CHAIN_MAX 28
#define STAGE_MAX 4

/* One address family's tools. */
struct tools {
	const char *iptables, *ip;
	sa_family_t family;
};
static const struct tools tools[] = {
	{ "iptables", "ip -4", AF_INET },
	{ "ip6tables", "ip -6", AF_INET6 },
};
#define TOOLS (sizeof(tools) / sizeof(*tools))

static bool wants(const struct intercept *spec, const struct tools *t)
{
	return t->family == AF_INET ? spec->ipv4 : spec->ipv6;
}

/* --- ip --------------------------------------------------------------------------------------- */

static const char *loopback_of(const struct tools *tool)
{
	return tool->family == AF_INET ? "127.0.0.0/8" : "::1";
}

/* Our tag marks what `down` knows and removes. */
static void put_routing(FILE *out, const struct intercept *spec, bool tagged)
{
	char mark[QUANTITY_MARK_MAX], tag[2][16] = { "", "" };

	quantity_format_mark(&spec->mark, mark);
	if (tagged) {
		snprintf(tag[0], sizeof(tag[0]), " proto %d", ROUTE_PROTOCOL);
		snprintf(tag[1], sizeof(tag[1]), " protocol %d", ROUTE_PROTOCOL);
	}
	for (size_t i = 0; i < TOOLS; i++) {
		if (!wants(spec, &tools[i]))
			continue;
		fprintf(out, "%s route add local default dev lo table %u%s\n", tools[i].ip,
			spec->table, tag[0]);
		fprintf(out, "%s rule add pref %u fwmark %s lookup %u%s\n", tools[i].ip, spec->pref,
			mark, spec->table, tag[1]);
		if (intercept_keeps_answers(spec))
			fprintf(out, "%s rule add pref %u from %s iif lo lookup %u%s\n",
				tools[i].ip, spec->pref, loopback_of(&tools[i]), spec->table,
				tag[1]);
	}
}

static void undo_routing(FILE *out, const struct intercept *spec)
{
	char mark[QUANTITY_MARK_MAX];

	quantity_format_mark(&spec->mark, mark);
	for (size_t i = 0; i < TOOLS; i++) {
		if (!wants(spec, &tools[i]))
			continue;
		if (intercept_keeps_answers(spec))
			fprintf(out, PLAN_UNDO "%s rule del pref %u from %s iif lo lookup %u\n",
				tools[i].ip, spec->pref, loopback_of(&tools[i]), spec->table);
		fprintf(out, PLAN_UNDO "%s rule del pref %u fwmark %s lookup %u\n", tools[i].ip,
			spec->pref, mark, spec->table);
		fprintf(out, PLAN_UNDO "%s route del local default dev lo table %u\n", tools[i].ip,
			spec->table);
	}
}

void plan_put_undo_head(FILE *out)
{
	fputs("# To undo it, this text again: | sed -n 's/^" PLAN_UNDO "//p' | sh\n", out);
}

static int refuse_lease(const struct intercept *spec, const char *format, struct failure *why)
{
	if (!spec->confirm_ms)
		return 0;
	return report_refuse(
		why,
		"plan --format %s: --confirm-within: nothing there ends by itself; use "
		"--format nft",
		format);
}

int plan_ip(const struct intercept *spec, FILE *out, struct failure *why)
{
	if (refuse_lease(spec, "ip", why))
		return -1;
	put_routing(out, spec, true);
	plan_put_undo_head(out);
	undo_routing(out, spec);
	return 0;
}

/* --- iptables --------------------------------------------------------------------------------- */

static int refuse(const char *option, const char *reason, struct failure *why)
{
	return report_refuse(why, "plan --format iptables: --%s: %s; use --format nft", option,
			     reason);
}

static int check_iptables(const struct intercept *spec, bool reject, struct failure *why)
{
	if (refuse_lease(spec, "iptables", why))
		return -1;
	if (reject)
		return refuse("no-listener reject", "xt_TPROXY drops when nobody listens", why);
	if (strlen(spec->name) + strlen("tproxy__") + STAGE_MAX > CHAIN_MAX)
		return refuse("name", "too long for the name of a chain", why);
	for (unsigned i = 0; i < spec->devices; i++)
		if (spec->device[i][strlen(spec->device[i]) - 1] == '+')
			return refuse("iif", "a name that ends with + is a wildcard there", why);
	if (spec->udp)
		return refuse("udp", "xt_socket would also take what is for unconnected sockets",
			      why);
	if (intercept_takes_own(spec))
		return refuse("local", "needs a set that the packets fill", why);
	if (spec->no_listener == NO_LISTENER_PASS)
		return refuse("no-listener pass", "xt_TPROXY drops when nobody listens", why);
	if (spec->midstream == MIDSTREAM_PASS)
		return refuse("midstream pass", "needs a set that the packets fill", why);
	if (spec->include_own)
		return refuse("include-own", "xt_socket cannot tell this host's own connections",
			      why);
	if (spec->conntrack == CONNTRACK_ZONE || spec->conntrack == CONNTRACK_ZONE_SNAT)
		return refuse("conntrack", "the upstream leg cannot be told by its socket there",
			      why);
	return 0;
}

/* `iptables -t mangle -A tproxy_NAME_STAGE`; stage "" is the entry. */
static void put_append(FILE *out, const struct tools *t, const struct intercept *spec,
		       const char *stage)
{
	fprintf(out, "%s -t mangle -A tproxy_%s%s%s", t->iptables, spec->name, *stage ? "_" : "",
		stage);
}

static void put_new_chain(FILE *out, const struct tools *t, const struct intercept *spec,
			  const char *stage)
{
	fprintf(out, "%s -t mangle -N tproxy_%s%s%s\n", t->iptables, spec->name, *stage ? "_" : "",
		stage);
}

static void put_mark_return(FILE *out, const struct tools *t, const struct intercept *spec,
			    const struct mark *mark)
{
	char text[QUANTITY_MARK_MAX];

	put_append(out, t, spec, "");
	fprintf(out, " -m mark --mark %s -j RETURN\n", quantity_format_mark(mark, text));
}

/* The classic DIVERT chain: `-j MARK` preserves other programs' bits (--set-xmark VALUE/MASK). A
 * pure SYN may reopen a connection that is in TIME_WAIT here. */
static void put_divert(FILE *out, const struct tools *t, const struct intercept *spec)
{
	char mark[QUANTITY_MARK_MAX];

	put_new_chain(out, t, spec, "div");
	put_append(out, t, spec, "div");
	fprintf(out, " -j MARK --set-xmark %s\n", quantity_format_mark(&spec->mark, mark));
	put_append(out, t, spec, "div");
	fputs(" -j ACCEPT\n", out);
	fprintf(out,
		"%s -t mangle -A PREROUTING -p tcp ! --tcp-flags SYN,ACK SYN -m socket "
		"--transparent -j tproxy_%s_div\n",
		t->iptables, spec->name);
	fprintf(out, "%s -t mangle -A PREROUTING -p %s -m socket --transparent -j tproxy_%s_div\n",
		t->iptables, t->family == AF_INET ? "icmp" : "ipv6-icmp", spec->name);
}

/* Rules of `stage` that match the list, several ports to a rule, each ended by `then`. */
static void put_ports(FILE *out, const struct tools *t, const struct intercept *spec,
		      enum intercept_list_id id, const char *stage, const char *then)
{
	const struct port_list *list = intercept_ports(spec, id);

	for (size_t i = 0; i < list->count;) {
		int room = MULTIPORT_MAX;

		put_append(out, t, spec, stage);
		fputs(" -p tcp -m multiport --dports ", out);
		for (const char *comma = ""; i < list->count; i++, comma = ",") {
			const struct port_range *r = &list->at[i];

			room -= r->first == r->last ? 1 : 2;
			if (room < 0)
				break;
			fprintf(out, r->first == r->last ? "%s%u" : "%s%u:%u", comma, r->first,
				r->last);
		}
		fprintf(out, " %s\n", then);
	}
}

static void put_cidrs(FILE *out, const struct tools *t, const struct intercept *spec,
		      enum intercept_list_id id, const char *stage, const char *then)
{
	const struct cidr_list *list = intercept_cidrs(spec, id);
	const char *option = id == LIST_SRC || id == LIST_NOT_SRC ? "-s" : "-d";
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < list->count; i++)
		if (list->at[i].family == t->family) {
			put_append(out, t, spec, stage);
			fprintf(out, " %s %s %s\n", option,
				endpoint_format_cidr(&list->at[i], text), then);
		}
}

/* A chain that passes on to the next stage only what is in the list (everything if it is empty). */
static void put_stage(FILE *out, const struct tools *t, const struct intercept *spec,
		      enum intercept_list_id id, const char *stage, const char *next)
{
	char then[64];

	put_new_chain(out, t, spec, stage);
	snprintf(then, sizeof(then), "-g tproxy_%s_%s", spec->name, next);
	if (!intercept_digest_of(spec, id).count) {
		put_append(out, t, spec, stage);
		fprintf(out, " %s\n", then);
	} else if (intercept_lists[id].is_ports) {
		put_ports(out, t, spec, id, stage, then);
	} else {
		put_cidrs(out, t, spec, id, stage, then);
	}
}

/* Can a client's own port be in the list, so that answers to it match the predicate, too? */
static bool fits_answers(const struct intercept *spec)
{
	for (size_t i = 0; i < spec->port.count; i++)
		if (spec->port.at[i].first != spec->port.at[i].last && spec->port.at[i].last > 1023)
			return true;
	return !spec->port.count;
}

static void put_last_stage(FILE *out, const struct tools *t, const struct intercept *spec)
{
	const struct endpoint *to = t->family == AF_INET ? &spec->to4 : &spec->to6;
	char text[ENDPOINT_TEXT_MAX], mark[QUANTITY_MARK_MAX];

	put_new_chain(out, t, spec, "end");
	put_append(out, t, spec, "end");
	fputs(" -m addrtype --dst-type LOCAL -j RETURN\n", out);
	put_append(out, t, spec, "end");
	fputs(t->family == AF_INET ? " -m addrtype --dst-type BROADCAST -j RETURN\n"
				   : " -m addrtype --dst-type ANYCAST -j RETURN\n",
	      out);
	put_ports(out, t, spec, LIST_NOT_PORT, "end", "-j RETURN");
	put_cidrs(out, t, spec, LIST_NOT_SRC, "end", "-j RETURN");
	put_cidrs(out, t, spec, LIST_NOT_DST, "end", "-j RETURN");
	for (unsigned i = 0; i < spec->not_marks; i++) {
		put_append(out, t, spec, "end");
		fprintf(out, " -m mark --mark %s -j RETURN\n",
			quantity_format_mark(&spec->not_mark[i], mark));
	}
	/* See put_bare_resets() in nft_text. */
	put_append(out, t, spec, "end");
	fprintf(out,
		" -p tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG RST -m length --length %d -j RETURN\n",
		t->family == AF_INET ? 40 : 60);
	if (fits_answers(spec)) {
		put_append(out, t, spec, "end");
		fputs(" -m conntrack --ctdir REPLY -j RETURN\n", out);
	}
	put_append(out, t, spec, "end");
	fprintf(out, " -p tcp -j TPROXY --on-ip %s --on-port %u --tproxy-mark %s\n",
		endpoint_format_address(to, text), to->port,
		quantity_format_mark(&spec->mark, mark));
}

/* iptables' wildcard is +. */
static const char *iptables_device(const char *pattern, char buf[IFNAMSIZ])
{
	snprintf(buf, IFNAMSIZ, "%s", pattern);
	if (*buf && buf[strlen(buf) - 1] == '*')
		buf[strlen(buf) - 1] = '+';
	return buf;
}

/* The chains from the last to the first: each jumps to one that exists already. */
static void put_interception(FILE *out, const struct tools *t, const struct intercept *spec)
{
	put_last_stage(out, t, spec);
	put_stage(out, t, spec, LIST_DST, "dst", "end");
	put_stage(out, t, spec, LIST_SRC, "src", "dst");
	put_stage(out, t, spec, LIST_PORT, "port", "src");
	put_new_chain(out, t, spec, "");
	put_mark_return(out, t, spec, &spec->mark);
	put_mark_return(out, t, spec, &spec->upstream_mark);
	for (unsigned i = 0; i < spec->devices; i++) {
		char device[IFNAMSIZ], word[SHELL_WORD_MAX];

		put_append(out, t, spec, "");
		shell_quote(iptables_device(spec->device[i], device), word, sizeof(word));
		fprintf(out, " -i %s -g tproxy_%s_port\n", word, spec->name);
	}
	if (!spec->devices) {
		put_append(out, t, spec, "");
		fprintf(out, " ! -i lo -g tproxy_%s_port\n", spec->name);
	}
	fprintf(out, "%s -t mangle -A PREROUTING -p tcp -j tproxy_%s\n", t->iptables, spec->name);
}

/* The jumps first, then the chains, which refer to each other. */
static void undo_rules(FILE *out, const struct tools *t, const struct intercept *spec)
{
	static const char *const stages[] = { "", "_port", "_src", "_dst", "_end", "_div" };
	const char *name = spec->name;
	size_t first = spec->divert_only ? sizeof(stages) / sizeof(*stages) - 1 : 0;

	if (!spec->divert_only)
		fprintf(out, PLAN_UNDO "%s -t mangle -D PREROUTING -p tcp -j tproxy_%s\n",
			t->iptables, name);
	fprintf(out,
		PLAN_UNDO
		"%s -t mangle -D PREROUTING -p %s -m socket --transparent -j tproxy_%s_div\n",
		t->iptables, t->family == AF_INET ? "icmp" : "ipv6-icmp", name);
	fprintf(out,
		PLAN_UNDO "%s -t mangle -D PREROUTING -p tcp ! --tcp-flags SYN,ACK SYN -m socket "
			  "--transparent -j tproxy_%s_div\n",
		t->iptables, name);
	for (size_t i = first; i < sizeof(stages) / sizeof(*stages); i++)
		fprintf(out, PLAN_UNDO "%s -t mangle -F tproxy_%s%s\n", t->iptables, name,
			stages[i]);
	for (size_t i = first; i < sizeof(stages) / sizeof(*stages); i++)
		fprintf(out, PLAN_UNDO "%s -t mangle -X tproxy_%s%s\n", t->iptables, name,
			stages[i]);
}

int plan_iptables(const struct intercept *spec, bool reject, FILE *out, struct failure *why)
{
	if (check_iptables(spec, reject, why))
		return -1;
	fputs("set -e\n", out);
	if (!spec->divert_only)
		fputs("# When nobody listens, xt_TPROXY drops: --no-listener drop.\n", out);
	if (!spec->divert_only && spec->conntrack == CONNTRACK_AUTO)
		fputs("# Without a conntrack zone for the upstream leg: --conntrack off.\n", out);
	put_routing(out, spec, false);
	for (size_t i = 0; i < TOOLS; i++) {
		if (!wants(spec, &tools[i]))
			continue;
		put_divert(out, &tools[i], spec);
		if (!spec->divert_only)
			put_interception(out, &tools[i], spec);
	}
	plan_put_undo_head(out);
	for (size_t i = 0; i < TOOLS; i++)
		if (wants(spec, &tools[i]))
			undo_rules(out, &tools[i], spec);
	undo_routing(out, spec);
	return 0;
}

/* --- json ------------------------------------------------------------------------------------- */

static json_t *routing_json(const struct intercept *spec)
{
	json_t *list = json_array();
	char mark[QUANTITY_MARK_MAX];

	for (size_t i = 0; i < TOOLS; i++) {
		const char *family = tools[i].family == AF_INET ? "ipv4" : "ipv6";

		if (!wants(spec, &tools[i]))
			continue;
		json_array_append_new(list,
				      json_pack("{s:s,s:i,s:s,s:i,s:i}", "family", family, "pref",
						(int)spec->pref, "mark",
						quantity_format_mark(&spec->mark, mark), "table",
						(int)spec->table, "protocol", ROUTE_PROTOCOL));
		if (intercept_keeps_answers(spec))
			json_array_append_new(list, json_pack("{s:s,s:i,s:s,s:s,s:i,s:i}", "family",
							      family, "pref", (int)spec->pref,
							      "from", loopback_of(&tools[i]), "iif",
							      "lo", "table", (int)spec->table,
							      "protocol", ROUTE_PROTOCOL));
	}
	return list;
}

int plan_json(const struct intercept *spec, FILE *out, struct failure *why)
{
	char *rules = nft_text_install(spec, why), *text;
	json_t *object, *asked;

	if (!rules)
		return -1;
	asked = spec_json(spec);
	object = json_pack("{s:i,s:s,s:s,s:o,s:o,s:s}", "v", 1, "type", "plan", "instance",
			   spec->name, "spec", asked, "routing", routing_json(spec), "nft", rules);
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text)
		fprintf(out, "%s\n", text);
	else
		report_fail(why, ENOMEM, "json_dumps", "plan");
	json_decref(object);
	free(rules);
	free(text);
	return text ? 0 : -1;
}
