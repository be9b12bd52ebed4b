/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * helper - a child of this process that keeps a right which the rest of the program gives up.
 *
 * It is made by fork(2) and goes on with a function of this program; no other program is started.
 * Of this process's descriptors it keeps fd 2 and its end of a channel, which carries whole
 * messages (SOCK_SEQPACKET). What comes over the channel must be taken for hostile: the helper is
 * there for the day on which an attacker speaks for the rest of the program. It ends when nobody
 * holds the other end any more, however this process ends, and ignores the signals that end a
 * service.
 */
#ifndef TPROXY_PROCESS_HELPER_H
#define TPROXY_PROCESS_HELPER_H

#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What one helper is. Each function gets the context of helper_start(), in a copy of its own. */
struct helper_role {
	const char *name; /* how ps(1) calls it; at most 15 bytes */
	/* With the rights that there are yet: open what takes them. 0, or -1 with *why. May be
	 * NULL. */
	int (*prepare)(void *context, struct failure *why);
	const struct privilege_user *user; /* whom it becomes then, as privilege_drop() has it */
	const int *keep;		   /* and which capabilities it keeps, `kept` of them */
	size_t kept;
	bool whole;	  /* instead of these two: it keeps all rights, and may become a program */
	unsigned sandbox; /* and what of the system it needs (enum sandbox_need); 0: no sandbox */
	/* The one in which it makes and removes files, opened by prepare. NULL: it touches none. */
	int (*directory)(const void *context);
	/* With the rights that are left, before helper_start() returns. As prepare. */
	int (*begin)(void *context, struct failure *why);
	/* Serve until recv() says that the channel has ended. */
	void (*run)(int channel, void *context);
};

/*
 * Start one. To be called while there is only one thread. Returns the channel (close-on-exec; a
 * recv() from it fails with EAGAIN after HELPER_TIMEOUT_MS), or -1 with *why, also when the helper
 * could not begin.
 */
#define HELPER_TIMEOUT_MS 1000
int helper_start(const struct helper_role *role, void *context, struct failure *why);

/*
 * Send one request and wait for its answer. Returns its size, or -1 with errno: EAGAIN (it hangs; a
 * late answer would be taken for the next one's: end it), EPIPE (it has ended).
 */
ssize_t helper_ask(int channel, const void *request, size_t size, void *answer, size_t room);

/* Only wait: for what a request by other means is answered with. As helper_ask. */
ssize_t helper_wait(int channel, void *answer, size_t room);

/* Let it finish what was sent, wait for its end (HELPER_TIMEOUT_MS at most) and close. -1 is
 * fine. */
void helper_end(int channel);

/* ---- for the helper itself ---- */

/* The next request: its size, 0 at the end of the channel. One that does not fit in is the end too:
 * it is not from this program. */
size_t helper_receive(int channel, void *request, size_t room);

/* 0, or -1: nobody waits for it any more. */
int helper_answer(int channel, const void *answer, size_t size);

#endif
