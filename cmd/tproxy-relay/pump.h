/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pump - bytes from one socket to another: copied while they are few, spliced when they are many.
 *
 * Knows two descriptors and what is under way between them, nothing of connections.
 */
#ifndef TPROXY_RELAY_PUMP_H
#define TPROXY_RELAY_PUMP_H

#include "tproxy-relay/pipes.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What all ways of a thread share. */
struct pump_tools {
	char *buffer; /* PUMP_BUFFER bytes, for what is under way within one call */
	struct pipes pipes;
};

#define PUMP_BUFFER 65536

struct pump_held;

/* One direction. A zeroed one is fresh. Flags last, ended and shut are its owner's. */
struct pump {
	union {
		struct pump_held *held; /* what the receiver did not take, a copy */
		struct pipe *pipe;	/* the same, in a pipe (piped) */
	};
	uint64_t bytes : 51; /* that the receiver has taken */
	uint64_t piped : 1;
	uint64_t bulk : 1;   /* splice rather than copy */
	uint64_t copies : 1; /* splice() has refused: copy, also in bulk */
	uint64_t large : 1;  /* the last read filled the buffer */
	uint64_t narrow : 1; /* the sender's window is held */
	uint64_t widen : 3;  /* until so many RUNs of bytes were taken, modulo 8 */
	uint64_t small : 2;  /* small splices in a row */
	uint64_t last : 1;   /* FIN is in the sender's queue: no more can come */
	uint64_t ended : 1;  /* FIN was read */
	uint64_t shut : 1;   /* FIN was passed on */
};

enum pump_result {
	PUMP_ON,	  /* went well, there may be more */
	PUMP_SHORT,	  /* went well, and the sender had no more at that moment */
	PUMP_EMPTY,	  /* the sender had nothing */
	PUMP_FULL,	  /* the receiver takes no more now: something is held */
	PUMP_ENDED,	  /* FIN was read */
	PUMP_FROM_FAILED, /* errno says how the sender failed */
	PUMP_TO_FAILED,	  /* errno says how the receiver failed */
	PUMP_NO_MEMORY,	  /* for what the receiver did not take */
};

/* Does data come in quantities? */
bool pump_is_heavy(const struct pump *w);

/* Is something held? Then nothing more may be read: memory is bounded. */
bool pump_is_full(const struct pump *w);

/* Send what is held. PUMP_ON when nothing is left of it. more: data or FIN follows at once. */
enum pump_result pump_push(struct pump *w, int to, struct pump_tools *tools, bool more);

/*
 * Read once and send it on. Nothing must be held. last: what is there is all, and FIN follows it: a
 * read that does not fill the buffer is then PUMP_ENDED without another that finds FIN. The sender
 * has SO_OOBINLINE: PUMP_ENDED is what a recv() has found, never a splice(), which also stops at
 * urgent data.
 */
enum pump_result pump_pull(struct pump *w, int from, int to, struct pump_tools *tools, bool last);

/* Read once and hold it: there is no receiver yet. PUMP_FULL, unless there was nothing. */
enum pump_result pump_take(struct pump *w, int from, struct pump_tools *tools);

/*
 * Put bytes of our own in front of what is held; they leave with it, and do not count. Nothing must
 * have been sent yet. PUMP_FULL, or PUMP_NO_MEMORY.
 */
enum pump_result pump_preface(struct pump *w, const void *data, size_t length);

/* The pump was idle for some time: what comes next is more likely to be small. */
void pump_rest(struct pump *w);

/* Forget what is held. */
void pump_drop(struct pump *w, struct pump_tools *tools);

#endif
