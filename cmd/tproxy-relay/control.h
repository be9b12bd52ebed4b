/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control - the sockets on which a running relay is asked.
 *
 * Each relay listens on the abstract Unix stream socket `@tproxy-relay/PID` of its network
 * namespace: the name has exactly those bytes, PID is the relay's own notion of it, and where
 * somebody has that name already (another relay in the same network namespace, of another pid
 * namespace) it is `@tproxy-relay/PID.2`, up to `.9`. Root, who started it and who it has become
 * are answered there (SO_PEERCRED), and nobody else. --control PATH adds a socket in the file
 * system, of mode 0600: who may open it is answered.
 *
 * The protocol. A client sends a command of at most 127 bytes and a newline, and may send the next
 * one behind it. The answer to each is NDJSON, of records as tproxy-tools(7) describes them:
 *
 *	{"v":1,"type":"relay","pid":N,"prog":"tproxy-relay","state":S,"version":"0.1.0"}
 *	...
 *	{"v":1,"type":"end","count":N}
 *
 * `v` is the schema of the records and of this protocol: a client that does not know it stops
 * reading. `state` is `serving`, `draining` or `ending`. `count` is the number of records between
 * the two:
 *
 * connections:
 *   a record of type `connection` each: id, proto, client, origdst, origdst_by, listener, cookie
 *   and upstream_cookie (SO_COOKIE of both sockets), state, upstream_local, upstream, source_kept,
 *   bytes_up, bytes_down, duration_ms (its age), idle_ms (since the last byte, known to 250 ms); of
 *   UDP flows packets_up and packets_down as well, and no cookie of those that have no socket of
 *   their own towards the client; of connections whose PROXY header is awaited (state
 *   `proxy-header`) what is known so far. Those that begin or end meanwhile may be missing.
 * counters:
 *   a record of type `counter` for each: check (its name), count.
 * drain:
 *   begins to drain, as SIGTERM does; when it drains already it does nothing more. One counter:
 *   connections (that are left).
 *
 * policy CLIENT DESTINATION:
 *   a record of type `policy`: would a connection with these two ends, taken by tproxy, be carried?
 *   client, origdst, upstream (where to), upstream_local (as whom; absent: as this host), and if it
 *   would not, reason and evidence (the option that denies it). Nothing is opened.
 *
 * What cannot be answered gets a record of type `error` with evidence, and `end` with count 0. The
 * relay closes when the client has shut down its side and has got its answers; when the client
 * sends nothing, or takes nothing, for CONTROL_IDLE_MS; and when it has more than
 * CONTROL_CLIENTS_MAX clients, of which the one goes that was idle the longest.
 */
#ifndef TPROXY_RELAY_CONTROL_H
#define TPROXY_RELAY_CONTROL_H

#include <stdbool.h>

#define CONTROL_IDLE_MS	    10000
#define CONTROL_CLIENTS_MAX 64

struct control;
struct failure;
struct privilege_user;
struct relay;

/* Served by worker 0 of the relay, which is borrowed and must outlive it. NULL with *why: no
 * memory. */
struct control *control_new(struct relay *relay, struct failure *why);

/* Listen at the abstract name. 0, or -1 with *why: the relay cannot be asked, and works without. */
int control_listen(struct control *control, struct failure *why);

/*
 * Listen at a path, too. A socket that nobody serves any more is replaced; one that is served is an
 * error, unless takeover: then it is replaced for new clients at once. It is removed at the end by
 * rights of `user`, who the relay will be, if those will do. To be called while there is one thread
 * and before privileges are dropped. 0, or -1 with *why.
 */
int control_add_path(struct control *control, const char *path, bool takeover,
		     const struct privilege_user *user, struct failure *why);

/* The relay has become somebody else, who may ask it as well. To be called before
 * sandbox_enter(). */
void control_set_user(struct control *control);

/* Close it, and have the path removed if it is still ours. NULL is fine. To be called after
 * workers_free(). */
void control_free(struct control *control);

#endif
