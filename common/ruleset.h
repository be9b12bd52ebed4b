/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ruleset - an instance's netfilter rules in the kernel: check, load, read back, remove.
 *
 * The only user of libnftables; what the rules say is rulebook's business. What is read back is
 * compared with digests that were taken right after loading and are kept in the table itself (its
 * chain `seal`): so a later change to any part shows, whatever nft's own spelling of a rule is.
 */
#ifndef TPROXY_RULESET_H
#define TPROXY_RULESET_H

#include <stdbool.h>
#include <stdint.h>
#include "intercept.h"
#include "report.h"

/* libnftables, in the network namespace in which it was opened. */
struct ruleset;
struct ruleset *ruleset_open(struct failure *why);
void ruleset_close(struct ruleset *rules);

/* Would the kernel take this text (nothing changes); load it as one transaction. 0 or -1 with *why. */
int ruleset_check(struct ruleset *rules, const char *text, struct failure *why);
int ruleset_load(struct ruleset *rules, const char *text, struct failure *why);

/* What became of a part of the rules since they were sealed. */
enum ruleset_verdict { PART_PRESENT, PART_MISSING, PART_CHANGED };

struct ruleset_part {
	char name[64]; /* `chain:divert`, `set:src4`, `counters` */
	enum ruleset_verdict verdict;
};

#define RULESET_PARTS_MAX    48
#define RULESET_COUNTERS_MAX 8

struct ruleset_counter {
	char name[16];
	uint64_t packets, bytes;
};

/* Interception on probation: for good (NONE), until it is confirmed, or over for want of that. */
enum ruleset_lease { LEASE_NONE, LEASE_PENDING, LEASE_CONFIRMED, LEASE_EXPIRED };

/* An instance as the kernel has it. */
struct ruleset_state {
	bool present;  /* there is a table of this name */
	bool ending;   /* its interception was ended by `down` */
	bool readable; /* spec could be read */
	bool sealed;
	enum ruleset_lease lease; /* only after ruleset_read() with contents */
	uint64_t lease_seconds;	  /* that a pending one still has */
	uint64_t handle;	  /* of the table: a replaced one has another */
	struct intercept spec;	  /* lists only after ruleset_read() with contents */
	struct ruleset_part part[RULESET_PARTS_MAX];
	unsigned parts;
	struct ruleset_counter counter[RULESET_COUNTERS_MAX];
	unsigned counters;
};

/*
 * Read the instance back and compare it with its seal; contents: and the sets' elements with the
 * specification's digests. Returns 0, also when there is none (!state->present), or -1 with *why.
 * The caller frees the state in any case.
 */
int ruleset_read(struct ruleset *rules, const char *name, bool contents,
		 struct ruleset_state *state, struct failure *why);
void ruleset_state_free(struct ruleset_state *state);

/* Is every part as it was sealed? */
bool ruleset_intact(const struct ruleset_state *state);

/* Read back what was just loaded, see that it is this specification, and store digests of its parts;
 * the lock, if it is held, is released in the same transaction. */
int ruleset_seal(struct ruleset *rules, const struct intercept *spec, struct failure *why);

/* Phase 1 of removal: take no new connection, leave what is relayed already alone. One transaction.
 * The flows that begin from then on pass, and are told from orphaned ones for at least `ms`. */
int ruleset_end_interception(struct ruleset *rules, const struct intercept *spec, uint64_t ms,
			     struct failure *why);

/* Keep for good what is on probation. */
int ruleset_confirm(struct ruleset *rules, const char *name, struct failure *why);

/* Remove the instance's table; none is success. The lock, if it is held, is released with it. */
int ruleset_remove(struct ruleset *rules, const char *name, struct failure *why);

/* The whole table as text that ruleset_restore() puts back, counters and all; NULL with why->err 0
 * when there is none. */
char *ruleset_save(struct ruleset *rules, const char *name, struct failure *why);
int ruleset_restore(struct ruleset *rules, const char *name, const char *saved,
		    struct failure *why);

/* The whole rule set of this network namespace, all programs': as text with handles, or as the array of
 * libnftables-json(5), with elements (json_t; table objects may be missing). The caller frees it. NULL
 * with *why. */
char *ruleset_dump_text(struct ruleset *rules, struct failure *why);
struct json_t *ruleset_dump_json(struct ruleset *rules, struct failure *why);

/* Called with the name of each installed instance; a return other than 0 ends it. */
typedef int ruleset_visitor(const char *name, void *context);
int ruleset_each(struct ruleset *rules, ruleset_visitor *visit, void *context, struct failure *why);

/*
 * Does anything outside our own tables use connection tracking, and does it translate source
 * addresses? What `--conntrack auto` comes to. `evidence` (may be NULL) gets the rule's place.
 */
int ruleset_conntrack_need(struct ruleset *rules, enum intercept_conntrack *need,
			   char evidence[128], struct failure *why);

/*
 * The lock of all tproxy-setup processes in this network namespace: an nft table owned by this
 * process's netlink socket, which the kernel removes with the process. Waits up to ms; then -1 with
 * *why naming the holder. Held until ruleset_unlock() or ruleset_close().
 */
int ruleset_lock(struct ruleset *rules, uint64_t ms, struct failure *why);
void ruleset_unlock(struct ruleset *rules);

#endif
