/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * answer - the answer of a running relay to one control command: records, as NDJSON.
 *
 * Knows the commands and their records (control.h describes both). The answer is made in pieces,
 * each in the thread that owns the data, so that 100,000 connections neither stall a thread nor
 * fill memory while a client reads slowly. Its owner delivers it to the client.
 */
#ifndef TPROXY_RELAY_ANSWER_H
#define TPROXY_RELAY_ANSWER_H

#include "tproxy-relay/relay.h"
#include "tproxy-relay/stats.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the list of connections continues: after this object of the worker that is visited next. */
struct answer_cursor {
	enum { ANSWER_FLOWS, ANSWER_PENDINGS, ANSWER_UDP_FLOWS } list;
	const void *after;
};

/* Longest command line, and its end. */
#define ANSWER_ARGUMENTS_MAX 128

/* Embed it. The owner sets relay and ready, and reads text, sent, used, busy, more and failed. */
struct answer {
	struct relay *relay;
	/* A piece is ready, or no more will come. Called in worker 0's thread. */
	void (*ready)(struct answer *a);
	char *text; /* the current piece: `used` bytes, of which the owner has sent `sent` */
	size_t sent, used, room;
	bool busy;   /* other threads are making it: do not touch it until ready() */
	bool more;   /* there is more: call answer_continue() when all is sent */
	bool failed; /* no memory */
	uint64_t records;
	char arguments[ANSWER_ARGUMENTS_MAX]; /* what stands behind the command */
	struct relay_visit visit;
	struct stats stats;
	struct answer_cursor cursor;
};

/* Begin to answer; the last answer must have been sent. ready() is called only if `busy` is set on
 * return. */
void answer_begin(struct answer *a, const char *command);

/* Answer a client that may not ask, or whose command is not valid. */
void answer_refuse(struct answer *a, const char *why);

/* Make the next piece, if `more` is set. */
void answer_continue(struct answer *a);

/* Drop the answer. Not allowed while it is busy. */
void answer_clear(struct answer *a);

#endif
