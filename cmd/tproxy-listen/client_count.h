/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * client_count - the number of open connections of each client.
 *
 * A client is an IPv4 address or an IPv6 /64: whoever has one IPv6 address has 2^64 of them. Only
 * clients with a connection take memory, and the hash is seeded, so that nobody can make it slow.
 */
#ifndef TPROXY_LISTEN_CLIENT_COUNT_H
#define TPROXY_LISTEN_CLIENT_COUNT_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdint.h>

struct client_count;

struct client_count *client_count_new(struct failure *why);
void client_count_free(struct client_count *clients);

/* Add one; returns the client's new count, or UINT32_MAX for lack of memory (then none was
 * added). */
uint32_t client_count_enter(struct client_count *clients, const struct endpoint *client);

/* Remove one. Call it once for each successful client_count_enter(). */
void client_count_leave(struct client_count *clients, const struct endpoint *client);

#endif
