/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * worker - one thread of a relay: its listeners, its loop, its flows.
 *
 * Accepts connections, has the policy judge them, starts a flow for each, writes its records and
 * counts it. Stops accepting at a limit, and ends in an orderly way.
 */
#ifndef TPROXY_RELAY_WORKER_H
#define TPROXY_RELAY_WORKER_H

#include "base/report.h"
#include "tproxy-relay/relay.h"

/* Set up one of relay->workers, which is zeroed. 0, or -1 with *why; call worker_free() in any
 * case. */
int worker_init(struct worker *w, struct relay *relay, struct failure *why);
void worker_free(struct worker *w);

/* Watch its listeners, which the caller has filled in. 0, or -1 with *why. */
int worker_start(struct worker *w, struct failure *why);

/* Serve in this thread until the relay has ended; w->result and w->why say how it ended. */
void worker_serve(struct worker *w);

/* The worker has nothing left to do. It stays, for visits and signals, until that holds for all
 * workers. */
void worker_be_over(struct worker *w);

#endif
