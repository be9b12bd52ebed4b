/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * answer - what a running relay says when it is asked: the records of one command, as NDJSON.
 *
 * Knows the commands and their records (control.h describes both). Made in pieces, each in the
 * thread that has what it tells of: so that 100,000 connections neither stop a thread nor fill the
 * memory while a client takes its time. How it comes to the client is its owner's business.
 */
#ifndef TPROXY_RELAY_ANSWER_H
#define TPROXY_RELAY_ANSWER_H

#include "tproxy-relay/relay.h"
#include "tproxy-relay/stats.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the list of connections goes on: behind that object of the worker that is visited next. */
struct answer_cursor {
	enum { ANSWER_FLOWS, ANSWER_PENDINGS, ANSWER_UDP_FLOWS } list;
	const void *after;
};

/* Longest command line, and its end. */
#define ANSWER_ARGUMENTS_MAX 128

/* Embed it. Its owner sets relay and ready, and looks at text, sent, used, busy, more and
 * failed. */
struct answer {
	struct relay *relay;
	/* A piece is there, or no more will come. In worker 0's thread. */
	void (*ready)(struct answer *a);
	char *text; /* what is there of it: used bytes, of which its owner has sent so many */
	size_t sent, used, room;
	bool busy;   /* being made by other threads: not to be touched until ready() */
	bool more;   /* there is more: answer_continue() when all has been sent */
	bool failed; /* no memory */
	uint64_t records;
	char arguments[ANSWER_ARGUMENTS_MAX]; /* what stands behind the command */
	struct relay_visit visit;
	struct stats stats;
	struct answer_cursor cursor;
};

/* Begin to answer; all of the last answer has been sent. ready() is called only if it is busy
 * now. */
void answer_begin(struct answer *a, const char *command);

/* The same to a client who may not ask, or not like that. */
void answer_refuse(struct answer *a, const char *why);

/* Go on with an answer of which there is more. */
void answer_continue(struct answer *a);

/* Forget what is there. Not while it is busy. */
void answer_clear(struct answer *a);

#endif
