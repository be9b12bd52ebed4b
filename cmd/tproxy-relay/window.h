/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * window - limits how far a sender of bulk data may run ahead of a receiver that does not read.
 *
 * Left alone, the kernel lets both of a relay's sockets grow to tcp_rmem's and tcp_wmem's maxima,
 * because the relay reads fast: a client that stops reading then leaves tens of megabytes here that
 * without a relay would have stayed with the server. Knows the socket options for this, not when to
 * use them. Options that the kernel refuses stay as they are.
 */
#ifndef TPROXY_RELAY_WINDOW_H
#define TPROXY_RELAY_WINDOW_H

/*
 * WINDOW_UNSENT: bytes that a socket takes beyond what it has sent already (TCP_NOTSENT_LOWAT; the
 * peer's window limits what is in flight). Less costs more, smaller sends. WINDOW_SMALL: size of a
 * small receive buffer, the kernel's overhead included: as much as is announced after the first
 * full reads.
 */
#define WINDOW_UNSENT 262144
#define WINDOW_SMALL  262144

/* Limit the unsent bytes that the socket takes to WINDOW_UNSENT from now on. */
void window_limit_unsent(int fd);

/* Make the receive buffer small, before much has come. */
void window_shrink(int fd);

/* Keep the receive buffer at its current size: what the peer may send now is enough. */
void window_hold(int fd);

/* Leave it to the kernel's autotuning again. */
void window_release(int fd);

#endif
