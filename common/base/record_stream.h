/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_stream - writes the records of a service, and never blocks or stops the service.
 *
 * Records wait in a bounded queue until the descriptor takes them. A record that does not fit is
 * lost only after the descriptor has been tried once more. Losses are counted by cause, and a JSON
 * stream reports them in a `lost` record as soon as there is room. The descriptor's flags are left
 * alone.
 *
 * Knows the descriptor and the queue; record knows what a record looks like, and the owner decides
 * how long to wait for a reader at the end. Safe to share between threads (one lock, held for a
 * copy, or for writes that do not wait). The program must ignore SIGPIPE.
 */
#ifndef TPROXY_BASE_RECORD_STREAM_H
#define TPROXY_BASE_RECORD_STREAM_H

#include "base/record.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* At most this many bytes of records wait; memory is allocated as they come. */
#define RECORD_STREAM_MAX (4 * 1024 * 1024)

struct record_stream;

/* fd is borrowed. Returns NULL with *why when out of memory. */
struct record_stream *record_stream_new(int fd, bool json, const struct record_columns *columns,
					struct failure *why);

/*
 * If fd is a terminal and the records are text, lay them out for it: with a header line if
 * `header`, and with the columns of `brief` instead, unless it is NULL, leaving out the usual
 * things (see record_lines.h).
 */
void record_stream_fit(struct record_stream *s, const struct record_columns *brief, bool header);

void record_stream_put(struct record_stream *s, const struct record *r);

/* Write what the descriptor takes now. Returns true while the stream needs attention: a reader has
 * yet to take something (poll record_stream_fd() for POLLOUT and call again), or there is trouble
 * that nobody has asked about. A vanished reader (EPIPE) empties the queue. */
bool record_stream_flush(struct record_stream *s);
int record_stream_fd(const struct record_stream *s);

/* Half of the queue is in use even after writing what can be written now, and a reader may make
 * room: a caller that can delay its next record should. */
bool record_stream_is_congested(struct record_stream *s);

/* How many records wait; how many bytes were written in total; whether the reader is gone. */
uint64_t record_stream_waiting(struct record_stream *s);
uint64_t record_stream_written(struct record_stream *s);
bool record_stream_is_broken(struct record_stream *s);

/*
 * Records cannot be written although there is a reader (ENOSPC, EIO). Returns true, with *why
 * naming the descriptor, once per trouble: it is reported again only after everything that waited
 * has been written. Each flush tries again to write what waits.
 */
bool record_stream_trouble(struct record_stream *s, struct failure *why);

/* Lost records, by cause. */
struct record_losses {
	uint64_t unread;    /* their reader was too slow */
	uint64_t unwritten; /* they could not be written */
};
struct record_losses record_stream_losses(struct record_stream *s);

/* `3 records were lost: their reader was too slow`, in buf of RECORD_LOSSES_TEXT bytes; NULL: none
 * were lost. */
#define RECORD_LOSSES_TEXT 160
const char *record_stream_losses_text(const struct record_losses *losses, char *buf);

/* Write what can be written at once, and free. NULL is fine. Returns all losses, including what is
 * left now; records that a vanished reader did not take do not count. */
struct record_losses record_stream_free(struct record_stream *s);

#endif
