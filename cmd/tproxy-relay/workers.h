/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * workers - the threads of a relay, from their start to their end.
 */
#ifndef TPROXY_RELAY_WORKERS_H
#define TPROXY_RELAY_WORKERS_H

#include "base/report.h"
#include "tproxy-relay/relay.h"

/*
 * Set up that many workers, each with a loop but without listeners: the caller fills in
 * relay->workers[i].listeners. 0, or -1 with *why. Call workers_free() in any case.
 */
int workers_init(struct relay *relay, unsigned workers, struct failure *why);
void workers_free(struct relay *relay);

/*
 * Serve until the relay has ended: worker 0 in this thread, the others in threads of their own. The
 * signals that the program handles must be blocked before. 0, or -1 with *why.
 */
int workers_run(struct relay *relay, struct failure *why);

#endif
