/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracking - the connections of this host as they come and go.
 *
 * The kernel reports the end of a connection at once (sockevents), but not its start, so the list
 * of sockets is read repeatedly (pairing), as often as a few percent of a processor allow. A
 * connection shorter than this interval is known from its end only, and opens and closes at the
 * same time. UDP flows are what our relays list, as often: one ends when it is no longer listed.
 * Knows sockets and pairs; its owner decides what to do with them.
 */
#ifndef TPROXY_INSPECT_TRACKING_H
#define TPROXY_INSPECT_TRACKING_H

#include "base/report.h"
#include "net/sockowner.h"
#include "tproxy-inspect/filter.h"
#include "tproxy-inspect/pairing.h"
#include <stdbool.h>
#include <stdint.h>

enum tracking_side { TRACKING_CLIENT, TRACKING_UPSTREAM };

/* One end of a connection on this host; cookie 0: there is none. */
struct tracking_half {
	struct sockdiag_socket socket; /* as last seen */
	struct tracked *next;	       /* in the same bucket */
	uint32_t round;		       /* the last list that had it */
	bool ended;
};

struct tracked {
	struct tracking_half half[2];
	struct relays_pair *flow; /* of a UDP flow, as last told; else NULL */
	enum pairing_by by;
	struct sockowner owner; /* pid 0: not known, or not asked for */
	uint64_t opened_us;	/* CLOCK_MONOTONIC; 0: not known */
	uint64_t seen_us;	/* when its bytes were counted */
	uint64_t bytes_up, bytes_down;
	double rate_up, rate_down; /* bytes a second */
	uint32_t first_round;
	bool old;      /* it existed when we started */
	bool selected; /* by the filter */
	bool told;     /* its opening was reported */
	struct tracked *before, *after;
};

enum tracking_event { TRACKING_OPEN, TRACKING_CLOSE, TRACKING_RESYNC };

/* A resynchronisation has no connection: events were lost, and the lists will show what has
 * ended. */
typedef void tracking_listener(enum tracking_event event, const struct tracked *c, void *context);

/* filter is borrowed; with_owners: also find the holders. Reads the existing connections. NULL with
 * *why. */
struct tracking;
struct tracking *tracking_new(const struct filter *filter, bool with_owners,
			      tracking_listener *listen, void *context, struct failure *why);
void tracking_free(struct tracking *t);

/* A descriptor to poll for reading, and the milliseconds after which tracking_turn() is due
 * anyway. */
int tracking_fd(const struct tracking *t);
int tracking_wait_ms(const struct tracking *t);

/* Do what is due. 0, or -1 with *why. */
int tracking_turn(struct tracking *t, struct failure *why);

/* The selected connections that are open; a return other than 0 ends the visits. And how many they
 * are. */
typedef int tracking_visitor(const struct tracked *c, void *context);
int tracking_each(const struct tracking *t, tracking_visitor *visit, void *context);
unsigned long tracking_count(const struct tracking *t);

/* Its halves, for whoever knows pairs. */
struct pairing_pair tracking_pair(const struct tracked *c);

#endif
