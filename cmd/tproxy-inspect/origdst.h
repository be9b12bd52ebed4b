/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * origdst - original destinations of connections, which are given by the ends of their sockets
 * here.
 */
#ifndef TPROXY_INSPECT_ORIGDST_H
#define TPROXY_INSPECT_ORIGDST_H

#include "tproxy-inspect/config.h"

int origdst_run(const struct config *config, char **operands);

#endif
