/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nft_text - the netfilter rules that a specification comes to, as nft text.
 *
 * Theory of operation. All that belongs to instance NAME is in one table, `inet tproxy_NAME`:
 *
 *   spec        never called; its rules' comments hold the specification's canonical text
 *   prerouting  (mangle + 1) packets of transparent sockets that are here already go to divert; packets of
 *               the specification's families, protocols, ports, addresses and interfaces go on to take
 *   divert      marks a packet, which routes it to this host
 *   other       ICMP errors about those sockets, likewise
 *   take        leaves alone what is excluded, or addressed to this host, and sends the rest to
 *   deliver     tproxy to the listener; what nobody listens for is rejected: nft's tproxy alone would
 *               let it pass
 *   local       (output) marks what this host opens itself and is to be taken (mine); the mark sends it to
 *               lo, where prerouting hands it to looped
 *   zone-...    (raw) give connection tracking a zone for one direction of each leg
 *
 * Every packet that this host forwards meets prerouting, so it asks what tells most packets from
 * ours with the least work: the protocol, one look-up for a socket, the ports. The look-up comes
 * first because a relay's upstream leg may use any port; it is what a `-m socket` rule of iptables
 * costs.
 *
 * The chain's priority is past mangle, where others set marks (`CONNMARK --restore-mark`): of two
 * chains of the same priority the older one runs last, and what we mark must stay marked.
 *
 * Divert takes every packet but a pure SYN, so that a client may reopen a connection that is in
 * TIME_WAIT here. Deliver takes every packet of the predicate, not SYNs alone: the last packet of a
 * handshake with SYN cookies has no socket yet, and what belongs to no socket is met with a reset
 * rather than let by. Answers of flows that were not taken are told by their SYN-ACK. `down` first
 * rewrites `take` so that new flows pass (nft_text_ending()), and removes the table when no
 * diverted socket is left; a chain finish resets the peers of the last ones (nft_text_finish()).
 */
#ifndef TPROXY_INTERCEPT_NFT_TEXT_H
#define TPROXY_INTERCEPT_NFT_TEXT_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/* Tables of instances are called so; the longest name, and its end. */
#define NFT_TEXT_PREFIX	   "tproxy_"
#define NFT_TEXT_TABLE_MAX (sizeof(NFT_TEXT_PREFIX) + INTERCEPT_NAME_MAX)

/* Chains of the table that hold notes, not rules. */
#define NFT_TEXT_SPEC	  "spec"
#define NFT_TEXT_CHECKSUM "checksum"
#define NFT_TEXT_ENDING	  "ending"

/* What the second name of a list's set ends with. */
#define NFT_TEXT_ALTERNATE "_"

/* The set of protocols that are intercepted while a lease runs; elements without a timeout: for
 * good. */
#define NFT_TEXT_LEASE "armed"

/*
 * The one transaction that puts the instance in place, or replaces it: text for `nft -f -`. The
 * specification must be valid, with its zone decided. The caller frees it. NULL with *why (ENOMEM).
 */
char *nft_text_install(const struct intercept *spec, struct failure *why);

/*
 * The same in two transactions, where there is no instance: first the sets of the lists in `which`,
 * then the rules. Kernels show a range in a new set some microseconds after they have switched to
 * the rules that came with it (nft_set_commit_update() comes after the generation): meanwhile every
 * packet would miss the set.
 */
char *nft_text_lists(const struct intercept *spec, const bool which[INTERCEPT_LISTS],
		     struct failure *why);
char *nft_text_rules(const struct intercept *spec, struct failure *why);

/*
 * The second transaction where there is one, `listing` as nft lists its table. Its chains keep
 * their places at the hooks and get other rules: a packet meets, in each chain, either the old ones
 * or the new ones. (With another table, one that is between two chains when the generation changes
 * could meet neither.) What it remembers of flows under way stays, as do counters, and sets of
 * lists that are the same; for others the specification names the set's alternate.
 */
char *nft_text_change(const struct intercept *spec, const char *listing, struct failure *why);

/* As nft_text_install(), with what the instance to be replaced remembers of flows under way. Works
 * whatever somebody did to the table. */
char *nft_text_replacement(const struct intercept *spec, const char *listing, struct failure *why);

/*
 * The transaction that ends interception: flows that begin from now on pass, relayed ones stay, and
 * packets of orphaned ones still do not pass, for at least `ms`. The caller frees it.
 */
char *nft_text_ending(const struct intercept *spec, uint64_t ms, struct failure *why);

/* Packets of TCP from one end to the other. */
struct nft_text_flow {
	struct endpoint from, to;
};

/* A transaction that answers those flows' packets with resets, whatever sockets are here; resets
 * alone pass. `count` is not 0. The caller frees it. */
char *nft_text_finish(const char *instance, const struct nft_text_flow *flow, size_t count,
		      struct failure *why);

/* A transaction that turns a lease into interception for good. The caller frees it. */
char *nft_text_confirmation(const char *instance, struct failure *why);

/* A transaction that adds `text` as notes (comments of rules, in pieces that nft takes) to a
 * chain. */
char *nft_text_notes(const char *instance, const char *chain, const char *text,
		     struct failure *why);

#endif
