/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * export - `tproxy-inspect export`: metrics and health of instances and relays, over HTTP.
 */
#ifndef TPROXY_INSPECT_EXPORT_H
#define TPROXY_INSPECT_EXPORT_H

#include "tproxy-inspect/config.h"

int export_run(const struct config *config, char **operands);

#endif
