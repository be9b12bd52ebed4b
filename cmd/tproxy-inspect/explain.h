/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * explain - what the kernel does with one packet, step by step, and why it does not arrive.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_H
#define TPROXY_INSPECT_EXPLAIN_H

#include "tproxy-inspect/config.h"

int explain_run(const struct config *config, char **operands);

#endif
