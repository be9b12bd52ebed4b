/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pairing - joins the two halves of relayed connections.
 *
 * Our relays report which sockets belong together (relays.h); for other proxies it is guessed, from
 * the client's endpoint in their upstream leg: with both endpoints reversed (HAProxy's `usesrc
 * client` and tproxy-relay without --upstream), the client's address and port alone (with an
 * upstream of its own), or its address and the destination, if that is unambiguous (`usesrc
 * clientip`, nginx's `proxy_bind $remote_addr transparent`). Guesses consider only transparent TCP
 * sockets of one user: the two ends of a connection within this host look reversed, too, but the
 * opening program's socket is not transparent.
 *
 * UDP flows are those that our relays report, and only those: no socket has both ends of a short
 * one.
 */
#ifndef TPROXY_INSPECT_PAIRING_H
#define TPROXY_INSPECT_PAIRING_H

#include "base/report.h"
#include "net/sockdiag.h"
#include <stdbool.h>
#include <stdint.h>

enum pairing_by { PAIRING_ALONE, PAIRING_GUESSED, PAIRING_RELAY };

struct relays;
struct relays_pair;

/* One relayed connection. One half may be missing. */
struct pairing_pair {
	const struct sockdiag_socket *client, *upstream;
	/* What the relay tells of a UDP flow, or of an upstream half in another network namespace;
	 * NULL: neither. */
	const struct relays_pair *told;
	enum pairing_by by;
	uint64_t age_us; /* as reported by the relay; 0: unknown */
};

/* What to read besides live transparent sockets. */
struct pairing_options {
	bool tcp, udp;
	bool all;	 /* others, too, each alone */
	bool ask_relays; /* else everything is guessed */
	/* What is known of them, for who asks repeatedly; borrowed. NULL: nothing. */
	struct relays *relays;
	/* Ask them only if this returns non-zero for some socket; NULL: always. */
	sockdiag_visitor *is_new;
	void *context;
	/* Sockets that have closed already, and could be halves. Their user is unknown, and not
	 * checked. */
	const struct sockdiag_socket *ended;
	size_t ended_count;
};

/* Read all sockets that could be halves, and join them. NULL with *why. */
struct pairing;
struct pairing *pairing_read(const struct pairing_options *options, struct failure *why);
void pairing_free(struct pairing *p);

/* Why some relay could not be asked, so that its connections are guessed, and its flows missing;
 * NULL: all were asked, or it was said before (relays.h). */
const struct failure *pairing_unasked(const struct pairing *p);

/* Say so, if that is so. */
void pairing_tell_unasked(const struct pairing *p);

/* Say how many flows other users' relays tell of which no socket is known, if any; are there? */
bool pairing_tell_unproven(const struct pairing *p);

/* What the relay tells of a UDP flow; NULL: the pair is not one. A flow has two halves here, too, but
 * with one cookie, its key (relays.h), and without an inode where it has no socket of its own. */
const struct relays_pair *pairing_flow(const struct pairing_pair *pair);

/* The sockets of the pair in this network namespace, as the kernel knows them. Returns how many. */
unsigned pairing_sockets(const struct pairing_pair *pair, struct sockdiag_socket out[2]);

/* Called for each pair and each half without one; a return other than 0 ends the visits and is
 * returned. */
typedef int pairing_visitor(const struct pairing_pair *pair, void *context);
int pairing_each(const struct pairing *p, pairing_visitor *visit, void *context);

/* The other half of that socket's connection, or NULL. */
const struct sockdiag_socket *pairing_other(const struct pairing *p,
					    const struct sockdiag_socket *s);

/*
 * What holds the connection up: data that waits, with no progress for some seconds, and for whom;
 * or an end that was not passed on. NULL: nothing. A closed list: `client-silent`, `server-silent`
 * (do not acknowledge), `client-full`, `server-full` (do not read), `proxy` (does not read), `end`
 * (one side has ended and the proxy does not end the other). A UDP flow never is: nobody knows what
 * it waits for.
 */
const char *pairing_stuck(const struct pairing_pair *pair);

#endif
