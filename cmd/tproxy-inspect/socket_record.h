/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * socket_record - puts the properties of a socket into a record, whatever their source.
 */
#ifndef TPROXY_INSPECT_SOCKET_RECORD_H
#define TPROXY_INSPECT_SOCKET_RECORD_H

#include "base/record.h"
#include "net/sockdiag.h"
#include "net/sockowner.h"
#include "tproxy-inspect/origin.h"
#include <net/if.h>
#include <stdint.h>

/* `tcp` or `udp`. */
const char *socket_record_proto(int protocol);

/* Fill a record of type `socket` with everything that sock_diag reports. `device` holds a name that
 * the record borrows. */
void socket_record_fill(struct record *r, const struct sockdiag_socket *s,
			char device[IF_NAMESIZE]);

/* Add its holder; NULL: unknown. */
void socket_record_owner(struct record *r, const struct sockowner *owner);

void socket_record_origin(struct record *r, const struct origin_answer *answer);

#endif
