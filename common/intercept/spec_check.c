/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/spec_check.h"

#include "base/defaults.h"
#include "base/marks.h"
#include "intercept/field.h"
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

/* A list with prefixes of one family matches nothing in the other. */
static void narrow_families(struct intercept *spec)
{
	const struct cidr_list *positive[] = { &spec->src, &spec->dst };

	for (int i = 0; i < 2; i++) {
		if (!positive[i]->count)
			continue;
		spec->ipv4 &= endpoint_cidrs_have(positive[i], AF_INET);
		spec->ipv6 &= endpoint_cidrs_have(positive[i], AF_INET6);
	}
}

static int check_families(struct intercept *spec, bool only4, bool only6, struct failure *why)
{
	bool want4 = only4 || !only6, want6 = only6 || !only4;

	spec->ipv4 = spec->ipv6 = true;
	narrow_families(spec);
	if (!spec->ipv4 && !spec->ipv6)
		return report_refuse(why, "--src and --dst: no address family in common, nothing "
					  "would match");
	if ((only4 && !spec->ipv4) || (only6 && !spec->ipv6))
		return report_refuse(why,
				     "-%c: --src or --dst has only %s addresses, nothing "
				     "would match",
				     only4 && !spec->ipv4 ? '4' : '6',
				     only4 && !spec->ipv4 ? "IPv6" : "IPv4");
	spec->ipv4 &= want4;
	spec->ipv6 &= want6;
	return 0;
}

/* One family's listener is missing, and no option excludes this family. */
static int check_listener(struct intercept *spec, bool only4, bool only6, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];
	const struct endpoint given = endpoint_is_set(&spec->to4) ? spec->to4 : spec->to6;

	if (!spec->ipv4)
		spec->to4 = (struct endpoint){ 0 };
	if (!spec->ipv6)
		spec->to6 = (struct endpoint){ 0 };
	if (spec->divert_only || (spec->ipv4 <= endpoint_is_set(&spec->to4) &&
				  spec->ipv6 <= endpoint_is_set(&spec->to6)))
		return 0;
	if (!endpoint_is_set(&given))
		return report_refuse(why, "--to PORT: where the listener is; needed unless "
					  "--divert-only");
	endpoint_format(&given, text);
	if (!endpoint_is_set(&spec->to4) && !endpoint_is_set(&spec->to6))
		return report_refuse(why, "--to %s: is an %s address, which %s", text,
				     given.family == AF_INET ? "IPv4" : "IPv6",
				     only4 || only6 ? only4 ? "-4 excludes" : "-6 excludes"
						    : "--src or --dst does not match");
	return report_refuse(why, "--to %s: only an %s address; add %s, or a --to for %s", text,
			     given.family == AF_INET ? "IPv4" : "IPv6",
			     given.family == AF_INET ? "-4" : "-6",
			     given.family == AF_INET ? "IPv6" : "IPv4");
}

static int check_mark(const struct mark *mark, const char *option, struct failure *why)
{
	if (mark->value)
		return 0;
	return report_refuse(why,
			     "--%s 0: packets without a mark carry 0 already; use a value "
			     "with a bit set",
			     option);
}

int spec_check_numbers(const struct intercept *spec, struct failure *why)
{
	char one[QUANTITY_MARK_MAX], other[QUANTITY_MARK_MAX];

	if (check_mark(&spec->mark, "mark", why) ||
	    check_mark(&spec->upstream_mark, "upstream-mark", why))
		return -1;
	if (marks_clash(&spec->mark, &spec->upstream_mark))
		return report_refuse(why,
				     "--mark %s and --upstream-mark %s: one packet could "
				     "carry both; use values that differ in the masks' "
				     "common bits",
				     quantity_format_mark(&spec->mark, one),
				     quantity_format_mark(&spec->upstream_mark, other));
	if (!spec->table || spec->table == RT_TABLE_DEFAULT || spec->table == RT_TABLE_MAIN ||
	    spec->table == RT_TABLE_LOCAL)
		return report_refuse(why,
				     "--table %u: the system's own table; use another, as "
				     "%d",
				     spec->table, DEFAULT_TABLE);
	if (!spec->pref || spec->pref > INTERCEPT_PREF_MAX)
		return report_refuse(
			why, "--pref %u: must be between 0 (local) and %d (main) to have an effect",
			spec->pref, INTERCEPT_PREF_MAX + 1);
	if (!spec->ct_zone || spec->ct_zone > UINT16_MAX)
		return report_refuse(why, "--ct-zone %u: zones are 1 to 65535", spec->ct_zone);
	return 0;
}

static bool asks_for_zone(const struct intercept *spec)
{
	return spec->conntrack == CONNTRACK_ZONE || spec->conntrack == CONNTRACK_ZONE_SNAT;
}

/* Diverting works by socket: options that select packets have no effect. */
static int check_divert_only(const struct intercept *spec, struct failure *why)
{
	struct intercept usual;
	const char *idle = NULL;

	intercept_init(&usual);
	for (size_t i = 0; i < field_count && !idle; i++)
		if (field_table[i].traits & (FIELD_NEW | FIELD_OWNER) &&
		    strcmp(field_table[i].name, "local") != 0 &&
		    !field_equal(&field_table[i], spec, &usual))
			idle = field_table[i].name;
	intercept_free(&usual);
	if (!idle && spec->udp)
		idle = "udp";
	if (!idle && spec->confirm_ms)
		idle = "confirm-within";
	if (!idle && asks_for_zone(spec))
		idle = "conntrack";
	if (!spec->divert_only || !idle)
		return 0;
	return report_refuse(why,
			     "--divert-only and --%s: diverting matches sockets and intercepts no "
			     "new connections",
			     idle);
}

/* Who opens a connection is only known on this host. */
static int check_local(const struct intercept *spec, struct failure *why)
{
	char value[FIELD_VALUE_MAX];

	for (size_t i = 0; !spec->local && i < field_count; i++)
		if (field_table[i].traits & FIELD_OWNER &&
		    *field_show(&field_table[i], spec, value))
			return report_refuse(why,
					     "--%s: only connections that this host itself opens "
					     "have a known owner; it needs --local",
					     field_table[i].name);
	return 0;
}

const char *spec_check_zone_unfit(const struct intercept *spec)
{
	return spec->no_listener == NO_LISTENER_PASS ? "--no-listener pass"
	       : spec->not_marks		     ? "--not-mark"
						     : NULL;
}

/* With marks the user may know better: those set at priority raw are seen in time. */
static int check_zone(const struct intercept *spec, struct failure *why)
{
	if (spec->no_listener != NO_LISTENER_PASS || !asks_for_zone(spec))
		return 0;
	return report_refuse(why, "--conntrack zone and --no-listener pass: which connections "
				  "pass is not known when their zone is chosen");
}

/* Is there a port that is requested and not excluded? */
static int check_ports(const struct intercept *spec, struct failure *why)
{
	bool taken[UINT16_MAX + 1];

	if (!spec->not_port.count)
		return 0;
	memset(taken, !spec->port.count, sizeof(taken));
	for (size_t i = 0; i < spec->port.count; i++)
		for (unsigned port = spec->port.at[i].first; port <= spec->port.at[i].last; port++)
			taken[port] = true;
	for (size_t i = 0; i < spec->not_port.count; i++)
		for (unsigned port = spec->not_port.at[i].first; port <= spec->not_port.at[i].last;
		     port++)
			taken[port] = false;
	for (unsigned port = 1; port <= UINT16_MAX; port++)
		if (taken[port])
			return 0;
	return report_refuse(why, "--not-port excludes all of --port: nothing would match");
}

int spec_check(struct intercept *spec, bool ipv4_only, bool ipv6_only, struct failure *why)
{
	for (size_t i = 0; i < field_count; i++)
		if (field_table[i].kind->settle)
			field_table[i].kind->settle((char *)spec + field_table[i].offset);
	if (check_divert_only(spec, why) || check_local(spec, why) ||
	    check_families(spec, ipv4_only, ipv6_only, why) ||
	    check_listener(spec, ipv4_only, ipv6_only, why) || check_zone(spec, why) ||
	    check_ports(spec, why))
		return -1;
	return spec_check_numbers(spec, why);
}
