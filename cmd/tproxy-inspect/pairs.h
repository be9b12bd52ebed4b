/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pairs - the two halves of each relayed connection, joined, as records.
 */
#ifndef TPROXY_INSPECT_PAIRS_H
#define TPROXY_INSPECT_PAIRS_H

#include "tproxy-inspect/config.h"

int pairs_run(const struct config *config, char **operands);

#endif
