/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * harm - how other people's rules harm an interception, and the command that prevents it.
 *
 * rule_eval says what a rule does to a packet; whether that matters depends on where the packet is
 * and on the two marks. The doctor judges example packets by this, `tproxy-inspect explain` a given
 * one.
 */
#ifndef TPROXY_FIREWALL_HARM_H
#define TPROXY_FIREWALL_HARM_H

#include "base/quantity.h"
#include "firewall/packet_path.h"
#include "net/sockdiag.h"
#include <stdbool.h>
#include <stddef.h>

enum harm {
	HARM_NONE,
	HARM_DROPS,	 /* the rule drops the packet */
	HARM_PREMARKS,	 /* gives it one of our marks before our rules run: they let it pass */
	HARM_OVERWRITES, /* takes our mark away after our rules have run: it is not delivered */
	HARM_UNMARKS,	 /* takes the relay's mark away before our rules run: they intercept its
			 connection again */
	HARM_RESTORES, /* puts the intercept mark on the proxy's packets, which then return to it */
	HARM_TAKES,    /* another tproxy, redirect or dnat; snat of what is delivered */
	HARM_MASKS,    /* the server sees another source address; nothing breaks */
};

enum harm harm_of(const struct packet_path_step *at, const struct mark *mark,
		  const struct mark *upstream_mark);

/* Does a packet with that mark carry ours? */
bool harm_carries(uint32_t value, const struct mark *mark);

/* The packets are taken by nft's tproxy, and nobody listens there: then it lets them continue. (The
 * tproxy of iptables drops them.) */
bool harm_is_idle(struct sockdiag *diag, const struct rule_eval_step *step);

/* Write the command that lets packets past that rule into fix, whole or not at all. `mark`: the
 * intercept mark. "" for HARM_PREMARKS (another mark fixes it) and HARM_MASKS. */
void harm_fix(const struct packet_path_step *at, enum harm harm, const struct mark *mark, char *fix,
	      size_t size);

#endif
