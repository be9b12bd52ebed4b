/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * condition - a condition on records: `event=close client=192.0.2.0/24 bytes_down>1M`.
 *
 * Terms are separated by blanks, and all of them must hold. A term is a field's name, one of = != <
 * <= > >=, and a value: CIDR[:PORTS] for an endpoint, a number with K, M or G, a duration for a
 * field in milliseconds, else the text that a table shows. A field that the record does not have
 * matches only !=.
 */
#ifndef TPROXY_INSPECT_CONDITION_H
#define TPROXY_INSPECT_CONDITION_H

#include "base/record.h"
#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

/* known: RECORD_BITs of the valid fields. Returns NULL with *why, which names the term. The caller
 * owns it. */
struct condition;
struct condition *condition_parse(const char *text, uint64_t known, struct failure *why);
void condition_free(struct condition *c);

/* NULL always holds. */
bool condition_holds(const struct condition *c, const struct record *r);

#endif
