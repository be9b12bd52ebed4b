/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rule_eval - takes a packet through the rules of a hook: who drops it, marks it, takes it.
 *
 * Evaluates rules as the kernel would, as far as it knows what they look at: addresses, ports,
 * interfaces, mark, connection state, routes. Anything else (a rate, a user, an extension) is
 * neither true nor false, and its consequences are reported as uncertain.
 */
#ifndef TPROXY_FIREWALL_RULE_EVAL_H
#define TPROXY_FIREWALL_RULE_EVAL_H

#include "base/endpoint.h"
#include "firewall/firewall.h"
#include <stdbool.h>
#include <stdint.h>

/* A packet as the rules see it. */
struct rule_eval_packet {
	uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	struct endpoint source, destination;
	const char *iif, *oif; /* interface names; NULL: none at this hook */
	uint32_t mark;
	const char *state; /* conntrack's: `new`, `established`, `untracked`, `invalid` */
	uint32_t *ct_mark; /* its connection's; NULL: unknown */
	bool reply;	   /* it goes in the direction opposite to its connection's first packet */
	bool syn, ack;	   /* TCP flags */
	bool local;	   /* its destination is an address of this host, */
	bool source_local; /* its source is */
	bool transparent;  /* it has a transparent socket (at INPUT) */
	bool has_uid;
	uint32_t uid, gid;  /* has_uid: of the process that sends it */
	bool source_routed; /* a route lookup for its source, with its mark, finds an interface */
};

enum rule_eval_event {
	RULE_EVAL_DROPPED,    /* drop, reject, or a chain's policy */
	RULE_EVAL_MARKED,     /* the mark was changed */
	RULE_EVAL_TPROXIED,   /* by somebody's tproxy rule */
	RULE_EVAL_TRANSLATED, /* by dnat or redirect */
	RULE_EVAL_MASKED,     /* by snat or masquerade */
};

struct rule_eval_step {
	enum rule_eval_event event;
	bool certain;			    /* everything that led here is known */
	const struct firewall_chain *base;  /* the base chain, */
	const struct firewall_chain *chain; /* the chain in it, */
	const json_t *rule;		    /* and the rule; NULL: the base chain's policy */
	uint32_t mark, before;		    /* RULE_EVAL_MARKED: after and before */
};
typedef void rule_eval_visitor(const struct rule_eval_step *step, void *context);

/* Which chains of a hook: all, or those on one side of a chain of ours. */
enum rule_eval_side { RULE_EVAL_ALL, RULE_EVAL_BEFORE, RULE_EVAL_AFTER };
struct rule_eval_part {
	enum rule_eval_side side;
	struct firewall_place ours;
};

/*
 * Send the packet through the base chains of that part of the hook (NULL: all). Changes its mark as
 * the rules do. Returns true if it got through (as far as is certain).
 */
bool rule_eval_hook(const struct firewall *firewall, const char *hook,
		    const struct rule_eval_part *part, struct rule_eval_packet *packet,
		    rule_eval_visitor *visit, void *context);

#endif
