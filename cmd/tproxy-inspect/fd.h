/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fd - everything about one socket: an inherited descriptor, or one of another process.
 */
#ifndef TPROXY_INSPECT_FD_H
#define TPROXY_INSPECT_FD_H

#include "tproxy-inspect/config.h"

int fd_run(const struct config *config, char **operands);

#endif
