/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record_stream - records written by a service, which they never block and never stop.
 *
 * Knows the descriptor that they go to and the queue in which they wait for it. What a record looks
 * like is record's business.
 */
#ifndef TPROXY_BASE_RECORD_STREAM_H
#define TPROXY_BASE_RECORD_STREAM_H

#include "base/record.h"
#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * A writer for services: never blocks, never stops the service. Records go into a bounded queue that
 * is written when the descriptor takes them; what does not fit is counted, and a JSON stream says so
 * in a `lost` record as soon as there is room. The descriptor's flags are left alone.
 * Safe to share between threads (one lock, held for a copy). SIGPIPE must be ignored by the program.
 */
struct record_stream;

/* fd is borrowed. Returns NULL with *why on lack of memory. */
struct record_stream *record_stream_new(int fd, bool json, const struct record_columns *columns,
					struct failure *why);
void record_stream_put(struct record_stream *s, const struct record *r);

/* Write what the descriptor takes now. Returns true while something is left to write: then poll
 * record_stream_fd() for POLLOUT and call again. A vanished reader (EPIPE) empties the queue. */
bool record_stream_flush(struct record_stream *s);
int record_stream_fd(const struct record_stream *s);

/* Records lost so far; whether the reader is gone. */
uint64_t record_stream_lost(struct record_stream *s);
bool record_stream_broken(struct record_stream *s);

/* Why records could not be written though there is a reader (ENOSPC, EIO): an errno value, the first
 * time that it is asked after such a failure; else 0. Those records are lost, later ones are tried. */
int record_stream_trouble(struct record_stream *s);

/* Write what is left, waiting at most ms milliseconds for the reader, and free. NULL is fine. Returns how
 * many records were lost in all; those that a vanished reader did not take are not. */
uint64_t record_stream_free(struct record_stream *s, int ms);

#endif
