/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "intercept/spec_text.h"
#include "net/sysctl.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- what this kernel was built with ---------------------------------------------------------- */

/* A rule that needs the feature, in a table that the kernel checks and never installs. */
struct probe {
	const char *rule, *module, *config;
	bool ipv6; /* needed for IPv6 only */
	bool zone; /* needed for the upstream leg's conntrack zone */
};

static const struct probe probes[] = {
	{ "meta l4proto tcp tproxy ip to 127.0.0.1:1", "nft_tproxy", "CONFIG_NFT_TPROXY", false,
	  false },
	{ "meta l4proto tcp tproxy ip6 to [::1]:1", "nf_tproxy_ipv6", "CONFIG_NF_TPROXY_IPV6", true,
	  false },
	{ "socket transparent 1 accept", "nft_socket", "CONFIG_NFT_SOCKET", false, false },
	{ "tcp flags syn socket wildcard 1 return", "nft_socket with `wildcard` (Linux 5.10)",
	  "CONFIG_NFT_SOCKET", false, false },
	{ "fib daddr type local return", "nft_fib_inet", "CONFIG_NFT_FIB_INET", false, false },
	{ "meta l4proto tcp reject with tcp reset", "nft_reject_inet", "CONFIG_NFT_REJECT_INET",
	  false, false },
	{ "ct zone set 7", "nft_ct with zones", "CONFIG_NFT_CT, CONFIG_NF_CONNTRACK_ZONES", false,
	  true },
};

static void report_missing(struct doctor_context *x, const char *module, const char *config,
			   const char *said)
{
	char fix[96];

	snprintf(fix, sizeof(fix), "modprobe %.*s", (int)strcspn(module, " "), module);
	context_report(x, DOCTOR_FAIL,
		       "the rules cannot be loaded without it; if there is no such module, the "
		       "kernel was built without it",
		       fix, "this kernel has no %s (%s): %s", module, config, said);
}

static void try_probe(struct doctor_context *x, const struct probe *p)
{
	char text[256];
	struct failure why;

	snprintf(text, sizeof(text),
		 "table inet tproxy-probe {\n\tchain c {\n"
		 "\t\ttype filter hook prerouting priority -150; policy accept;\n\t\t%s\n\t}\n}\n",
		 p->rule);
	if (!nft_check(x->kernel->rules, text, &why))
		return;
	/* EPERM is a missing capability, not a missing module. */
	if (why.err == EPERM)
		context_report(x, DOCTOR_FAIL, "nothing can be installed without it",
			       "sudo tproxy-setup doctor", "no CAP_NET_ADMIN: %s", p->rule);
	else
		report_missing(x, p->module, p->config, why.err ? strerror(why.err) : why.detail);
}

static int count_rule(const struct route_rule *rule, void *context)
{
	(void)rule;
	++*(unsigned *)context;
	return 0;
}

static void try_policy_routing(struct doctor_context *x, sa_family_t family)
{
	unsigned count = 0;
	struct failure why = { 0 };

	if (route_each_rule(x->kernel->route, family, count_rule, &count, &why) || !count)
		report_missing(x, family == AF_INET ? "IPv4 policy routing" : "IPv6 policy routing",
			       family == AF_INET ? "CONFIG_IP_MULTIPLE_TABLES"
						 : "CONFIG_IPV6_MULTIPLE_TABLES",
			       why.err ? strerror(why.err) : "there are no rules at all");
}

void check_kernel_support(struct doctor_context *x)
{
	const struct intercept *spec = x->spec;

	for (size_t i = 0; i < sizeof(probes) / sizeof(*probes); i++)
		if ((!probes[i].ipv6 || spec->ipv6) &&
		    (!probes[i].zone || spec->zone != CONNTRACK_OFF))
			try_probe(x, &probes[i]);
	if (spec->ipv4)
		try_policy_routing(x, AF_INET);
	if (spec->ipv6)
		try_policy_routing(x, AF_INET6);
	context_ok(x, "nft_tproxy, nft_socket, nft_fib_inet and policy routing are there");
}

/* --- lo and the families ---------------------------------------------------------------------- */

void check_kernel_loopback(struct doctor_context *x)
{
	struct link lo = { 0 };

	if (link_find(if_nametoindex("lo"), &lo, NULL) != 1 || !lo.up) {
		const char *why =
			"the route that delivers intercepted packets goes by lo; that of "
			"IPv6 was deleted as lo went down, and does not come back with it";

		if (context_knows(x))
			context_report_up(x, DOCTOR_FAIL, why, "ip link set lo up", "lo is down");
		else
			context_report(x, DOCTOR_FAIL, why, "ip link set lo up", "lo is down");
	}
	context_ok(x, "lo is up");
}

void check_kernel_ipv6(struct doctor_context *x)
{
	struct intercept *proposed = &x->proposed;

	if (route_family_usable(AF_INET6)) {
		context_ok(x, x->spec->ipv6 ? "IPv6 is usable on lo"
					    : "only IPv4 is to be intercepted");
		return;
	}
	for (unsigned i = 0; i < x->devices; i++) {
		if (sysctl_read(1, "net/ipv6/conf/%s/disable_ipv6", x->device[i].name))
			continue;
		/* With both families `up` drops the one that it cannot deliver. */
		if (endpoint_is_loopback(&proposed->to4)) {
			proposed->ipv6 = true;
			proposed->to6 = (struct endpoint){ .family = AF_INET6,
							   .port = proposed->to4.port,
							   .addr.v6 = IN6ADDR_LOOPBACK_INIT };
		}
		context_report_up(x, DOCTOR_FAIL,
				  "IPv6 packets cannot be delivered to lo: clients' IPv6 packets "
				  "bypass the proxy",
				  "sysctl -w net.ipv6.conf.lo.disable_ipv6=0",
				  "net.ipv6.conf.lo.disable_ipv6=1, but IPv6 is in use on %s",
				  x->device[i].name);
		return;
	}
	context_ok(x, "no IPv6 on this host");
}

/* --- bridges ---------------------------------------------------------------------------------- */

/* Packets arrive on the bridge, whatever its port. */
static void report_port(struct doctor_context *x, const struct link *port,
			const struct link *bridge)
{
	for (unsigned i = 0; i < x->proposed.devices; i++)
		if (!strcmp(x->proposed.device[i], port->name))
			snprintf(x->proposed.device[i], IFNAMSIZ, "%s", bridge->name);
	context_report_up(x, DOCTOR_FAIL,
			  "a frame that comes in on a port belongs to the bridge: packets for this "
			  "host come in on the bridge itself, and no rule for the port matches",
			  "", "--iif %s is a port of bridge %s", port->name, bridge->name);
}

static void check_bridge(struct doctor_context *x, const struct link *bridge)
{
	bool four = x->spec->ipv4 && link_calls_iptables(bridge, AF_INET);
	bool six = x->spec->ipv6 && link_calls_iptables(bridge, AF_INET6);
	char fix[160];

	if (!four && !six)
		return;
	snprintf(fix, sizeof(fix), "sysctl -w%s%s",
		 four ? " net.bridge.bridge-nf-call-iptables=0" : "",
		 six ? " net.bridge.bridge-nf-call-ip6tables=0" : "");
	context_report(x, DOCTOR_FAIL,
		       "br_netfilter (Docker and Kubernetes load it) runs the rules on frames of "
		       "the bridge: the counters count, but the connections are lost; with it off, "
		       "iptables no longer filters between containers of one bridge",
		       fix, "%s is a bridge and%s%s", bridge->name,
		       four ? " net.bridge.bridge-nf-call-iptables=1" : "",
		       six ? " net.bridge.bridge-nf-call-ip6tables=1" : "");
}

void check_kernel_bridge(struct doctor_context *x)
{
	for (unsigned i = 0; i < x->devices; i++) {
		const struct link *device = &x->device[i];
		struct link master;

		if (device->is_bridge)
			check_bridge(x, device);
		else if (x->spec->devices && device->master &&
			 link_find(device->master, &master, NULL) == 1 && master.is_bridge)
			report_port(x, device, &master);
	}
	context_ok(x, "no bridge in the way");
}
