/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * way - bytes from one socket to another: copied while they are few, spliced when they are many.
 *
 * Knows two descriptors and what is under way between them, nothing of connections.
 */
#ifndef TPROXY_WAY_H
#define TPROXY_WAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "pipes.h"

/* What all ways of a thread share. */
struct way_tools {
	char *buffer; /* WAY_BUFFER bytes, for what is under way within one call */
	struct pipes pipes;
};

#define WAY_BUFFER 65536

struct way_held;

/* One direction. A zeroed one is fresh. Flags last, ended and shut are its owner's. */
struct way {
	union {
		struct way_held *held; /* what the receiver did not take, a copy */
		struct pipe *pipe;     /* the same, in a pipe (piped) */
	};
	uint64_t bytes : 56; /* that the receiver has taken */
	uint64_t piped : 1;
	uint64_t bulk : 1;  /* splice rather than copy */
	uint64_t large : 1; /* the last read filled the buffer */
	uint64_t small : 2; /* small splices in a row */
	uint64_t last : 1;  /* FIN is in the sender's queue: no more can come */
	uint64_t ended : 1; /* FIN was read */
	uint64_t shut : 1;  /* FIN was passed on */
};

enum way_result {
	WAY_ON,		 /* went well, there may be more */
	WAY_SHORT,	 /* went well, and the sender had no more at that moment */
	WAY_EMPTY,	 /* the sender had nothing */
	WAY_FULL,	 /* the receiver takes no more now: something is held */
	WAY_ENDED,	 /* FIN was read */
	WAY_FROM_FAILED, /* errno says how the sender failed */
	WAY_TO_FAILED,	 /* errno says how the receiver failed */
	WAY_NO_MEMORY,	 /* for what the receiver did not take */
};

/* Does data come in quantities? */
bool way_is_heavy(const struct way *w);

/* Is something held? Then nothing more may be read: memory is bounded. */
bool way_is_full(const struct way *w);

/* Send what is held. WAY_ON when nothing is left of it. more: data or FIN follows at once. */
enum way_result way_push(struct way *w, int to, struct way_tools *tools, bool more);

/*
 * Read once and send it on. Nothing must be held. last: what is there is all, and FIN follows it: a read
 * that does not fill the buffer is then WAY_ENDED without another that finds FIN.
 */
enum way_result way_pull(struct way *w, int from, int to, struct way_tools *tools, bool last);

/* Read once and hold it: there is no receiver yet. WAY_FULL, unless there was nothing. */
enum way_result way_take(struct way *w, int from, struct way_tools *tools);

/*
 * Put bytes of our own in front of what is held; they leave with it, and do not count. Nothing must
 * have been sent yet. WAY_FULL, or WAY_NO_MEMORY.
 */
enum way_result way_preface(struct way *w, const void *data, size_t length);

/* The way was idle for some time: what comes next is more likely to be small. */
void way_rest(struct way *w);

/* Forget what is held. */
void way_drop(struct way *w, struct way_tools *tools);

#endif
