/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor.h"

#include "doctor_checks.h"
#include "examination.h"

/* Every check, in the order in which they are reported: what the packet meets first comes first. */
static const struct {
	const char *name;
	void (*run)(struct examination *x);
} checks[] = {
	{ "kernel", doctor_kernel_support },
	{ "lo", doctor_kernel_loopback },
	{ "ipv6", doctor_kernel_ipv6 },
	{ "bridge", doctor_kernel_bridge },
	{ "src-valid-mark", doctor_sysctl_src_valid_mark },
	{ "rp-filter", doctor_sysctl_rp_filter },
	{ "route-localnet", doctor_sysctl_route_localnet },
	{ "fwmark-accept", doctor_sysctl_fwmark_accept },
	{ "fwmark-reflect", doctor_sysctl_fwmark_reflect },
	{ "forwarding", doctor_sysctl_forwarding },
	{ "migrate-req", doctor_sysctl_migrate_req },
	{ "routing", doctor_routing_conflicts },
	{ "networkd", doctor_routing_networkd },
	{ "delivery", doctor_routing_delivery },
	{ "answers", doctor_routing_answers },
	{ "listener", doctor_listener_present },
	{ "listener-group", doctor_listener_group },
	{ "listener-mark", doctor_listener_mark },
	{ "iptables-legacy", doctor_firewall_legacy },
	{ "mark", doctor_firewall_mark },
	{ "tproxy", doctor_firewall_tproxy },
	{ "prerouting", doctor_firewall_prerouting },
	{ "input", doctor_firewall_input },
	{ "output", doctor_firewall_output },
	{ "conntrack", doctor_conntrack_mode },
	{ "invalid-drop", doctor_conntrack_invalid },
	{ "flowtable", doctor_conntrack_flowtable },
	{ "older-flows", doctor_conntrack_older },
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

int doctor_examine(struct instance *kernel, const struct intercept *spec, bool installed,
		   doctor_listener *report, void *context, struct failure *why)
{
	struct examination x = {
		.kernel = kernel,
		.spec = spec,
		.installed = installed,
		.report = report,
		.context = context,
	};
	int err = examination_open(&x, why);

	for (size_t i = 0; !err && i < sizeof(checks) / sizeof(*checks); i++) {
		x.check = checks[i].name;
		x.findings = 0;
		checks[i].run(&x);
	}
	examination_close(&x);
	return err;
}
