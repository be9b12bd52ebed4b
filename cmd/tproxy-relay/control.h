/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control - a socket on which scripts and tproxy-inspect ask a running relay.
 *
 * A Unix stream socket of mode 0600. A client sends commands, one a line; each is answered by records
 * as NDJSON and a last one of type `end` with their count. Commands: `connections`, `counters`,
 * `drain`. What cannot be answered gets a record of type `error`.
 */
#ifndef TPROXY_RELAY_CONTROL_H
#define TPROXY_RELAY_CONTROL_H

#include "base/report.h"
#include "process/privilege.h"
#include "tproxy-relay/worker.h"

struct control;

/*
 * Listen at the path, served by worker 0. A socket that nobody serves any more is replaced; one that
 * is served is an error, unless takeover: then it is replaced for new clients at once. It is removed at the
 * end by rights of `user`, who the relay will be, if those will do. To be called while there is one thread and
 * before privileges are dropped. Returns NULL with *why. relay is borrowed and must outlive it.
 */
struct control *control_new(struct relay *relay, const char *path, bool takeover,
			    const struct privilege_user *user, struct failure *why);

/* Close it, and have the path removed if it is still ours. NULL is fine. To be called after relay_free(). */
void control_free(struct control *control);

#endif
