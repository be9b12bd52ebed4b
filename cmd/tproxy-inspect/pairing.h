/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pairing - the two halves of relayed connections, joined.
 *
 * A relay of ours tells which socket belongs to which (relays.h); of other proxies it is guessed, by the
 * client's endpoint that their upstream leg carries: with both endpoints reversed (HAProxy's `usesrc client`
 * and tproxy-relay without --upstream), the client's address and port alone (with an upstream of its own), or
 * its address and the destination, where that leaves no choice (`usesrc clientip`, nginx's
 * `proxy_bind $remote_addr transparent`). Guesses are made among transparent TCP sockets of one user: the two
 * ends of a connection within this host look reversed, too, but that of the program that opened it is not
 * transparent.
 */
#ifndef TPROXY_INSPECT_PAIRING_H
#define TPROXY_INSPECT_PAIRING_H

#include "base/report.h"
#include "net/sockdiag.h"
#include <stdbool.h>
#include <stdint.h>

enum pairing_by { PAIRING_ALONE, PAIRING_GUESSED, PAIRING_RELAY };

/* One relayed connection. One half may be missing. */
struct pairing_pair {
	const struct sockdiag_socket *client, *upstream;
	enum pairing_by by;
};

/* Read all sockets that could be halves, and join them. NULL with *why. */
struct pairing;
struct pairing *pairing_read(struct failure *why);
void pairing_free(struct pairing *p);

/* Called for each pair and each half without one; a return other than 0 ends the visits and is returned. */
typedef int pairing_visitor(const struct pairing_pair *pair, void *context);
int pairing_each(const struct pairing *p, pairing_visitor *visit, void *context);

/* The other half of that socket's connection, or NULL. */
const struct sockdiag_socket *pairing_other(const struct pairing *p,
					    const struct sockdiag_socket *s);

/*
 * What holds the connection up: data that waits though nothing moved for some seconds, and whom for; or an end
 * that was not passed on. NULL: nothing does. A closed list: `client-silent`, `server-silent` (do not
 * acknowledge), `client-full`, `server-full` (do not read), `proxy` (does not read), `end` (one side has
 * ended and the proxy does not end the other).
 */
const char *pairing_stuck(const struct pairing_pair *pair);

#endif
