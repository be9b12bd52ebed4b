/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * packet_path - takes the packets of an intercepted connection through other programs' rules.
 *
 * For each example flow: the client's first packet, that of the upstream leg, and the answers to
 * both.
 */
#ifndef TPROXY_FIREWALL_PACKET_PATH_H
#define TPROXY_FIREWALL_PACKET_PATH_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "firewall/firewall.h"
#include "firewall/rule_eval.h"
#include "net/link.h"
#include <stdbool.h>

/* An intercepted connection: one protocol, family and interface. */
struct packet_path_flow {
	uint8_t protocol;	   /* IPPROTO_TCP or IPPROTO_UDP */
	bool own;		   /* opened by this host itself (--local): it comes in on lo */
	const struct link *device; /* where it comes in */
	struct link upstream;	   /* where it leaves; no name: unknown */
	struct endpoint client, destination;
	struct mark mark; /* the mark that our rules set on its packets */
	/* The source of the proxy's own connection, if it is this host's; else the client's. */
	struct endpoint sender;
	uint32_t upstream_mark; /* the mark of the proxy's own connection */
	bool local;		/* our rules mark what this host opens, too */
	uint64_t made;		/* the number of the table with our rules; see firewall_place */
	bool zones;		/* conntrack sees each leg as a connection of its own */
	bool has_uid;
	uint32_t uid, gid; /* has_uid: the proxy's */
};

/* Where a packet is. BEFORE and AFTER refer to our own rules in prerouting. */
enum packet_path_leg {
	PACKET_PATH_BEFORE,
	PACKET_PATH_AFTER,
	PACKET_PATH_INPUT,
	PACKET_PATH_UPSTREAM,	   /* the proxy's connection to the server, in output */
	PACKET_PATH_ANSWER_BEFORE, /* the server's answer */
	PACKET_PATH_ANSWER_AFTER,
	PACKET_PATH_ANSWER_INPUT,
	PACKET_PATH_REPLY,  /* the proxy's answer to the client, in output */
	PACKET_PATH_OPENED, /* this host's own connections, in output, before our rules mark them, */
	PACKET_PATH_MARKED, /* and from there until they come in on lo */
	PACKET_PATH_PAST,   /* packets that are not intercepted, on their path past the proxy */
};

/* Which packets these are: `intercepted packets (192.0.2.2 -> ...)`. */
const char *packet_path_leg_name(enum packet_path_leg leg);
bool packet_path_is_prerouting(enum packet_path_leg leg);

struct packet_path_step {
	enum packet_path_leg leg;
	uint8_t protocol; /* the flow's */
	bool own;	  /* this host opens the flow, */
	bool sent_as_own; /* or it is the proxy's own connection, and has a source of this host */
	bool later;	  /* it concerns packets after the first one */
	bool early;	  /* in output, before our rules for what this host opens */
	struct rule_eval_step step;
};

/*
 * Send the packets of `count` flows through the firewall. Calls judge for each thing that a rule
 * does to a packet, once for each rule and place (of a packet and its answer, the first counts).
 * state: "", or the conntrack state of all packets (`invalid`).
 */
typedef void packet_path_judge(const struct packet_path_step *at, void *context);
void packet_path_each(const struct firewall *firewall, const struct packet_path_flow flow[],
		      unsigned count, const char *state, packet_path_judge *judge, void *context);

/* Send the first packet of one flow that is not intercepted (its mark is `mark`), from the priority
 * after our rules: past this host, or into it if `here`, or out of it if this host opens the flow
 * (flow->own). Returns whether it gets through, as far as is certain. */
bool packet_path_past(const struct firewall *firewall, const struct packet_path_flow *flow,
		      uint32_t mark, bool here, packet_path_judge *judge, void *context);

/* Send the first packet of a connection that this host opens through OUTPUT, up to where our rules
 * mark it; *mark changes as the rules do. */
bool packet_path_opened(const struct firewall *firewall, const struct packet_path_flow *flow,
			uint32_t *mark, packet_path_judge *judge, void *context);

/* Where our rules are at `prerouting` or `output`. */
struct firewall_place packet_path_ours(const struct packet_path_flow *flow, const char *hook);

#endif
