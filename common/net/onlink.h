/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * onlink - is a host a neighbour on an interface, and which command routes it there?
 */
#ifndef TPROXY_NET_ONLINK_H
#define TPROXY_NET_ONLINK_H

#include "base/endpoint.h"
#include <stdbool.h>
#include <stddef.h>

/* Is the address in the network of one of the interface's addresses? */
bool onlink_has(const struct endpoint *host, const char *device);

/* `ip route replace HOST dev DEVICE`. Written whole into fix or not at all. */
void onlink_command(const struct endpoint *host, const char *device, char *fix, size_t size);

#endif
