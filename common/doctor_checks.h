/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor_checks - the doctor's checks, by what they look at. Each reports at least one finding.
 */
#ifndef TPROXY_DOCTOR_CHECKS_H
#define TPROXY_DOCTOR_CHECKS_H

#include "examination.h"

/* doctor_kernel.c: what this kernel was built with; lo and the families; bridges. */
void doctor_kernel_support(struct examination *x);
void doctor_kernel_loopback(struct examination *x);
void doctor_kernel_ipv6(struct examination *x);
void doctor_kernel_bridge(struct examination *x);

/* doctor_sysctl.c: settings under net.ipv4 and net.ipv6 that decide over marked packets. */
void doctor_sysctl_src_valid_mark(struct examination *x);
void doctor_sysctl_rp_filter(struct examination *x);
void doctor_sysctl_route_localnet(struct examination *x);
void doctor_sysctl_fwmark_accept(struct examination *x);
void doctor_sysctl_fwmark_reflect(struct examination *x);
void doctor_sysctl_forwarding(struct examination *x);
void doctor_sysctl_migrate_req(struct examination *x);

/* The command after which the kernel no longer refuses the source of marked packets that come in by
 * that interface. Returns buf. */
const char *doctor_sysctl_mend_source(struct examination *x, unsigned iif,
				      char buf[EXAMINATION_FIX_MAX]);

/* doctor_routing.c: policy routing of the intercepted packets and of the servers' answers. */
void doctor_routing_conflicts(struct examination *x);
void doctor_routing_networkd(struct examination *x);
void doctor_routing_delivery(struct examination *x);
void doctor_routing_answers(struct examination *x);

/* doctor_listener.c: who would get the connections. */
void doctor_listener_present(struct examination *x);
void doctor_listener_group(struct examination *x);
void doctor_listener_mark(struct examination *x);

/* Has every TCP listener that gets connections a mark of its own? How many processes share them? */
bool doctor_listener_all_marked(const struct examination *x);
unsigned doctor_listener_processes(const struct examination *x);

/* doctor_firewall.c: what other programs' rules do to the packets on their way. */
void doctor_firewall_legacy(struct examination *x);
void doctor_firewall_mark(struct examination *x);
void doctor_firewall_tproxy(struct examination *x);
void doctor_firewall_prerouting(struct examination *x);
void doctor_firewall_input(struct examination *x);
void doctor_firewall_output(struct examination *x);

/* doctor_conntrack.c: connection tracking, and flows that it knows. */
void doctor_conntrack_mode(struct examination *x);
void doctor_conntrack_invalid(struct examination *x);
void doctor_conntrack_flowtable(struct examination *x);
void doctor_conntrack_older(struct examination *x);

#endif
