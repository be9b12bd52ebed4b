/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remedy - commands that get packets past other people's rules, written for the tool that made the
 * rules.
 *
 * Each is written into fix (`size` bytes), whole or not at all.
 */
#ifndef TPROXY_FIREWALL_REMEDY_H
#define TPROXY_FIREWALL_REMEDY_H

#include "base/quantity.h"
#include "firewall/rule_eval.h"
#include <stddef.h>

/* Let packets with this mark past the base chain; let packets past whose source is not this
 * host's. */
void remedy_accept(const struct rule_eval_step *step, const struct mark *mark, char *fix,
		   size_t size);
void remedy_accept_foreign(const struct rule_eval_step *step, char *fix, size_t size);

/* Remove that rule, whichever others are removed first. A chain's policy is not a rule. */
void remedy_delete(const struct rule_eval_step *step, char *fix, size_t size);

#endif
