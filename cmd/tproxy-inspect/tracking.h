/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracking - the connections of this host as they come and go.
 *
 * That one has ended the kernel tells at once (sockevents); that one has begun nobody tells, so that the list of
 * sockets is read again and again (pairing), as often as it takes no more than some percent of a processor. One
 * that was shorter than that is known by its end, and opens and closes in one. Knows sockets and pairs; what
 * becomes of it is its owner's business.
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
	struct sockdiag_socket socket; /* as it was when it was last seen */
	struct tracked *next;	       /* of the same bucket */
	uint32_t round;		       /* of the last list that had it */
	bool ended;
};

struct tracked {
	struct tracking_half half[2];
	enum pairing_by by;
	struct sockowner owner; /* pid 0: not known, or not asked for */
	uint64_t opened_us;	/* CLOCK_MONOTONIC; 0: not known */
	uint64_t seen_us;	/* when its bytes were counted */
	uint64_t bytes_up, bytes_down;
	double rate_up, rate_down; /* bytes a second */
	uint32_t first_round;
	bool old;      /* it was there when we came */
	bool selected; /* by the filter */
	bool told;     /* of its opening */
	struct tracked *before, *after;
};

enum tracking_event { TRACKING_OPEN, TRACKING_CLOSE, TRACKING_RESYNC };

/* Of a resynchronisation there is no connection: events were lost, and the lists will tell what has ended. */
typedef void tracking_listener(enum tracking_event event, const struct tracked *c, void *context);

/* filter is borrowed; with_owners: tell who holds them, too. The connections that are there are read. NULL with
 * *why. */
struct tracking;
struct tracking *tracking_new(const struct filter *filter, bool with_owners,
			      tracking_listener *listen, void *context, struct failure *why);
void tracking_free(struct tracking *t);

/* A descriptor to poll for reading, and in how many milliseconds tracking_turn() is due anyway. */
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

/* CLOCK_MONOTONIC in microseconds. */
uint64_t tracking_now_us(void);

#endif
