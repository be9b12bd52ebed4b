/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * accept - admits or refuses TCP connections.
 */
#ifndef TPROXY_LISTEN_ACCEPT_H
#define TPROXY_LISTEN_ACCEPT_H

#include "process/loop.h"
#include "tproxy-listen/service.h"

/* The handler of TCP listeners. */
loop_handler accept_pending;

/* Accept all waiting connections before the listeners are closed, which would reset them. */
void accept_last(struct service *s);

/* Refuse a connection whose PROXY header is awaited. */
void accept_refuse_header(struct connection *c, const char *why);

#endif
