/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server - answers HTTP requests for /metrics and /healthz from the last snapshot.
 *
 * A snapshot serves all requests for SERVER_FRESH_MS. A later request waits, without a thread of
 * its own, for the next one. Who is slow costs a descriptor for SERVER_LIFE_MS, and no more than
 * SERVER_CLIENT_MAX of them for one address.
 */
#ifndef TPROXY_INSPECT_EXPORT_SERVER_H
#define TPROXY_INSPECT_EXPORT_SERVER_H

#include "base/report.h"
#include "socket/listeners.h"
#include "tproxy-inspect/export/snapshot.h"
#include <stdbool.h>

#define SERVER_FRESH_MS	   1000
#define SERVER_LIFE_MS	   10000
#define SERVER_CONNECTIONS 256 /* for each listener */
#define SERVER_CLIENT_MAX  32
#define SERVER_MEMORY	   8192 /* for a request's line and headers; more is answered by 431 */

struct server;

/*
 * Start to serve these listeners, which are taken over, with threads of its own. wanted() is called
 * in one of those threads when a request waits for a snapshot. NULL with *why.
 */
struct server *server_new(struct listeners *listeners, void (*wanted)(void *context), void *context,
			  struct failure *why);

/* Does a request wait for a snapshot? */
bool server_waits(struct server *s);

/* Take over the snapshot and answer those who wait. */
void server_publish(struct server *s, struct snapshot *snapshot);

/* End connections that are older than SERVER_LIFE_MS. To be called once a second. */
void server_expire(struct server *s);

/* Whoever waits is told that the service ends. NULL is fine. */
void server_free(struct server *s);

#endif
