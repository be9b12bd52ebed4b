/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/doctor.h"

#include "tproxy-setup/doctor/checks.h"
#include "tproxy-setup/doctor/context.h"
#include <limits.h>
#include <malloc.h>

/* All checks, in order: our own rules, then in the order in which a packet meets them. */
static const struct {
	const char *name;
	void (*run)(struct doctor_context *x);
} checks[] = {
	{ "installed", check_installed },
	{ "kernel", check_kernel_support },
	{ "lo", check_kernel_loopback },
	{ "ipv6", check_kernel_ipv6 },
	{ "bridge", check_kernel_bridge },
	{ "src-valid-mark", check_sysctl_src_valid_mark },
	{ "rp-filter", check_sysctl_rp_filter },
	{ "route-localnet", check_sysctl_route_localnet },
	{ "fwmark-accept", check_sysctl_fwmark_accept },
	{ "fwmark-reflect", check_sysctl_fwmark_reflect },
	{ "forwarding", check_sysctl_forwarding },
	{ "migrate-req", check_sysctl_migrate_req },
	{ "routing", check_routing_conflicts },
	{ "networkd", check_routing_networkd },
	{ "delivery", check_routing_delivery },
	{ "answers", check_routing_answers },
	{ "replies", check_routing_replies },
	{ "vrf", check_routing_vrf },
	{ "multipath", check_routing_multipath },
	{ "one-way", check_oneway_answers },
	{ "listener", check_listener_present },
	{ "listener-group", check_listener_group },
	{ "listener-mark", check_listener_mark },
	{ "listener-source", check_listener_source },
	{ "listener-queue", check_listener_queue },
	{ "loop", check_listener_loop },
	{ "iptables-legacy", check_firewall_legacy },
	{ "mark", check_firewall_mark },
	{ "tproxy", check_firewall_tproxy },
	{ "prerouting", check_firewall_prerouting },
	{ "input", check_firewall_input },
	{ "output", check_firewall_output },
	{ "forward", check_forward_rules },
	{ "source", check_firewall_source },
	{ "tc", check_beneath_tc },
	{ "xfrm", check_beneath_xfrm },
	{ "conntrack", check_conntrack_mode },
	{ "invalid-drop", check_conntrack_invalid },
	{ "flowtable", check_conntrack_flowtable },
	{ "older-flows", check_conntrack_older },
};

const char *doctor_severity_name(enum doctor_severity severity)
{
	static const char *const names[] = {
		[DOCTOR_OK] = "ok",
		[DOCTOR_WARN] = "warn",
		[DOCTOR_FAIL] = "fail",
	};

	return names[severity];
}

/* nft's JSON of tens of thousands of rules is millions of small allocations. glibc merges freed
 * ones again and again, and gives memory back only to ask for it anew: a quarter of the doctor's
 * time. */
static void keep_memory(void)
{
#ifdef M_MXFAST
	mallopt(M_MXFAST, 0);
	mallopt(M_TOP_PAD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_MMAP_THRESHOLD, 128 << 10); /* keep growing buffers out of it: mremap() */
#endif
}

int doctor_run(const struct doctor_input *input, doctor_listener *report, void *context,
	       struct failure *why)
{
	struct doctor_context x = {
		.kernel = input->kernel,
		.spec = input->spec,
		.view = input->view,
		.installed = input->view->rules.present && input->view->rules.readable,
		.asked = input->asked,
		.proposed = *input->spec,
	};
	char up[SPEC_TEXT_COMMAND_MAX] = "";
	int err;

	keep_memory();
	err = context_open(&x, why);
	for (size_t i = 0; !err && i < sizeof(checks) / sizeof(*checks); i++) {
		x.check = checks[i].name;
		x.count = 0;
		checks[i].run(&x);
	}
	if (!err && firewall_unread(x.firewall)) {
		*why = *firewall_unread(x.firewall);
		err = -1;
	}
	if (context_knows(&x))
		spec_text_up_command(&x.proposed, up);
	if (!err)
		err = findings_tell(&x.findings, up, report, context, why);
	context_close(&x);
	return err;
}
