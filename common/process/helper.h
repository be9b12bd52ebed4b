/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * helper - a child of this process that keeps a right which the rest of the program gives up.
 *
 * It is created by fork(2) and continues with a function of this program; no other program is
 * executed. Of this process's descriptors it keeps fd 2 and its end of a channel, which carries
 * whole messages (SOCK_SEQPACKET). Messages from the channel must be treated as hostile: the helper
 * exists for the day on which an attacker controls the rest of the program. It ends when nobody
 * holds the other end any more, however this process ends, and ignores the signals that end a
 * service.
 */
#ifndef TPROXY_PROCESS_HELPER_H
#define TPROXY_PROCESS_HELPER_H

#include "base/report.h"
#include "process/privilege.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A description of one helper. Each function gets the context of helper_start(), in its own
 * copy. */
struct helper_role {
	const char *name; /* its name in ps(1); at most 15 bytes */
	/* Open what needs the rights that are still there. 0, or -1 with *why. May be NULL. */
	int (*prepare)(void *context, struct failure *why);
	const struct privilege_user *user; /* the user that it then becomes, by privilege_drop() */
	const int *keep;		   /* and the capabilities that it keeps, `kept` of them */
	size_t kept;
	bool whole;	  /* instead of these two: it keeps all rights, and may execute a program */
	unsigned sandbox; /* and what it needs of the system (enum sandbox_need); 0: no sandbox */
	bool reads;	  /* it reads files wherever they are (/proc): only calls are restricted */
	/* The directory in which it creates and removes files, opened by prepare. NULL: it touches
	 * none. */
	int (*directory)(const void *context);
	/* Runs with the remaining rights, before helper_start() returns. Returns like prepare. */
	int (*begin)(void *context, struct failure *why);
	/* Serves until recv() says that the channel has ended. */
	void (*run)(int channel, void *context);
};

/*
 * Start a helper. Call it while there is only one thread. Returns the channel (close-on-exec; a
 * recv() from it fails with EAGAIN after HELPER_TIMEOUT_MS), or -1 with *why, also if the helper
 * could not start.
 */
#define HELPER_TIMEOUT_MS 1000
int helper_start(const struct helper_role *role, void *context, struct failure *why);

/*
 * Send one request and wait for the answer. Returns its size, or -1 with errno: EAGAIN (the helper
 * hangs; end it, because a late answer would be taken for that to the next request), EPIPE (it has
 * ended).
 */
ssize_t helper_ask(int channel, const void *request, size_t size, void *answer, size_t room);

/* Only wait for an answer, to a request sent by other means. Returns like helper_ask(). */
ssize_t helper_wait(int channel, void *answer, size_t room);

/* Let it finish what was sent, wait for its end (HELPER_TIMEOUT_MS at most) and close. -1 is
 * fine. */
void helper_end(int channel);

/*
 * A helper that any thread may ask, one at a time. One that has ended is not asked again. One that
 * does not answer in time is asked again when that answer has come: if it hangs it costs one wait,
 * and on a busy machine it is late, not lost.
 */
struct helper_link {
	pthread_mutex_t lock;
	int channel; /* -1: the helper is gone */
	bool late;   /* its last answer is still to come, and nobody waits for it any more */
};

/* Start it, as helper_start() does. 0, or -1 with *why; end the link in any case. */
int helper_link_start(struct helper_link *link, const struct helper_role *role, void *context,
		      struct failure *why);

/* Ask it a question with an answer of exactly `room` bytes. False: there is no answer. */
bool helper_link_ask(struct helper_link *link, const void *request, size_t size, void *answer,
		     size_t room);

/* helper_end(), when no thread asks any more. */
void helper_link_end(struct helper_link *link);

/* ---- for the helper itself ---- */

/* The next request: returns its size, 0 at the end of the channel. A request that does not fit also
 * counts as the end: it is not from this program. */
size_t helper_receive(int channel, void *request, size_t room);

/* 0, or -1: nobody waits for the answer any more. */
int helper_answer(int channel, const void *answer, size_t size);

#endif
