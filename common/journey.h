/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journey - the packets of an intercepted connection, on their way through other programs' rules.
 *
 * Of each example flow: the client's first packet, the upstream leg's, and what comes back of both.
 */
#ifndef TPROXY_JOURNEY_H
#define TPROXY_JOURNEY_H

#include <stdbool.h>
#include "examination.h"
#include "walk.h"

/* Where a packet is. Before and after: of our own rules in prerouting. */
enum journey_leg {
	JOURNEY_BEFORE,
	JOURNEY_AFTER,
	JOURNEY_INPUT,
	JOURNEY_UPSTREAM,      /* the proxy's connection to the server, in output */
	JOURNEY_ANSWER_BEFORE, /* what comes back from the server */
	JOURNEY_ANSWER_AFTER,
	JOURNEY_ANSWER_INPUT,
	JOURNEY_REPLY, /* the proxy's answer to the client, in output */
};

/* `intercepted packets (192.0.2.2 -> ...)`: which packets these are. */
const char *journey_leg_name(enum journey_leg leg);
bool journey_is_prerouting(enum journey_leg leg);

struct journey_step {
	enum journey_leg leg;
	struct walk_step step;
};

/*
 * Call judge for each thing that a rule does to a packet, once for each rule and place (of a packet and
 * its answer the first counts). state: "", or what conntrack says of all of them (`invalid`).
 */
typedef void journey_judge(struct examination *x, const struct journey_step *at, void *context);
void journey_each(struct examination *x, const char *state, journey_judge *judge, void *context);

#endif
