/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * observe - waits for the real packets of a connection, and follows them for some time.
 *
 * Takes the first packet that matches, and from then on only its connection. Ends after the time,
 * or with SIGINT or SIGTERM; the rules that trace are gone afterwards.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_OBSERVE_H
#define TPROXY_INSPECT_EXPLAIN_OBSERVE_H

#include "tproxy-inspect/explain/drop_reasons.h"
#include "tproxy-inspect/explain/kernel_counters.h"
#include "tproxy-inspect/explain/packet_fates.h"

struct observation {
	struct packet_fates fates; /* its tuple is the question's, and then the first packet's */
	bool exact; /* the question was this one connection: nothing was missed at the beginning */
	bool came;  /* a packet of the client's, */
	bool opens; /* and the first one opens the connection (UDP: any) */
	unsigned iif;			   /* where the first one came in; 0: this host sent it */
	uint64_t ms;			   /* how long it was watched */
	bool interrupted, missed;	   /* by a signal; reports were lost */
	struct packet_trace_counts counts; /* of this connection */
	bool counted;
	struct kernel_counters before, after;
	struct drop_reasons *reasons; /* NULL: may not be seen; the caller closes it */
};

/*
 * Watch for `ms` milliseconds. Set fates.tuple (and fates.own, if exact); the rest is filled in.
 * When the first packet has come and the question was not exact, `meet` is called: it sets
 * fates.own, and returns 0, or -1 with *why to end. 0, or -1 with *why.
 */
typedef int observe_meet(struct observation *o, void *context, struct failure *why);
int observe_packets(struct observation *o, uint64_t ms, observe_meet *meet, void *context,
		    struct failure *why);

/* `TCP 192.0.2.2:any -> 198.51.100.2:80`. Returns buf. */
#define OBSERVE_TUPLE_MAX (2 * ENDPOINT_TEXT_MAX + 32)
const char *observe_format(const struct packet_trace_tuple *tuple, char buf[OBSERVE_TUPLE_MAX]);

#endif
