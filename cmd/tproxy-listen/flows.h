/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flows - admits or refuses UDP flows, and serves those without a command.
 */
#ifndef TPROXY_LISTEN_FLOWS_H
#define TPROXY_LISTEN_FLOWS_H

#include "base/report.h"
#include "process/loop.h"
#include "tproxy-listen/service.h"
#include <stdbool.h>

/* Set up the tables, which UDP listeners need. 0, or -1 with *why. flows_take is the listeners'
 * handler. */
int flows_init(struct service *s, struct failure *why);
void flows_free(struct service *s);
loop_handler flows_take;

/* Do flows get answers, so that each needs a socket of its own? */
bool flows_need_sockets(const struct service *s);

#endif
