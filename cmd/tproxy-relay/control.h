/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control - the control sockets of a running relay.
 *
 * Each relay listens on the abstract Unix stream socket `@tproxy-relay/PID` of its network
 * namespace: the name has exactly those bytes, and PID is the relay's pid in its own pid namespace.
 * If the name is taken (by another relay in the same network namespace, from another pid namespace)
 * the relay uses `@tproxy-relay/PID.2`, up to `.9`. It answers only root, the user who started it
 * and the user it runs as (SO_PEERCRED). --control PATH adds a socket in the file system, of mode
 * 0600: it answers whoever may open it.
 *
 * The protocol. A client sends a command of at most 127 bytes and a newline, and may send the next
 * one without waiting. Each answer is NDJSON, with records as tproxy-tools(7) describes them:
 *
 *	{"v":1,"type":"relay","pid":N,"prog":"tproxy-relay","state":S,"version":"0.1.0"}
 *	...
 *	{"v":1,"type":"end","count":N}
 *
 * `v` is the schema version of the records and of this protocol: a client that does not know it
 * stops reading. `state` is `serving`, `lame-duck`, `draining` or `ending`. `count` is the
 * number of records between the two:
 *
 * connections:
 *   one record of type `connection` for each connection: id, proto, client, origdst, origdst_by,
 *   listener, cookie and upstream_cookie (SO_COOKIE of both sockets), state, upstream_local,
 *   upstream, source_kept, bytes_up, bytes_down, duration_ms (its age), idle_ms (since the last
 *   byte, known to 250 ms); for UDP flows also packets_up and packets_down, and no cookie for a
 *   flow without a socket of its own towards the client; for connections whose PROXY header is
 *   awaited (state `proxy-header`) what is known so far. Connections that begin or end meanwhile
 *   may be missing.
 * counters:
 *   one record of type `counter` for each counter: check (its name), count.
 * drain:
 *   begins to drain, as SIGTERM does; does nothing if it drains already. One counter: connections
 *   (still open).
 * lame-duck:
 *   begins the time of --lame-duck, and answers as drain does; an error without that option.
 *
 * policy CLIENT DESTINATION:
 *   a record of type `policy`: would a connection with these two ends, taken by tproxy, be carried?
 *   client, origdst, upstream (where to), upstream_local (as whom; absent: as this host), and if it
 *   would not, reason and evidence (the option that denies it). Nothing is opened.
 *
 * A command that cannot be answered gets a record of type `error` with evidence, and `end` with
 * count 0. The relay closes the connection when the client has shut down its side and has got its
 * answers, and when the client sends nothing, or reads nothing, for CONTROL_IDLE_MS. When there are
 * more than CONTROL_CLIENTS_MAX clients, it closes the one that was idle the longest.
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

/* Worker 0 serves it. The relay is borrowed and must outlive it. NULL with *why: no memory. */
struct control *control_new(struct relay *relay, struct failure *why);

/* Listen on the abstract name. 0, or -1 with *why: the relay works, but cannot be asked. */
int control_listen(struct control *control, struct failure *why);

/*
 * Listen on a path, too. A socket that nobody serves any more is replaced; one that is served is an
 * error, unless `takeover` is set: then it is replaced, for new clients at once. At the end it is
 * removed with the rights of `user`, the user the relay will run as, if they suffice. Call this
 * while there is one thread and before privileges are dropped. 0, or -1 with *why.
 */
int control_add_path(struct control *control, const char *path, bool takeover,
		     const struct privilege_user *user, struct failure *why);

/* The relay now runs as another user, who may ask it, too. Call this before sandbox_enter(). */
void control_set_user(struct control *control);

/* Close it, and have the path removed if it is still ours. NULL is fine. Call this after
 * workers_free(). */
void control_free(struct control *control);

#endif
