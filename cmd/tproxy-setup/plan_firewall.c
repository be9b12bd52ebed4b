/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/plan_firewall.h"

#include "base/endpoint.h"
#include "base/fnv.h"
#include "tproxy-setup/plan.h"
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

/* The longest name of a firewalld policy, less `tproxy-` (max_policy_name_len() of its
 * functions.py, in version 1.3). */
#define POLICY_NAME_MAX (18 - 7)

#define UNDO PLAN_UNDO

static int refuse_name(const char *name, const char *format, const char *reason,
		       struct failure *why)
{
	return report_refuse(why, "plan --format %s: --name %s: %s", format, name, reason);
}

/* --- firewalld -------------------------------------------------------------------------------- */

/*
 * Its rules do not match marks. Its sets do, of type hash:ip,mark, and with prefixes for IPv4 only
 * (check_entry() of its io/ipset.py). For IPv6 what is left is the destination: whatever is in
 * INPUT and not addressed to this host has been intercepted.
 *
 * Its direct rules, and other tables, would not do: what one chain accepts is dropped by the next
 * one.
 */

#define ETC  "/etc/firewalld"
#define CONF ETC "/firewalld.conf"

static bool accepts_destinations(const struct intercept *spec)
{
	return spec->ipv6 && !spec->divert_only;
}

/* What would accept more than is intercepted: the rules for IPv6 cannot tell. */
static int check_destinations(const struct intercept *spec, struct failure *why)
{
	if (!accepts_destinations(spec))
		return 0;
	if (!spec->port.count)
		return report_refuse(why, "plan --format firewalld: without --port every port of "
					  "an IPv6 address that this host gets later would be "
					  "open; name the --port, or use -4");
	if (spec->include_own)
		return report_refuse(why, "plan --format firewalld: --include-own would open the "
					  "--port at this host's own IPv6 addresses; use -4, or "
					  "leave it out");
	if (spec->devices)
		return report_refuse(why, "plan --format firewalld: --iif: its rules for IPv6 do "
					  "not match interfaces; use -4, or name the clients "
					  "with --src instead");
	return 0;
}

static int check_firewalld_name(const struct intercept *spec, struct failure *why)
{
	if (strchr(spec->name, '.'))
		return refuse_name(spec->name, "firewalld", "no policy there has a . in its name",
				   why);
	if (strlen(spec->name) > POLICY_NAME_MAX)
		return refuse_name(spec->name, "firewalld", "too long for the name of a policy",
				   why);
	return 0;
}

/* Of ours only: an administrator's zones and services may have such names, too. */
static void put_removal(FILE *out, const char *prefix, const struct intercept *spec)
{
	fprintf(out,
		"%srm -f " ETC "/policies/tproxy-%s.xml " ETC "/ipsets/tproxy-%s.xml \\\n"
		"%s\t" ETC "/ipsets/tproxy6-%s.xml " ETC "/ipsets/tproxy6s-%s.xml\n",
		prefix, spec->name, spec->name, prefix, spec->name, spec->name);
}

static void put_head(FILE *out)
{
	fputs("if grep -qs '^FirewallBackend=iptables' " CONF "; then\n"
	      "\techo 'FirewallBackend=iptables: its sets cannot hold a mark alone' >&2\n"
	      "\texit 1\n"
	      "fi\n",
	      out);
}

/* Every address with that mark. */
static void put_marked(FILE *out, const struct intercept *spec)
{
	fprintf(out,
		"# IPv4: what carries the mark, if no other program sets further bits of it.\n"
		"cat >" ETC "/ipsets/tproxy-%s.xml <<'END'\n"
		"<ipset type=\"hash:ip,mark\">\n"
		"  <entry>0.0.0.0/1,0x%x</entry>\n"
		"  <entry>128.0.0.0/1,0x%x</entry>\n"
		"</ipset>\n"
		"END\n",
		spec->name, spec->mark.value, spec->mark.value);
}

/* This host's addresses, which the kernel lists in a table. Without any, everything would be
 * accepted: an empty set is an error. Nothing that is addressed to a link-local address is
 * intercepted, and every new interface brings one: put_own() has them all. */
static void find_own(FILE *out)
{
	fputs("# IPv6: what is not for this host. An address that it gets later, other than a\n"
	      "# link-local one, is open at the ports: run this again when the addresses have\n"
	      "# changed.\n"
	      "own=$(ip -6 route show table local)\n"
	      "own=$(echo \"$own\" | sed -En -e '/ fe[89ab].:/d' \\\n"
	      "\t-e 's,^(local|anycast|multicast) ([^ ]*) .*,  <entry>\\2</entry>,p' | sort -u)\n"
	      "if [ -z \"$own\" ]; then\n"
	      "\techo 'ip -6 route show table local: no address of this host; use -4' >&2\n"
	      "\texit 1\n"
	      "fi\n",
	      out);
}

static void put_own(FILE *out, const struct intercept *spec)
{
	fprintf(out,
		"cat >" ETC "/ipsets/tproxy6-%s.xml <<END\n"
		"<ipset type=\"hash:net\"><option name=\"family\" value=\"inet6\"/>\n"
		"$own\n"
		"  <entry>fe80::/10</entry>\n"
		"</ipset>\n"
		"END\n",
		spec->name);
}

/* Sets hold no prefix of length 0, and a list with it is no restriction. */
static bool restricts_sources(const struct intercept *spec)
{
	for (size_t i = 0; i < spec->src.count; i++)
		if (spec->src.at[i].family == AF_INET6 && !spec->src.at[i].length)
			return false;
	return spec->src.count;
}

static void put_sources(FILE *out, const struct intercept *spec)
{
	char text[ENDPOINT_TEXT_MAX];

	fprintf(out,
		"cat >" ETC "/ipsets/tproxy6s-%s.xml <<'END'\n"
		"<ipset type=\"hash:net\"><option name=\"family\" value=\"inet6\"/>\n",
		spec->name);
	for (size_t i = 0; i < spec->src.count; i++)
		if (spec->src.at[i].family == AF_INET6)
			fprintf(out, "  <entry>%s</entry>\n",
				endpoint_format_cidr(&spec->src.at[i], text));
	fputs("</ipset>\nEND\n", out);
}

/* `  <rule family="ipv6"><destination .../>`, to be continued. */
static void begin_rule(FILE *out, const struct intercept *spec)
{
	fputs("  <rule family=\"ipv6\">", out);
	if (restricts_sources(spec))
		fprintf(out, "<source ipset=\"tproxy6s-%s\"/>", spec->name);
	fprintf(out, "<destination invert=\"yes\" ipset=\"tproxy6-%s\"/>", spec->name);
}

static void put_rules(FILE *out, const struct intercept *spec, const char *protocol)
{
	for (size_t i = 0; i < spec->port.count; i++) {
		const struct port_range *r = &spec->port.at[i];

		begin_rule(out, spec);
		fprintf(out, r->first == r->last ? "<port port=\"%u\"" : "<port port=\"%u-%u\"",
			r->first, r->last);
		fprintf(out, " protocol=\"%s\"/><accept/></rule>\n", protocol);
	}
}

/* Before all zones, as its priority is negative if none is given. */
static void put_policy(FILE *out, const struct intercept *spec)
{
	fprintf(out,
		"cat >" ETC "/policies/tproxy-%s.xml <<'END'\n"
		"<policy target=\"CONTINUE\">\n"
		"  <ingress-zone name=\"ANY\"/>\n"
		"  <egress-zone name=\"HOST\"/>\n",
		spec->name);
	if (spec->ipv4)
		fprintf(out,
			"  <rule family=\"ipv4\"><source ipset=\"tproxy-%s\"/><accept/></rule>\n",
			spec->name);
	if (accepts_destinations(spec) && spec->tcp)
		put_rules(out, spec, "tcp");
	if (accepts_destinations(spec) && spec->udp)
		put_rules(out, spec, "udp");
	fputs("</policy>\nEND\n", out);
}

/* The line that was there stays as a comment, empty if there was none: for restore_filter(). */
static void put_filter(FILE *out)
{
	fputs("# It looks up the way back with the mark, and finds none.\n"
	      "if ! grep -qs '^ *IPv6_rpfilter *=' " CONF "; then\n"
	      "\tprintf '\\n#tproxy-setup:\\nIPv6_rpfilter=no\\n' >>" CONF "\n"
	      "elif ! grep -q '^ *IPv6_rpfilter *= *no *$' " CONF "; then\n"
	      "\tsed -i -e '/^#tproxy-setup:/d' \\\n"
	      "\t\t-e 's/^ *IPv6_rpfilter *=.*/#tproxy-setup:&\\nIPv6_rpfilter=no/' " CONF "\n"
	      "fi\n",
	      out);
}

/* Other instances of ours may still need it. */
static void restore_filter(FILE *out, const char *prefix)
{
	fprintf(out,
		"%sif ! ls " ETC "/policies/tproxy-*.xml >/dev/null 2>&1 &&\n"
		"%s\tgrep -qs '^#tproxy-setup:' " CONF "; then\n"
		"%s\tsed -i -e '/^ *IPv6_rpfilter *=/d' -e '/^#tproxy-setup:$/d' \\\n"
		"%s\t\t-e 's/^#tproxy-setup://' " CONF "\n"
		"%sfi\n",
		prefix, prefix, prefix, prefix, prefix);
}

/* The sets and the policy, instead of former ones. */
static void put_files(FILE *out, const struct intercept *spec)
{
	put_removal(out, "", spec);
	if (!spec->ipv6)
		restore_filter(out, "");
	if (spec->ipv4)
		put_marked(out, spec);
	if (accepts_destinations(spec)) {
		put_own(out, spec);
		if (restricts_sources(spec))
			put_sources(out, spec);
	}
	put_policy(out, spec);
}

static void put_firewalld(FILE *out, const struct intercept *spec)
{
	static const char reload[] = "! firewall-cmd -q --state 2>/dev/null || firewall-cmd -q "
				     "--reload";

	put_head(out);
	if (accepts_destinations(spec))
		find_own(out);
	fputs("mkdir -p " ETC "/ipsets " ETC "/policies\n", out);
	if (spec->ipv6)
		put_filter(out);
	put_files(out, spec);
	fprintf(out, "%s\n", reload);
	plan_put_undo_head(out);
	put_removal(out, UNDO, spec);
	restore_filter(out, UNDO);
	fprintf(out, UNDO "%s\n", reload);
}

/* --- ufw -------------------------------------------------------------------------------------- */

/* One family's file of ufw, and the prefix of its chains. */
struct ufw {
	const char *file, *chains;
};
static const struct ufw ufw4 = { "/etc/ufw/before.rules", "ufw" };
static const struct ufw ufw6 = { "/etc/ufw/before6.rules", "ufw6" };

/* `sed -i` and what deletes our lines: they carry a comment. */
static void put_deletion(FILE *out, const char *prefix, const struct intercept *spec)
{
	fprintf(out, "%ssed -i -e '/ --comment tproxy-", prefix);
	for (const char *p = spec->name; *p; p++)
		fprintf(out, *p == '.' ? "[%c]" : "%c", *p);
	fputs(" /d'", out);
}

/* Insert a rule, of what it matches, before the first one of a chain. */
static void put_insertion(FILE *out, const struct intercept *spec, const struct ufw *ufw,
			  const char *chain, const char *match)
{
	fprintf(out,
		" \\\n\t-e '0,/^-A %s-before-%s /s//-A %s-before-%s %s -m comment --comment "
		"tproxy-%s -j ACCEPT\\n&/'",
		ufw->chains, chain, ufw->chains, chain, match, spec->name);
}

static void put_mark(FILE *out, const struct intercept *spec, const struct ufw *ufw,
		     const char *chain, const struct mark *mark)
{
	char match[64];

	snprintf(match, sizeof(match), "-m mark --mark 0x%x\\/0x%x", mark->value, mark->mask);
	put_insertion(out, spec, ufw, chain, match);
}

/* Before anything is changed: the rules before which ours would be, other than ours. */
static void check_anchor(FILE *out, const struct intercept *spec, const struct ufw *ufw,
			 const char *chain)
{
	fprintf(out,
		"if ! grep '^-A %s-before-%s ' %s | grep -qv -e ' --comment tproxy-%s '; then\n"
		"\techo '%s: no rule of %s-before-%s, before which others could be added' >&2\n"
		"\texit 1\n"
		"fi\n",
		ufw->chains, chain, ufw->file, spec->name, ufw->file, ufw->chains, chain);
}

static void check_family(FILE *out, const struct intercept *spec, const struct ufw *ufw)
{
	check_anchor(out, spec, ufw, "input");
	check_anchor(out, spec, ufw, "output");
}

/* Ours replaced in that file, or only removed, if the family is not intercepted. */
static void put_family(FILE *out, const struct intercept *spec, const struct ufw *ufw, bool wanted)
{
	put_deletion(out, "", spec);
	if (wanted) {
		put_mark(out, spec, ufw, "input", &spec->mark);
		put_mark(out, spec, ufw, "output", &spec->upstream_mark);
		put_insertion(out, spec, ufw, "output", "-m addrtype ! --src-type LOCAL");
	}
	fprintf(out, " %s\n", ufw->file);
}

static void put_ufw(FILE *out, const struct intercept *spec)
{
	if (spec->ipv4)
		check_family(out, spec, &ufw4);
	if (spec->ipv6)
		check_family(out, spec, &ufw6);
	fputs("# INPUT: what is intercepted. OUTPUT: the relay's connections to servers, as\n"
	      "# clients, or by their mark.\n",
	      out);
	put_family(out, spec, &ufw4, spec->ipv4);
	put_family(out, spec, &ufw6, spec->ipv6);
	fputs("ufw reload >/dev/null\n", out);
	plan_put_undo_head(out);
	put_deletion(out, UNDO, spec);
	fprintf(out, " %s %s\n", ufw4.file, ufw6.file);
	fputs(UNDO "ufw reload >/dev/null\n", out);
}

/* --- fw4 -------------------------------------------------------------------------------------- */

static int check_fw4_name(const struct intercept *spec, struct failure *why)
{
	for (const char *p = spec->name; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '_')
			return refuse_name(spec->name, "fw4",
					   "a section of uci has letters, digits and _ in its name",
					   why);
	return 0;
}

/* Its table has no chain to which others may add rules; it includes files at the top of its
 * own. */
static void put_fw4(FILE *out, const struct intercept *spec)
{
	const char *name = spec->name;

	fprintf(out,
		"mkdir -p /etc/tproxy\n"
		"cat >/etc/tproxy/%s.nft <<'END'\n"
		"meta mark & 0x%x == 0x%x counter accept comment \"tproxy-setup: %s\"\n"
		"END\n",
		name, spec->mark.mask, spec->mark.value, name);
	fprintf(out,
		"uci -q batch <<'END'\n"
		"set firewall.tproxy_%s=include\n"
		"set firewall.tproxy_%s.type='nftables'\n"
		"set firewall.tproxy_%s.path='/etc/tproxy/%s.nft'\n"
		"set firewall.tproxy_%s.position='chain-pre'\n"
		"set firewall.tproxy_%s.chain='input'\n"
		"commit firewall\n"
		"END\n"
		"fw4 -q reload\n",
		name, name, name, name, name, name);
	plan_put_undo_head(out);
	fprintf(out,
		UNDO "uci -q delete firewall.tproxy_%s\n" UNDO "uci -q commit firewall\n" UNDO
		     "rm -f /etc/tproxy/%s.nft\n" UNDO "fw4 -q reload\n",
		name, name);
}

/* ---------------------------------------------------------------------------------------------- */

int plan_firewall_check_name(const struct intercept *spec, enum plan_firewall_tool tool,
			     struct failure *why)
{
	if (tool == PLAN_FIREWALLD)
		return check_firewalld_name(spec, why);
	return tool == PLAN_FIREWALL_FW4 ? check_fw4_name(spec, why) : 0;
}

/* The four digits for which a policy's name has room. */
static unsigned short_digest(const char *name)
{
	uint64_t digest = fnv_add(FNV_START, name, strlen(name));

	return (digest >> 48 ^ digest >> 32 ^ digest >> 16 ^ digest) & 0xffff;
}

void plan_firewall_fit_name(const char *name, char fitting[INTERCEPT_NAME_MAX + 1])
{
	const int kept = POLICY_NAME_MAX - 5;

	snprintf(fitting, INTERCEPT_NAME_MAX + 1, "%.*s_%04x", kept, name, short_digest(name));
	for (char *p = fitting; *p; p++)
		if (!isalnum((unsigned char)*p))
			*p = '_';
}

int plan_firewall_check(const struct intercept *spec, enum plan_firewall_tool tool,
			struct failure *why)
{
	return tool == PLAN_FIREWALLD ? check_destinations(spec, why) : 0;
}

int plan_firewall(const struct intercept *spec, enum plan_firewall_tool tool, FILE *out,
		  struct failure *why)
{
	if (plan_firewall_check_name(spec, tool, why) || plan_firewall_check(spec, tool, why))
		return -1;
	fputs("set -e\n", out);
	if (tool == PLAN_FIREWALLD)
		put_firewalld(out, spec);
	else if (tool == PLAN_FIREWALL_UFW)
		put_ufw(out, spec);
	else
		put_fw4(out, spec);
	return 0;
}
