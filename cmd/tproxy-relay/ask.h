/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ask - `tproxy-relay --ask`: what a running relay answers, as a table or as NDJSON.
 */
#ifndef TPROXY_RELAY_ASK_H
#define TPROXY_RELAY_ASK_H

#include "base/options.h"
#include "tproxy-relay/config.h"

/* Ask the relay that the operand names (its pid, `@NAME` or a path; none: the only one there
 * is), and print. Returns the exit status: STATUS_NO when there is none. */
int ask_run(const struct config *config, const struct options_rest *rest);

#endif
