/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * socket_record - how the properties of a socket are put into a record, whoever told them.
 */
#ifndef TPROXY_INSPECT_SOCKET_RECORD_H
#define TPROXY_INSPECT_SOCKET_RECORD_H

#include "base/record.h"
#include <stdint.h>

/* `tcp` or `udp`. */
const char *socket_record_proto(int protocol);

/* SO_MARK is the whole mark: no mask. */
void socket_record_mark(struct record *r, uint32_t value);

#endif
