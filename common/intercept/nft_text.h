/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nft_text - the netfilter rules that implement a specification, as nft text.
 *
 * Theory of operation. Everything that belongs to instance NAME is in one table, `inet
 * tproxy_NAME`:
 *
 *   spec        never called; its rules' comments hold the specification's canonical text
 *   prerouting  (mangle + 1) sends packets of transparent sockets here to divert; packets of
 *               the specification's families, protocols, ports, addresses and interfaces to take
 *   divert      marks a packet, which routes it to this host
 *   other       does the same for ICMP errors about those sockets
 *   take        leaves alone what is excluded, or addressed to this host, and sends the rest to
 *   deliver     tproxy to the listener; rejects what nobody listens for: nft's tproxy alone would
 *               let it pass
 *   local       (output) marks intercepted connections that this host opens (mine); the mark sends
 *               them to lo, where prerouting hands them to looped
 *   answer      finds SYN-ACKs for no socket here whose SYN was not here either (ask remembers
 *               those that were, asks (output) has it remember this host's own): astray keeps some
 *               for the doctor, and nothing becomes of them; refused forgets what clients reset
 *   zone-...    (raw) give connection tracking a zone for one direction of each leg
 *
 * Every packet that this host forwards goes through prerouting, so prerouting first asks what tells
 * most packets from ours with the least work: the protocol, one socket look-up, the ports. The
 * look-up comes first because a relay's upstream leg may use any port; it costs as much as a `-m
 * socket` rule of iptables.
 *
 * The chain's priority is behind mangle, where others set marks (`CONNMARK --restore-mark`): of two
 * chains with the same priority the older one runs last, and the marks that we set must stay.
 *
 * Divert takes every packet except a pure SYN, so that a client may reopen a connection that is in
 * TIME_WAIT here. Deliver takes every packet of the predicate, not only SYNs: the last packet of a
 * handshake with SYN cookies has no socket yet, and packets that belong to no socket are answered
 * with a reset instead of passing. Answers of flows that were not taken are recognised by their
 * SYN-ACK. `down` first rewrites `take` so that new flows pass (nft_text_ending()), and removes the
 * table when no diverted socket is left; a chain finish resets the peers of the last ones
 * (nft_text_finish()).
 */
#ifndef TPROXY_INTERCEPT_NFT_TEXT_H
#define TPROXY_INTERCEPT_NFT_TEXT_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/* Prefix of the tables of instances; the longest name, with its \0. */
#define NFT_TEXT_PREFIX	   "tproxy_"
#define NFT_TEXT_TABLE_MAX (sizeof(NFT_TEXT_PREFIX) + INTERCEPT_NAME_MAX)

/* Prefix of the tables by which `tproxy-inspect explain --live` traces packets. */
#define NFT_TEXT_TRACE_PREFIX "tproxy-trace-"

/* Chains of the table that hold notes, not rules. */
#define NFT_TEXT_SPEC	  "spec"
#define NFT_TEXT_CHECKSUM "checksum"
#define NFT_TEXT_ENDING	  "ending"

/* Suffix of the second name of a list's set. */
#define NFT_TEXT_ALTERNATE "_"

/* The set of protocols that are intercepted while a lease runs; elements without a timeout are
 * permanent. */
#define NFT_TEXT_LEASE "armed"

/* Sets, and a chain that fills the first two of them: `astray4`, `astray6`, server's address and
 * port, then the client's: SYN-ACKs that have no socket here, and whose SYN did not come by; one in
 * five seconds at most, of the last five minutes. `unasked` is not empty if some SYNs could not be
 * remembered meanwhile: then they say nothing. A replaced instance keeps neither. */
#define NFT_TEXT_ASTRAY	    "astray"
#define NFT_TEXT_ASTRAY_MAX 128 /* elements of each family */
#define NFT_TEXT_UNASKED    "unasked"
/* Elements that a client refused are kept this much longer. */
#define NFT_TEXT_REFUSED_SECONDS 1

/*
 * The transaction that installs or replaces the instance: text for `nft -f -`. The specification
 * must be valid, with its zone decided. The caller frees it. NULL with *why (ENOMEM).
 */
char *nft_text_install(const struct intercept *spec, struct failure *why);

/*
 * The same in two transactions, for when there is no instance yet: first the sets of the lists in
 * `which`, then the rules. Kernels show a range in a new set some microseconds after they have
 * switched to the rules that came with it (nft_set_commit_update() comes after the generation), and
 * until then every packet would miss the set.
 */
char *nft_text_lists(const struct intercept *spec, const bool which[INTERCEPT_LISTS],
		     struct failure *why);
char *nft_text_rules(const struct intercept *spec, struct failure *why);

/*
 * The second transaction if there is an instance; `listing` is its table as listed by nft. Its
 * chains keep their places at the hooks and get other rules: in each chain, a packet meets either
 * the old rules or the new ones. (With a new table, a packet that is between two chains when the
 * generation changes could meet neither.) What the instance remembers of current flows stays, as do
 * counters and the sets of unchanged lists; for changed lists the specification names the set's
 * alternate.
 */
char *nft_text_change(const struct intercept *spec, const char *listing, struct failure *why);

/* Like nft_text_install(), but keeps what the replaced instance remembers of current flows. Works
 * whatever somebody did to the table. */
char *nft_text_replacement(const struct intercept *spec, const char *listing, struct failure *why);

/*
 * The transaction that ends interception: flows that begin from now on pass, relayed ones stay, and
 * packets of orphaned ones still do not pass, for at least `ms` milliseconds. The caller frees it.
 */
char *nft_text_ending(const struct intercept *spec, uint64_t ms, struct failure *why);

/* TCP packets from one end to the other. */
struct nft_text_flow {
	struct endpoint from, to;
};

/* A transaction that answers the packets of those flows with resets, whatever sockets are here;
 * only resets pass. `count` is not 0. The caller frees it. */
char *nft_text_finish(const char *instance, const struct nft_text_flow *flow, size_t count,
		      struct failure *why);

/* A transaction that makes a lease permanent. The caller frees it. */
char *nft_text_confirmation(const char *instance, struct failure *why);

/* A transaction that adds `text` to a chain as notes (comments of rules, in pieces that nft
 * accepts). */
char *nft_text_notes(const char *instance, const char *chain, const char *text,
		     struct failure *why);

#endif
