/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * first_match - what a rule asks of a packet first, if that is one address, prefix or port.
 *
 * Where rules are many, nearly all of them ask for other packets than the one at hand. What they
 * ask is read once, and not from JSON for each packet. Whatever is not recognised is left to
 * rule_eval.
 */
#ifndef TPROXY_FIREWALL_FIRST_MATCH_H
#define TPROXY_FIREWALL_FIRST_MATCH_H

#include "base/endpoint.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum first_match_kind {
	FIRST_MATCH_OTHER, /* the rule has to be evaluated */
	FIRST_MATCH_ADDRESS,
	FIRST_MATCH_PORT,
};

struct first_match {
	enum first_match_kind kind;
	bool of_source;	  /* of the packet's source, not its destination */
	uint8_t protocol; /* of a port: IPPROTO_TCP, IPPROTO_UDP; 0: either */
	uint16_t port;
	struct cidr cidr; /* an address is a prefix of full length */
};

struct first_match first_match_of(const json_t *rule);

/* Does the rule end there, for a packet of that protocol with these ends? Nothing before it has had
 * an effect. */
bool first_match_fails(const struct first_match *first, uint8_t protocol,
		       const struct endpoint *source, const struct endpoint *destination);

#endif
