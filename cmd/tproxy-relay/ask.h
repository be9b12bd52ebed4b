/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ask - `tproxy-relay --ask`: query a running relay and print its answer as a table or NDJSON.
 */
#ifndef TPROXY_RELAY_ASK_H
#define TPROXY_RELAY_ASK_H

#include "base/options.h"
#include "tproxy-relay/config.h"

/* Ask the relay that the operand names (a pid, `@NAME` or a path; none: the only relay that runs)
 * and print its answer. Returns the exit status: STATUS_NO if there is no such relay. */
int ask_run(const struct config *config, const struct options_rest *rest);

#endif
