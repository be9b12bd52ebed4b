/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pairs - prints the joined halves of each relayed connection as records.
 */
#ifndef TPROXY_INSPECT_PAIRS_H
#define TPROXY_INSPECT_PAIRS_H

#include "tproxy-inspect/config.h"

int pairs_run(const struct config *config, char **operands);

#endif
