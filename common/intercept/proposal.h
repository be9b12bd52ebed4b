/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proposal - a command for the relay that an interception lacks.
 */
#ifndef TPROXY_INTERCEPT_PROPOSAL_H
#define TPROXY_INTERCEPT_PROPOSAL_H

#include "intercept/intercept.h"
#include <stdbool.h>
#include <stddef.h>

/* What the relay is for. */
struct proposal {
	bool tcp, udp;
	bool ipv4, ipv6;
};

/* `tproxy-relay 3129` with the options that fit the specification. Written whole into fix or not at
 * all. */
void proposal_relay(const struct intercept *spec, const struct proposal *lacking, char *fix,
		    size_t size);

#endif
