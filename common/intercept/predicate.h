/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * predicate - which packets a specification is about.
 */
#ifndef TPROXY_INTERCEPT_PREDICATE_H
#define TPROXY_INTERCEPT_PREDICATE_H

#include "base/endpoint.h"
#include "intercept/intercept.h"
#include <stdbool.h>

/* Can one packet be in the predicates of both? */
bool predicate_overlaps(const struct intercept *a, const struct intercept *b);

/* Is the packet of a connection client -> destination in the predicate (device, mark and protocol
 * apart)? */
bool predicate_matches(const struct intercept *spec, const struct endpoint *client,
		       const struct endpoint *destination);

#endif
