/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_output - a record_stream in an event loop: written when its reader takes more, and waited
 * for at the end.
 *
 * Knows when to poll for the reader, and for how long what is left may wait for it. How the program
 * begins to end, and what it says of it, is its owner's business.
 */
#ifndef TPROXY_PROCESS_RECORD_OUTPUT_H
#define TPROXY_PROCESS_RECORD_OUTPUT_H

#include "base/record_stream.h"
#include "base/report.h"
#include "process/loop.h"
#include <stdbool.h>
#include <stdint.h>

struct record_output;

/* What its owner does; each may be NULL. */
struct record_output_ops {
	/* Records cannot be written although there is a reader: once until they could be. */
	void (*trouble)(const struct failure *why);
	/* There is no reader any more. Once. */
	void (*gone)(struct record_output *o);
	/* Whoever waited for room, or for the end of what waited, can go on. */
	void (*ready)(struct record_output *o);
	/* At the end so many records wait for their reader, and will for at most ms
	 * milliseconds. Once. */
	void (*waiting)(uint64_t records, uint64_t ms);
};

/* Embed it; all of it belongs to record_output, but that ops and stream may be read. */
struct record_output {
	const struct record_output_ops *ops;
	struct record_stream *stream; /* NULL: nothing is written, nothing is waited for */
	struct loop *loop;
	struct loop_source source;
	struct loop_timer timer;
	uint64_t deadline; /* loop_now() when the wait at the end is over; 0: it has not begun */
	uint64_t written;  /* bytes, when the timer was armed */
	bool watches_reader, told, hurries;
	_Atomic bool gone, over;
};

/*
 * loop and stream are borrowed. watch_reader: learn of the reader's end also while nothing is
 * written (what never ends, as a regular file, is not watched).
 */
void record_output_init(struct record_output *o, const struct record_output_ops *ops,
			struct loop *loop, struct record_stream *stream, bool watch_reader);

/* Write what the reader takes now, and poll for it if something is left. In the loop's thread. */
void record_output_flush(struct record_output *o);

/*
 * The end has begun: what is left may wait for so many milliseconds from now; a later call changes
 * nothing. In a hurry it does so only while its reader takes something at least every two seconds;
 * whoever calls that again waits no longer at all. In the loop's thread.
 */
void record_output_end(struct record_output *o, uint64_t ms);
void record_output_hurry(struct record_output *o);

/* Should an event that is not urgent, and makes a record, wait for room? Never once the wait at
 * the end is over. From any thread. */
bool record_output_is_congested(struct record_output *o);

/* Nothing is left that is worth to wait for. In the loop's thread. */
bool record_output_is_done(struct record_output *o);

#endif
