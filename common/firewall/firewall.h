/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * firewall - every packet filter rule of this network namespace, whoever made it, in nft's JSON
 * words.
 *
 * Everything that libnftables lists, with iptables-nft's extensions decoded, and the tables of
 * iptables-legacy, which nft does not see. Tables of our own instances are left out. See
 * libnftables-json(5).
 */
#ifndef TPROXY_FIREWALL_FIREWALL_H
#define TPROXY_FIREWALL_FIREWALL_H

#include "base/report.h"
#include "firewall/first_match.h"
#include "intercept/nft.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* A chain and its rules, in order. Texts are borrowed from the firewall. */
struct firewall_chain {
	const char *family; /* `inet`, `ip`, `ip6`, `netdev` */
	const char *table, *name;
	const char *hook;   /* base chain: `prerouting`, `input`, ...; else "" */
	const char *type;   /* base chain: `filter`, `nat`, `route` */
	const char *policy; /* base chain: `accept`, `drop` */
	long priority;
	long runs_at;	     /* where the kernel runs it: at its priority, but nat at that of NAT */
	uint64_t made[2];    /* numbers of its table and of itself: the newer, the larger */
	const char *devices; /* ingress or egress: the line of nft's listing that names them */
	bool iptables;	     /* iptables manages it, */
	bool legacy;	     /* and it is iptables-legacy */
	const json_t **rule; /* NULL: not yet in JSON, see firewall_rule() */
	struct first_match *first; /* of each rule; NULL: not known */
	size_t rules;
	bool read;		    /* its rules are there; else firewall_need() reads them */
	struct firewall_wire *wire; /* its rules as the kernel told them; NULL: all are in JSON */
	char *text; /* nft's listing of it, once that was needed; NULL: of all chains */
};

struct firewall;

/* Read all rules; `rules` is borrowed for the lifetime of the result. NULL with *why. */
struct firewall *firewall_read(struct nft *rules, struct failure *why);
void firewall_free(struct firewall *firewall);

/* The same for who asks for few chains: of many rules only those in chains that firewall_at_hook()
 * or firewall_target() returned, or firewall_need() named, are there. */
struct firewall *firewall_read_some(struct nft *rules, struct failure *why);

/* Read the rules of that chain, if they are not there. */
void firewall_need(const struct firewall *firewall, const struct firewall_chain *chain);

/* A rule of that chain. Where rules are many, they are put into JSON when they are asked for. */
const json_t *firewall_rule(const struct firewall *firewall, const struct firewall_chain *chain,
			    size_t at);

/* The one with that handle; NULL: none. */
const json_t *firewall_rule_by_handle(const struct firewall *firewall,
				      const struct firewall_chain *chain, uint64_t handle);

/* Why some rules could not be read since, or (EAGAIN) were changed meanwhile; NULL: all could. */
const struct failure *firewall_unread(const struct firewall *firewall);

/*
 * The base chains of a hook that a packet of that family meets, in the order in which the kernel
 * runs them; NULL after the last one. `at` counts from 0.
 *
 * Of the same priority, the chain that was registered last runs first (nf_hook_entries_grow() of
 * net/netfilter/core.c). In a table their numbers tell; among tables the kernel does not, and the
 * newest table is taken for the last one. A chain that was added to a table later runs earlier than
 * that, and where iptables-legacy comes in is not known at all.
 */
const struct firewall_chain *firewall_at_hook(const struct firewall *firewall, const char *hook,
					      sa_family_t family, unsigned at);

/* The place of a chain of ours, which are left out, at a hook. */
struct firewall_place {
	long priority;
	uint64_t made; /* the number of its table; 0: unknown, taken for the oldest */
};

/* Does the chain run before that place? Of the same priority the newer one does, as far as their
 * tables' numbers tell. */
bool firewall_is_before(const struct firewall *firewall, const struct firewall_chain *chain,
			const struct firewall_place *ours);

/* Do both run at the same place, and does the kernel not tell which runs first? */
bool firewall_is_tied(const struct firewall_chain *a, const struct firewall_chain *b);

/* Does a packet of that family meet both? */
bool firewall_meet(const struct firewall_chain *a, const struct firewall_chain *b,
		   sa_family_t family);

/* Assume the opposite order of all tied chains, also with ours, from now on. Pointers to chains become invalid. */
void firewall_reverse_ties(struct firewall *firewall);

/* Does a packet that comes in and goes out by these interfaces (NULL: by none) meet that base
 * chain? */
bool firewall_chain_is_at(const struct firewall_chain *chain, const char *iif, const char *oif);

/* Does a program read that NFQUEUE queue of this network namespace? */
bool firewall_queue_is_read(unsigned number);

/* The chain that a rule of `from` jumps to, or NULL. */
const struct firewall_chain *firewall_target(const struct firewall *firewall,
					     const struct firewall_chain *from, const char *name);

/* The elements of a named set or map of the chain's table (a JSON array), or NULL. */
const json_t *firewall_elements(const struct firewall *firewall, const struct firewall_chain *chain,
				const char *name);

/* An object of that kind (`flowtable`): the first with an index of at least *at; NULL: no more. */
const json_t *firewall_object(const struct firewall *firewall, const char *kind, size_t *at);

/* How many chains there are, and the one at an index. */
size_t firewall_chains(const struct firewall *firewall);
const struct firewall_chain *firewall_chain(const struct firewall *firewall, size_t at);

/* The rule as a person would write it, in nft's or iptables' words, with its place. Returns buf. */
const char *firewall_describe(const struct firewall *firewall, const struct firewall_chain *chain,
			      const json_t *rule, char *buf, size_t size);

#endif
