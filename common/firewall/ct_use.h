/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ct_use - does anybody's rule use connection tracking?
 *
 * A rule of ours that names a zone switches it on for the whole network namespace, at the price of an eighth
 * of a forwarding machine's time; so `--conntrack auto` wants to know whether it is on anyhow. What is
 * evidence is a rule that the kernel cannot run without it (nf_ct_netns_get()): in nft, in iptables-nft and in
 * iptables-legacy. A table without such a rule is none, nor is a chain of type nat, nor the kernel's count
 * of connections, which is there always.
 *
 * It stands here and not beside nft, because it reads other people's rules, iptables-legacy's, too.
 */
#ifndef TPROXY_FIREWALL_CT_USE_H
#define TPROXY_FIREWALL_CT_USE_H

#include "base/report.h"
#include <stdbool.h>

enum ct_use {
	CT_USE_NONE,
	CT_USE_TRACK,
	CT_USE_SNAT, /* and translates source addresses, not of some sources alone */
};

/* Longest evidence and its end. */
#define CT_USE_EVIDENCE_MAX 128

/* Look through all rules of this network namespace but our own tables'. `evidence` (may be NULL) gets the
 * place of the rule that decided, "" if there is none. 0, or -1 with *why (needs CAP_NET_ADMIN). */
int ct_use_find(enum ct_use *use, char evidence[CT_USE_EVIDENCE_MAX], struct failure *why);

/* Are there tables of iptables-legacy that cannot be looked into (they are for the initial user namespace's root
 * alone)? Then CT_USE_NONE is of nf_tables' rules. */
bool ct_use_may_be_hidden(void);

#endif
