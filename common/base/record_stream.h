/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_stream - records written by a service, which they never block and never stop.
 *
 * Records wait in a bounded queue until the descriptor takes them. One that does not fit is lost
 * only after the descriptor has been tried once more. Losses are counted by cause, and a JSON
 * stream says so in a `lost` record as soon as there is room. The descriptor's flags are left
 * alone.
 *
 * Knows the descriptor and the queue; what a record looks like is record's business, and how long
 * to wait for a reader at the end is its owner's. Safe to share between threads (one lock, held for
 * a copy, or for writes that do not wait). SIGPIPE must be ignored by the program.
 */
#ifndef TPROXY_BASE_RECORD_STREAM_H
#define TPROXY_BASE_RECORD_STREAM_H

#include "base/record.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* So many bytes of records wait at most; memory is taken as they come. */
#define RECORD_STREAM_MAX (4 * 1024 * 1024)

struct record_stream;

/* fd is borrowed. Returns NULL with *why on lack of memory. */
struct record_stream *record_stream_new(int fd, bool json, const struct record_columns *columns,
					struct failure *why);

/*
 * If fd is a terminal and the records are text, lay them out for it: with a header line if that is
 * wanted, and these columns instead, unless NULL, in which the usual things are left out (see
 * record_lines.h).
 */
void record_stream_fit(struct record_stream *s, const struct record_columns *brief, bool header);

void record_stream_put(struct record_stream *s, const struct record *r);

/* Write what the descriptor takes now. Returns true while the stream needs attention: something
 * is left that a reader has yet to take (poll record_stream_fd() for POLLOUT and call again), or
 * there is trouble that nobody has asked for. A vanished reader (EPIPE) empties the queue. */
bool record_stream_flush(struct record_stream *s);
int record_stream_fd(const struct record_stream *s);

/* Half of the queue is in use, also after what can be written now has been, and a reader may
 * make room: whoever can wait with the next record should. */
bool record_stream_is_congested(struct record_stream *s);

/* How many records wait; how many bytes have been written in all; whether the reader is gone. */
uint64_t record_stream_waiting(struct record_stream *s);
uint64_t record_stream_written(struct record_stream *s);
bool record_stream_is_broken(struct record_stream *s);

/*
 * Records cannot be written although there is a reader (ENOSPC, EIO). True, with *why naming the
 * descriptor, when that is news; it is no news again until all that waited has been written. What
 * waits is tried again with each flush.
 */
bool record_stream_trouble(struct record_stream *s, struct failure *why);

/* Records lost, by cause. */
struct record_losses {
	uint64_t unread;    /* their reader was too slow */
	uint64_t unwritten; /* they could not be written */
};
struct record_losses record_stream_losses(struct record_stream *s);

/* `3 records were lost: their reader was too slow`, in buf of RECORD_LOSSES_TEXT; NULL: none
 * was. */
#define RECORD_LOSSES_TEXT 160
const char *record_stream_losses_text(const struct record_losses *losses, char *buf);

/* Write what can be written at once, and free. NULL is fine. Returns what was lost in all, with
 * what is left; what a vanished reader did not take is not. */
struct record_losses record_stream_free(struct record_stream *s);

#endif
