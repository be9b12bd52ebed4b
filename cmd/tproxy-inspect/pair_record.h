/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pair_record - puts the two halves of a connection into a record.
 */
#ifndef TPROXY_INSPECT_PAIR_RECORD_H
#define TPROXY_INSPECT_PAIR_RECORD_H

#include "base/record.h"
#include "tproxy-inspect/pairing.h"

/* Payload from and to the client, as far as either half knows. */
struct pair_record_bytes {
	uint64_t up, down;
};
struct pair_record_bytes pair_record_bytes(const struct pairing_pair *pair);

/* Milliseconds since payload moved on either side. */
uint32_t pair_record_idle(const struct pairing_pair *pair);

/* Fill a record of that type with everything known about the pair, except its owner and whether it
 * is stuck. */
void pair_record_fill(struct record *r, const char *type, const struct pairing_pair *pair);

#endif
