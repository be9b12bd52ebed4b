/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kill - end connections with a reset to their peers (SOCK_DESTROY), both halves of relayed ones.
 */
#ifndef TPROXY_INSPECT_KILL_H
#define TPROXY_INSPECT_KILL_H

#include "tproxy-inspect/config.h"

int kill_run(const struct config *config, char **operands);

#endif
