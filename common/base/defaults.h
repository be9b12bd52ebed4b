/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * defaults - the default numbers that all programs share.
 */
#ifndef TPROXY_BASE_DEFAULTS_H
#define TPROXY_BASE_DEFAULTS_H

#include "base/quantity.h"

#define DEFAULT_MARK	      ((struct mark){ 0x1, 0xff })
#define DEFAULT_UPSTREAM_MARK ((struct mark){ 0x2, 0xff })
#define DEFAULT_TABLE	      100
#define DEFAULT_PREFERENCE    100
#define DEFAULT_CT_ZONE	      7

#endif
