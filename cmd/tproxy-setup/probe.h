/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe - a TCP segment that makes the other end report its state.
 *
 * A host that has the connection, in any state, answers an unacceptable acknowledgement with one
 * that has the right numbers (RFC 9293, 3.10.7.4). A host that does not have it answers with a
 * reset.
 */
#ifndef TPROXY_SETUP_PROBE_H
#define TPROXY_SETUP_PROBE_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdint.h>

/* Raw sockets of both families (CAP_NET_RAW). If a family is missing, its socket is opened when it
 * is needed, and that fails. */
struct probe {
	int fd[2]; /* IPv4, IPv6; -1 */
};
void probe_init(struct probe *probe);
void probe_close(struct probe *probe);

/* Send a probe from any address and port, routed by that mark. Both ends are of one family. It
 * carries no data: by chance, once in a few thousand times, its numbers are right and it gets no
 * answer; send another one then. 0, or -1 with *why. */
int probe_send(struct probe *probe, const struct endpoint *from, const struct endpoint *to,
	       uint32_t mark, struct failure *why);

#endif
