/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nft - an instance's netfilter rules in the kernel: check, load, read back, remove.
 *
 * The only user of libnftables; nft_text decides what the rules say. What is read back is compared
 * with digests that were taken right after loading and are stored in the table itself (its chain
 * `checksum`), so a later change to any part shows, however nft spells a rule.
 */
#ifndef TPROXY_INTERCEPT_NFT_H
#define TPROXY_INTERCEPT_NFT_H

#include "base/report.h"
#include "intercept/intercept.h"
#include <stdbool.h>
#include <stdint.h>

/* libnftables, in the network namespace in which it was opened. */
struct nft;
struct nft *nft_open(struct failure *why);
void nft_close(struct nft *rules);

/* Would the kernel take this text (changes nothing); load it as one transaction. 0 or -1 with
 * *why. */
int nft_check(struct nft *rules, const char *text, struct failure *why);
int nft_load(struct nft *rules, const char *text, struct failure *why);

/* What happened to a part of the rules since they were checksummed. */
enum nft_verdict { PART_PRESENT, PART_MISSING, PART_CHANGED };

struct nft_part {
	char name[64]; /* `chain:divert`, `set:src4`, `counters` */
	enum nft_verdict verdict;
};

#define NFT_PARTS_MAX	 64
#define NFT_COUNTERS_MAX 8

struct nft_counter {
	char name[16];
	uint64_t packets, bytes;
};

/* Interception on probation: permanent (NONE), waiting to be confirmed, confirmed, or expired
 * unconfirmed. */
enum nft_lease { LEASE_NONE, LEASE_PENDING, LEASE_CONFIRMED, LEASE_EXPIRED };

/* An instance as installed in the kernel. */
struct nft_state {
	bool present;  /* a table with this name exists */
	bool dormant;  /* `flags dormant`: the kernel runs none of its chains */
	bool ending;   /* `down` has ended its interception */
	bool readable; /* spec could be parsed */
	bool checksummed;
	enum nft_lease lease;	/* only after nft_read() with contents */
	uint64_t lease_seconds; /* left of a pending one */
	uint64_t handle;	/* of the table: a replaced table gets a new one */
	struct intercept spec;	/* lists only after nft_read() with contents */
	struct nft_part part[NFT_PARTS_MAX];
	unsigned parts;
	struct nft_counter counter[NFT_COUNTERS_MAX];
	unsigned counters;
};

/*
 * Read the instance back and compare it with its checksums; contents: also the elements of the sets
 * with the digests in the specification. Returns 0, also when there is no instance
 * (!state->present), or -1 with *why. The caller frees the state in any case.
 */
int nft_read(struct nft *rules, const char *name, bool contents, struct nft_state *state,
	     struct failure *why);
void nft_state_free(struct nft_state *state);

/* Write `chain:divert changed, set:port missing` into buf, shortened to fit; returns how many parts
 * differ from their checksums. */
unsigned nft_drift(const struct nft_state *state, char *buf, size_t size);

/* Does every part match its checksum? */
bool nft_intact(const struct nft_state *state);

/* Read back what was just loaded, check that it is this specification, and store digests of its
 * parts; the lock, if held, is released in the same transaction. */
int nft_checksum(struct nft *rules, const struct intercept *spec, struct failure *why);

/* Phase 1 of removal: take no new connections, leave the ones already relayed alone. One
 * transaction. Flows that begin from then on pass, and can be told from orphaned ones for at least
 * `ms` milliseconds. */
int nft_end_interception(struct nft *rules, const struct intercept *spec, uint64_t ms,
			 struct failure *why);

/* Answer the packets of those flows with resets (count 0: nothing is done). */
struct nft_text_flow;
int nft_finish(struct nft *rules, const char *name, const struct nft_text_flow *flow, size_t count,
	       struct failure *why);

/* Make a lease permanent. */
int nft_confirm(struct nft *rules, const char *name, struct failure *why);

/* Remove the instance's table; it is no error if there is none. The lock, if held, is released with
 * it. For good: in the same transaction the table has a chain NFT_REMOVAL_CHAIN, which tells those
 * who listen to the kernel's messages that this is wanted. */
#define NFT_REMOVAL_CHAIN "removal"
int nft_remove(struct nft *rules, const char *name, struct failure *why);

/* The whole table as text that nft_restore() puts back, including counters; NULL with why->err 0 if
 * there is no table. To put back NULL is to remove the table, not for good. */
char *nft_save(struct nft *rules, const char *name, struct failure *why);
int nft_restore(struct nft *rules, const char *name, const char *saved, struct failure *why);

/* The whole rule set of this network namespace, of all programs: as text with handles, or as the
 * array of libnftables-json(5), with elements (json_t; table objects may be missing). The caller
 * frees it. NULL with *why. */
char *nft_dump_text(struct nft *rules, struct failure *why);
struct json_t *nft_dump_json(struct nft *rules, struct failure *why);

/* The same for one object, as of `list chain ip filter INPUT`: kind `chain`, `set`, `map`. NULL
 * with *why, too, for a name that nft's grammar may take for something else. */
char *nft_list_text(struct nft *rules, const char *kind, const char *family, const char *table,
		    const char *name, struct failure *why);
struct json_t *nft_list_json(struct nft *rules, const char *kind, const char *family,
			     const char *table, const char *name, struct failure *why);

/* All chains, without their rules; all flow tables. The same as JSON. */
struct json_t *nft_chains_json(struct nft *rules, struct failure *why);
struct json_t *nft_flowtables_json(struct nft *rules, struct failure *why);

/* `ip`, `inet`, ...: nft's word for NFPROTO_IPV4, NFPROTO_INET, ..., and back. */
const char *nft_family_name(int family);
int nft_family_number(const char *name);

/* Does such a chain exist, whoever made it? family: NFPROTO_IPV4, ... */
bool nft_has_chain(struct nft *rules, uint8_t family, const char *table, const char *chain);

/* Called with the name of each installed instance; a non-zero return ends the visit. */
typedef int nft_visitor(const char *name, void *context);
int nft_each(struct nft *rules, nft_visitor *visit, void *context, struct failure *why);

/*
 * The lock of all tproxy-setup processes in this network namespace: an nft table owned by this
 * process's netlink socket, which the kernel removes with the process. Waits up to ms (NFT_LOCK_MS:
 * the longest that another process may take), then returns -1 with *why naming the holder. Held
 * until nft_unlock() or nft_close().
 */
#define NFT_LOCK_MS 10000
int nft_lock(struct nft *rules, uint64_t ms, struct failure *why);
void nft_unlock(struct nft *rules);

/* Does another process hold the lock? Then the state may be half changed. */
bool nft_is_locked(struct nft *rules);

#endif
