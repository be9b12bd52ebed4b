/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checks - the doctor's checks, by subject. Each reports at least one finding.
 */
#ifndef TPROXY_SETUP_DOCTOR_CHECKS_H
#define TPROXY_SETUP_DOCTOR_CHECKS_H

#include "net/sysctl.h"
#include "tproxy-setup/doctor/context.h"

/* check_installed.c: is the specification installed, and as `up` left it? */
void check_installed(struct doctor_context *x);

/* check_kernel.c: what this kernel was built with; lo and the families; bridges. */
void check_kernel_support(struct doctor_context *x);
void check_kernel_loopback(struct doctor_context *x);
void check_kernel_ipv6(struct doctor_context *x);
void check_kernel_bridge(struct doctor_context *x);

/* check_sysctl.c: settings under net.ipv4 and net.ipv6 that affect marked packets. */
void check_sysctl_src_valid_mark(struct doctor_context *x);
void check_sysctl_rp_filter(struct doctor_context *x);
void check_sysctl_route_localnet(struct doctor_context *x);
void check_sysctl_fwmark_accept(struct doctor_context *x);
void check_sysctl_fwmark_reflect(struct doctor_context *x);
void check_sysctl_forwarding(struct doctor_context *x);
void check_sysctl_migrate_req(struct doctor_context *x);

/* The command that makes the kernel accept the source of marked packets from that interface.
 * Returns buf. */
const char *check_sysctl_fix_source(struct doctor_context *x, unsigned iif,
				    char buf[SYSCTL_FIX_MAX]);

/* check_routing.c: policy routing of the intercepted packets and of the servers' answers. */
void check_routing_conflicts(struct doctor_context *x);
void check_routing_networkd(struct doctor_context *x);
void check_routing_delivery(struct doctor_context *x);
void check_routing_answers(struct doctor_context *x);
void check_routing_replies(struct doctor_context *x);
void check_routing_vrf(struct doctor_context *x);
void check_routing_multipath(struct doctor_context *x);

/* check_oneway.c: answers to what another machine asked. */
void check_oneway_answers(struct doctor_context *x);

/* check_listener.c: which process would get the connections. */
void check_listener_present(struct doctor_context *x);
void check_listener_group(struct doctor_context *x);
void check_listener_source(struct doctor_context *x);
void check_listener_queue(struct doctor_context *x);
void check_listener_loop(struct doctor_context *x);
void check_listener_mark(struct doctor_context *x);

/* Does every TCP listener that gets connections have a mark of its own? How many processes share
 * the connections of one family? */
bool check_listener_all_marked(const struct doctor_context *x);
unsigned check_listener_processes(const struct doctor_context *x);

/* check_firewall.c: what other programs' rules do to the packets. */
void check_firewall_legacy(struct doctor_context *x);
void check_firewall_mark(struct doctor_context *x);
void check_firewall_tproxy(struct doctor_context *x);
void check_firewall_prerouting(struct doctor_context *x);
void check_firewall_input(struct doctor_context *x);
void check_firewall_output(struct doctor_context *x);

/* check_forward.c: FORWARD rules, which do not apply to intercepted packets. */
void check_forward_rules(struct doctor_context *x);
void check_firewall_source(struct doctor_context *x);

/* check_beneath.c: what else sees packets before or after netfilter's rules. */
void check_beneath_tc(struct doctor_context *x);
void check_beneath_xfrm(struct doctor_context *x);

/* check_conntrack.c: connection tracking, and the flows in its table. */
void check_conntrack_mode(struct doctor_context *x);
void check_conntrack_invalid(struct doctor_context *x);
void check_conntrack_flowtable(struct doctor_context *x);
void check_conntrack_older(struct doctor_context *x);

#endif
