/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flows - lets UDP flows in, or refuses them, and serves those that no command does.
 */
#ifndef TPROXY_LISTEN_FLOWS_H
#define TPROXY_LISTEN_FLOWS_H

#include "base/report.h"
#include "process/loop.h"
#include "tproxy-listen/service.h"
#include <stdbool.h>

/* The tables, needed with UDP listeners; and their handler. 0, or -1 with *why. */
int flows_init(struct service *s, struct failure *why);
void flows_free(struct service *s);
loop_handler flows_take;

/* Are flows answered, so that each needs a socket of its own? */
bool flows_need_sockets(const struct service *s);

#endif
