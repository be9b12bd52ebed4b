/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * arguments - the options and operands of tproxy-relay, and what they come to.
 *
 * The checks return OPTIONS_GO_ON, or an exit status after saying what is wrong.
 */
#ifndef TPROXY_RELAY_ARGUMENTS_H
#define TPROXY_RELAY_ARGUMENTS_H

#include "base/options.h"
#include "tproxy-relay/config.h"

extern const struct options_program arguments_program;

/* Do the options fit each other? Settles which families are served, where only one can be. */
int arguments_check(struct config *config);

/* Which protocols have been passed on? Where -t or -u has not said so, all of them are served. */
int arguments_check_inherited(struct config *config, int inherited);

/* The operands become listeners, not open yet. */
int arguments_read_endpoints(struct relay_listeners *listeners, const struct config *config,
			     const struct options_rest *rest);

#endif
