/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * marks - values of the packet mark under a mask, and whether they clash.
 */
#ifndef TPROXY_BASE_MARKS_H
#define TPROXY_BASE_MARKS_H

#include "base/quantity.h"
#include <stdbool.h>
#include <stddef.h>

/* Could a packet carry both marks at once? */
bool marks_clash(const struct mark *a, const struct mark *b);

/* Find a mark that clashes with none of `taken`, under the mask of `like` or else under one of
 * theirs. False: none found, and *unused is *like. */
bool marks_find_free(const struct mark *like, const struct mark taken[], size_t count,
		     struct mark *unused);

#endif
