/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * packet_path - the packets of an intercepted connection, on their way through other programs' rules.
 *
 * Of each example flow: the client's first packet, the upstream leg's, and what comes back of both.
 */
#ifndef TPROXY_FIREWALL_PACKET_PATH_H
#define TPROXY_FIREWALL_PACKET_PATH_H

#include "firewall/rule_eval.h"
#include "tproxy-setup/doctor/context.h"
#include <stdbool.h>

/* Where a packet is. Before and after: of our own rules in prerouting. */
enum packet_path_leg {
	PACKET_PATH_BEFORE,
	PACKET_PATH_AFTER,
	PACKET_PATH_INPUT,
	PACKET_PATH_UPSTREAM,	   /* the proxy's connection to the server, in output */
	PACKET_PATH_ANSWER_BEFORE, /* what comes back from the server */
	PACKET_PATH_ANSWER_AFTER,
	PACKET_PATH_ANSWER_INPUT,
	PACKET_PATH_REPLY, /* the proxy's answer to the client, in output */
};

/* `intercepted packets (192.0.2.2 -> ...)`: which packets these are. */
const char *packet_path_leg_name(enum packet_path_leg leg);
bool packet_path_is_prerouting(enum packet_path_leg leg);

struct packet_path_step {
	enum packet_path_leg leg;
	struct rule_eval_step step;
};

/*
 * Call judge for each thing that a rule does to a packet, once for each rule and place (of a packet and
 * its answer the first counts). state: "", or what conntrack says of all of them (`invalid`).
 */
typedef void packet_path_judge(struct doctor_context *x, const struct packet_path_step *at,
			       void *context);
void packet_path_each(struct doctor_context *x, const char *state, packet_path_judge *judge,
		      void *context);

#endif
