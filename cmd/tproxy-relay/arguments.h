/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * arguments - the options and operands of tproxy-relay, checked and put into its configuration.
 *
 * The checks return OPTIONS_GO_ON, or an exit status after reporting what is wrong.
 */
#ifndef TPROXY_RELAY_ARGUMENTS_H
#define TPROXY_RELAY_ARGUMENTS_H

#include "base/options.h"
#include "tproxy-relay/config.h"

extern const struct options_program arguments_program;

/* Check that the options fit together. Decides which families are served where only one can be. */
int arguments_check(struct config *config);

/* Check the protocols of the inherited sockets. Without -t and -u all of them are served. */
int arguments_check_inherited(struct config *config, int inherited);

/* Turn the operands into listeners, which are not open yet. */
int arguments_read_endpoints(struct relay_listeners *listeners, const struct config *config,
			     const struct options_rest *rest);

#endif
