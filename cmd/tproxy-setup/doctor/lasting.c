/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/lasting.h"

#include "firewall/harm.h"
#include "intercept/spec_text.h"
#include "tproxy-setup/plan_firewall.h"
#include <stdio.h>
#include <string.h>

/* A program that makes rules, as `plan --format` names it. */
struct maker {
	const char *name;
	enum plan_firewall_tool tool;
};
static const struct maker firewalld = { "firewalld", PLAN_FIREWALLD },
			  ufw = { "ufw", PLAN_FIREWALL_UFW }, fw4 = { "fw4", PLAN_FIREWALL_FW4 };

static bool is_ufws(const struct firewall_chain *chain)
{
	return !strncmp(chain->name, "ufw", strlen("ufw"));
}

/* Does ufw use that table of iptables? */
static bool has_ufw(const struct doctor_context *x, const struct firewall_chain *like)
{
	for (size_t i = 0; i < firewall_chains(x->firewall); i++) {
		const struct firewall_chain *c = firewall_chain(x->firewall, i);

		if (is_ufws(c) && !strcmp(c->family, like->family) &&
		    !strcmp(c->table, like->table))
			return true;
	}
	return false;
}

/* NULL: another program, or nobody knows. Of iptables' chains ufw's have its name. Other rules of
 * that table may run before ufw's, and drop what these would accept; the policy runs after them. */
static const struct maker *maker_of(const struct doctor_context *x,
				    const struct rule_eval_step *step)
{
	const struct firewall_chain *chain = step->chain;

	if (chain->iptables)
		return (step->rule ? is_ufws(chain) : has_ufw(x, chain)) ? &ufw : NULL;
	return !strcmp(chain->table, "firewalld") ? &firewalld
	       : !strcmp(chain->table, "fw4")	  ? &fw4
						  : NULL;
}

/* In OUTPUT ufw's plan accepts sources that are not this host's, and what carries its mark. */
static bool ufw_accepts_sent(const struct packet_path_step *at, const struct intercept *spec)
{
	return at->leg == PACKET_PATH_REPLY ||
	       (at->leg == PACKET_PATH_UPSTREAM &&
		(!at->sent_as_own || harm_carries(at->step.before, &spec->upstream_mark)));
}

/* Is what that program drops there a packet that the plan for it accepts? In prerouting that is
 * firewalld's alone: it turns off the filter. */
static bool plan_accepts(const struct doctor_context *x, const struct packet_path_step *at,
			 const struct maker *maker)
{
	if (packet_path_is_prerouting(at->leg))
		return maker == &firewalld;
	if (at->leg == PACKET_PATH_INPUT || at->leg == PACKET_PATH_ANSWER_INPUT)
		return true;
	return maker == &ufw && ufw_accepts_sent(at, x->spec);
}

/* What plan is asked for: of the specification what that program can be told. */
struct request {
	struct intercept spec; /* shares the lists of the context's */
	bool renamed;
	bool only4;	    /* without the IPv6 part, */
	struct failure why; /* which that program cannot be told for this reason */
	bool refused;	    /* nothing is left */
};

static int check_told(const struct intercept *spec, const struct maker *maker, struct failure *why)
{
	if (plan_firewall_check(spec, maker->tool, why))
		return -1;
	/* That plan is possible, for the filter in prerouting, and accepts nothing. */
	if (maker == &firewalld && spec->ipv6 && spec->divert_only)
		return report_refuse(why, "--divert-only: its rules for IPv6 know neither marks "
					  "nor sockets");
	return 0;
}

static struct request request_for(const struct intercept *spec, const struct maker *maker)
{
	struct request r = { .spec = *spec };

	r.renamed = plan_firewall_check_name(spec, maker->tool, &r.why);
	if (r.renamed)
		plan_firewall_fit_name(spec->name, r.spec.name);
	if (!check_told(&r.spec, maker, &r.why))
		return r;
	r.only4 = r.spec.ipv4;
	r.refused = !r.only4;
	r.spec.ipv6 = false;
	r.spec.to6 = (struct endpoint){ 0 };
	return r;
}

/* firewalld drops in prerouting by one setting alone. */
static void put_refused(const struct packet_path_step *at, const struct maker *maker,
			const struct request *r, const char *why, char buf[LASTING_MAX])
{
	if (packet_path_is_prerouting(at->leg))
		snprintf(buf, LASTING_MAX,
			 "%s (to keep it: IPv6_rpfilter=no in /etc/firewalld/firewalld.conf, and "
			 "firewall-cmd --reload)",
			 why);
	else
		snprintf(buf, LASTING_MAX,
			 "%s; %s cannot be told to accept it (%s), so this fix is needed again "
			 "each time that it loads its rules",
			 why, maker->name, r->why.detail);
}

/* Options that are known and not too long, or what they are. */
static int put_options(const struct maker *maker, const struct request *r, const char *options,
		       char *buf, size_t size)
{
	if (*options)
		return snprintf(buf, size, "tproxy-setup plan --format %s %s | sh%s", maker->name,
				options, r->renamed ? " (by a name that is possible there)" : "");
	return snprintf(buf, size, "tproxy-setup plan --format %s%s%s%s, and the instance's %s",
			maker->name, r->only4 ? " -4" : "", r->renamed ? " --name " : "",
			r->renamed ? r->spec.name : "",
			r->only4 || r->renamed ? "other options" : "options");
}

/* options: "" if they are not known, or too long. */
static void put_command(const struct maker *maker, const struct request *r, const char *options,
			const char *why, char buf[LASTING_MAX])
{
	int used = snprintf(buf, LASTING_MAX,
			    "%s; to accept %s each time that %s loads its rules: ", why,
			    r->only4 ? "that of IPv4" : "it", maker->name);

	if (used < LASTING_MAX)
		used += put_options(maker, r, options, buf + used, LASTING_MAX - (size_t)used);
	if (r->only4 && used < LASTING_MAX)
		snprintf(buf + used, LASTING_MAX - (size_t)used,
			 "; of IPv6 it cannot be told (%s), so for that this fix is needed again "
			 "each time",
			 r->why.detail);
}

/* For put_command(). */
static const char *options_of(const struct doctor_context *x, const struct request *r,
			      char options[CONTEXT_FIX_MAX])
{
	*options = '\0';
	return context_knows(x) ? spec_text_options(&r->spec, options, CONTEXT_FIX_MAX) : options;
}

const char *lasting(const struct doctor_context *x, const struct packet_path_step *at,
		    const char *why, char buf[LASTING_MAX])
{
	const struct maker *maker = maker_of(x, &at->step);
	char options[CONTEXT_FIX_MAX];
	struct request r;

	if (!maker) {
		snprintf(buf, LASTING_MAX,
			 "%s (to keep it: /etc/nftables.conf, or where else these rules are from)",
			 why);
		return buf;
	}
	if (!plan_accepts(x, at, maker)) {
		snprintf(buf, LASTING_MAX,
			 "%s; this fix is needed again each time that %s loads its rules", why,
			 maker->name);
		return buf;
	}
	r = request_for(x->spec, maker);
	if (r.refused || (r.only4 && packet_path_is_prerouting(at->leg)))
		put_refused(at, maker, &r, why, buf);
	else
		put_command(maker, &r, options_of(x, &r, options), why, buf);
	return buf;
}
