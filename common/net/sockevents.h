/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockevents - the kernel's reports of TCP sockets that end (SKNLGRP_INET_TCP_DESTROY and its IPv6
 * sibling).
 *
 * Facts (net/core/sock_diag.c, net/ipv4/inet_diag.c): a socket is reported once, when its last
 * reference goes: after close(2) and the last FIN, at TIME-WAIT, or at once after a reset. The
 * message has both ends, the cookie and TCP_INFO; no owner, mark or socket options, and the state
 * is UNCONN. It is sent only to the socket's own network namespace, and joining needs no
 * capability. New sockets are not reported.
 */
#ifndef TPROXY_NET_SOCKEVENTS_H
#define TPROXY_NET_SOCKEVENTS_H

#include "base/report.h"
#include "net/sockdiag.h"

/* An open channel to the network namespace in which it was opened. NULL with *why. */
struct sockevents;
struct sockevents *sockevents_open(struct failure *why);
void sockevents_close(struct sockevents *e);

/* To poll for reading; it does not block. */
int sockevents_fd(const struct sockevents *e);

/*
 * Visit the sockets that have ended since the last call. Returns 0; 1 if some were lost, because
 * they were not read in time (ENOBUFS): then only a dump shows which ones are left; or -1 with
 * *why.
 */
typedef void sockevents_visitor(const struct sockdiag_socket *s, void *context);
int sockevents_read(struct sockevents *e, sockevents_visitor *visit, void *context,
		    struct failure *why);

/* Visit the sockets of one datagram, of any bytes: what is cut short or not about a socket is left
 * out. */
void sockevents_parse(const void *datagram, size_t size, sockevents_visitor *visit, void *context);

#endif
