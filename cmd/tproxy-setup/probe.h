/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe - a TCP segment that makes the other end say where it stands.
 *
 * An acknowledgement whose numbers cannot be right is answered with one whose numbers are (RFC
 * 9293,
 * 3.10.7.4): from anybody who has such a connection, in any state. Who has none answers with a reset.
 */
#ifndef TPROXY_SETUP_PROBE_H
#define TPROXY_SETUP_PROBE_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdint.h>

/* Raw sockets of both families (CAP_NET_RAW); one of a family that is not there is opened when it
 * is needed, and then fails. */
struct probe {
	int fd[2]; /* IPv4, IPv6; -1 */
};
void probe_init(struct probe *probe);
void probe_close(struct probe *probe);

/* Send one from any address and port, routed by that mark. Both ends are of one family. It carries
 * no data: by chance, once in some thousand times, its numbers are right, and it is not answered;
 * send another one then. 0, or -1 with *why. */
int probe_send(struct probe *probe, const struct endpoint *from, const struct endpoint *to,
	       uint32_t mark, struct failure *why);

#endif
