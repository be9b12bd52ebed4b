/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_output - a record_stream in an event loop: writes when the reader takes more, and waits
 * for the reader at the end.
 *
 * Knows when to poll for the reader, and how long remaining records may wait for it. The owner
 * decides how the program begins to end, and what it reports.
 */
#ifndef TPROXY_PROCESS_RECORD_OUTPUT_H
#define TPROXY_PROCESS_RECORD_OUTPUT_H

#include "base/record_stream.h"
#include "base/report.h"
#include "process/loop.h"
#include <stdbool.h>
#include <stdint.h>

struct record_output;

/* Callbacks of the owner; each may be NULL. */
struct record_output_ops {
	/* Records cannot be written although there is a reader: once until writing works again. */
	void (*trouble)(const struct failure *why);
	/* The reader is gone. Once. */
	void (*gone)(struct record_output *o);
	/* Whoever waited for room, or until all waiting records were written, can go on. */
	void (*ready)(struct record_output *o);
	/* At the end, this many records wait for their reader, for at most ms milliseconds.
	 * Once. */
	void (*waiting)(uint64_t records, uint64_t ms);
};

/* Embed it; everything in it belongs to record_output, except that the owner may read ops and
 * stream. */
struct record_output {
	const struct record_output_ops *ops;
	struct record_stream *stream; /* NULL: nothing is written or waited for */
	struct loop *loop;
	struct loop_source source;
	struct loop_timer timer;
	uint64_t deadline; /* loop_now() at the end of the final wait; 0: it has not begun */
	uint64_t written;  /* bytes, when the timer was armed */
	bool watches_reader, told, hurries;
	_Atomic bool gone, over;
};

/*
 * loop and stream are borrowed. watch_reader: notice the reader's end even while nothing is written
 * (readers that never go away, such as a regular file, are not watched).
 */
void record_output_init(struct record_output *o, const struct record_output_ops *ops,
			struct loop *loop, struct record_stream *stream, bool watch_reader);

/* Write what the reader takes now, and poll for it if something is left. Call it in the loop's
 * thread. */
void record_output_flush(struct record_output *o);

/*
 * Begin the final wait: the remaining records may wait this many milliseconds from now; a later
 * call changes nothing. In a hurry they wait only while the reader takes something at least every
 * two seconds; a second call of record_output_hurry() ends the wait. In the loop's thread.
 */
void record_output_end(struct record_output *o, uint64_t ms);
void record_output_hurry(struct record_output *o);

/* Should an event that is not urgent, and creates a record, wait for room? Never after the final
 * wait. From any thread. */
bool record_output_is_congested(struct record_output *o);

/* Nothing is left that is worth waiting for. Call it in the loop's thread. */
bool record_output_is_done(struct record_output *o);

#endif
