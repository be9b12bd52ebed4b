/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ct_use - does any rule of others use connection tracking?
 *
 * A rule of ours that names a zone switches connection tracking on for the whole network namespace,
 * which costs a forwarding machine an eighth of its time; so `--conntrack auto` asks whether it is
 * on anyway. Evidence is a rule that the kernel cannot run without it (nf_ct_netns_get()): in nft,
 * iptables-nft or iptables-legacy. A table without such a rule is not evidence, nor is a chain of
 * type nat, nor the kernel's count of connections, which always exists.
 *
 * This file is here and not next to nft because it reads other people's rules, including those of
 * iptables-legacy.
 */
#ifndef TPROXY_FIREWALL_CT_USE_H
#define TPROXY_FIREWALL_CT_USE_H

#include "base/report.h"
#include <stdbool.h>

enum ct_use {
	CT_USE_NONE,
	CT_USE_TRACK,
	CT_USE_SNAT, /* and translates source addresses, not only of some sources */
};

/* Longest evidence, with its \0. */
#define CT_USE_EVIDENCE_MAX 128

/* Look through all rules of this network namespace except those in our own tables. `evidence` (may
 * be NULL) gets the place of the deciding rule, "" if there is none. 0, or -1 with *why (needs
 * CAP_NET_ADMIN). */
int ct_use_find(enum ct_use *use, char evidence[CT_USE_EVIDENCE_MAX], struct failure *why);

/* Are there iptables-legacy tables that cannot be read (only the root of the initial user namespace
 * may)? Then CT_USE_NONE only covers the rules of nf_tables. */
bool ct_use_may_be_hidden(void);

#endif
