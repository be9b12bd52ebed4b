/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * live - `tproxy-inspect watch` on a terminal: a screen that shows who is busy, and keys.
 */
#ifndef TPROXY_INSPECT_LIVE_H
#define TPROXY_INSPECT_LIVE_H

#include "tproxy-inspect/config.h"

/* Until q, a signal, or --timeout. Returns the status to exit with, or -1: this terminal can show no screen. */
int live_run(const struct config *config);

#endif
