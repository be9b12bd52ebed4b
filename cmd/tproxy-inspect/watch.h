/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * watch - `tproxy-inspect watch`: connections as they open and close.
 */
#ifndef TPROXY_INSPECT_WATCH_H
#define TPROXY_INSPECT_WATCH_H

#include "tproxy-inspect/config.h"

int watch_run(const struct config *config, char **operands);

#endif
