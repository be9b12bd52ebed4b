/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pump - moves bytes from one socket to another: copies small amounts, splices large ones.
 *
 * Knows two descriptors and the bytes in transit between them, nothing of connections.
 */
#ifndef TPROXY_RELAY_PUMP_H
#define TPROXY_RELAY_PUMP_H

#include "tproxy-relay/pipes.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Shared by all pumps of a thread. */
struct pump_tools {
	char *buffer; /* PUMP_BUFFER bytes, for bytes in transit within one call */
	struct pipes pipes;
};

#define PUMP_BUFFER 65536

struct pump_held;

/* One direction. Zeroed, it is new. The flags last, ended and shut belong to its owner. */
struct pump {
	union {
		struct pump_held *held; /* a copy of what the receiver did not take */
		struct pipe *pipe;	/* the same, in a pipe (piped) */
	};
	uint64_t bytes : 51; /* taken by the receiver */
	uint64_t piped : 1;
	uint64_t bulk : 1;   /* splice rather than copy */
	uint64_t copies : 1; /* splice() has refused: copy, even in bulk */
	uint64_t large : 1;  /* the last read filled the buffer */
	uint64_t narrow : 1; /* the sender's window is held */
	uint64_t widen : 3;  /* until this many RUNs of bytes are taken, modulo 8 */
	uint64_t small : 2;  /* small splices in a row */
	uint64_t last : 1;   /* FIN is in the sender's queue: no more can come */
	uint64_t ended : 1;  /* FIN was read */
	uint64_t shut : 1;   /* FIN was passed on */
};

enum pump_result {
	PUMP_ON,	  /* success, there may be more */
	PUMP_SHORT,	  /* success, and the sender had no more at that moment */
	PUMP_EMPTY,	  /* the sender had nothing */
	PUMP_FULL,	  /* the receiver takes no more now: something is held */
	PUMP_ENDED,	  /* FIN was read */
	PUMP_FROM_FAILED, /* errno says how the sender failed */
	PUMP_TO_FAILED,	  /* errno says how the receiver failed */
	PUMP_NO_MEMORY,	  /* for what the receiver did not take */
};

/* Does data come in bulk? */
bool pump_is_heavy(const struct pump *w);

/* Is something held? Then nothing more may be read: memory is bounded. */
bool pump_is_full(const struct pump *w);

/* Send what is held. PUMP_ON if nothing is left. more: data or FIN follows at once. */
enum pump_result pump_push(struct pump *w, int to, struct pump_tools *tools, bool more);

/*
 * Read once and send it on. Nothing must be held. last: the sender has queued all its data and FIN:
 * a read that does not fill the buffer then returns PUMP_ENDED without another read to find FIN.
 * The sender has SO_OOBINLINE: only a recv() returns PUMP_ENDED, never a splice(), which also stops
 * at urgent data.
 */
enum pump_result pump_pull(struct pump *w, int from, int to, struct pump_tools *tools, bool last);

/* Read once and hold the bytes: there is no receiver yet. PUMP_FULL, unless there was nothing. */
enum pump_result pump_take(struct pump *w, int from, struct pump_tools *tools);

/*
 * Put bytes of our own in front of what is held; they are sent with it and not counted. Nothing
 * must have been sent yet. PUMP_FULL, or PUMP_NO_MEMORY.
 */
enum pump_result pump_preface(struct pump *w, const void *data, size_t length);

/* The pump was idle for some time: the next data is more likely to be small. */
void pump_rest(struct pump *w);

/* Drop what is held. */
void pump_drop(struct pump *w, struct pump_tools *tools);

#endif
