/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockets - the sockets of this machine, as records.
 */
#ifndef TPROXY_INSPECT_SOCKETS_H
#define TPROXY_INSPECT_SOCKETS_H

#include "tproxy-inspect/config.h"

int sockets_run(const struct config *config, char **operands);

#endif
