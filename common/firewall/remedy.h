/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remedy - the commands that get packets past other people's rules, in the words of the tool that
 * made them.
 *
 * Each is written into fix (of `size` bytes), whole or not at all.
 */
#ifndef TPROXY_FIREWALL_REMEDY_H
#define TPROXY_FIREWALL_REMEDY_H

#include "base/quantity.h"
#include "firewall/rule_eval.h"
#include <stddef.h>

/* Let packets with this mark past the base chain; let those past whose source is not this
 * host's. */
void remedy_accept(const struct rule_eval_step *step, const struct mark *mark, char *fix,
		   size_t size);
void remedy_accept_foreign(const struct rule_eval_step *step, char *fix, size_t size);

/* Remove that rule, whichever others are removed before; a chain's policy is none. */
void remedy_delete(const struct rule_eval_step *step, char *fix, size_t size);

#endif
