/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * window - how far a sender of bulk data may run ahead of a receiver that does not read.
 *
 * Left alone, the kernel lets both of a relay's sockets grow to tcp_rmem's and tcp_wmem's maxima,
 * because the relay reads fast: a client that stops reading then leaves tens of megabytes here that
 * forwarding would have left with the server. Knows the socket options for it, and nothing of when.
 * What the kernel refuses stays as it is.
 */
#ifndef TPROXY_RELAY_WINDOW_H
#define TPROXY_RELAY_WINDOW_H

/*
 * Bytes that a socket takes beyond what it has sent already (TCP_NOTSENT_LOWAT; what is in flight
 * is the peer's window's affair). Less costs more, smaller sends. And what a receive buffer holds,
 * with the kernel's own needs, while it is small: as much as is announced after the first full
 * reads.
 */
#define WINDOW_UNSENT 262144
#define WINDOW_SMALL  262144

/* From now on the socket takes no more than that in advance. */
void window_limit_unsent(int fd);

/* A small receive buffer, before much has come. */
void window_shrink(int fd);

/* The receive buffer stays as large as it is: what the peer may send now is enough. */
void window_hold(int fd);

/* Leave it to the kernel's autotuning again. */
void window_release(int fd);

#endif
