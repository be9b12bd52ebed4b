/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * live - `tproxy-inspect watch` on a terminal: a screen of the busiest connections, and its keys.
 */
#ifndef TPROXY_INSPECT_LIVE_H
#define TPROXY_INSPECT_LIVE_H

#include "tproxy-inspect/config.h"

/* Run until q, a signal, or --timeout. Returns the status to exit with, or -1: this terminal cannot
 * show a screen. */
int live_run(const struct config *config);

#endif
