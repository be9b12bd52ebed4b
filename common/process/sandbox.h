/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sandbox - from now on only the system calls that the rest of a service's work needs (seccomp(2)).
 *
 * What is not on the list kills the process (SIGSYS): a service that suddenly wants to run a program or
 * to mount a file system is not itself any more. Only to open a file is refused rather than deadly, because
 * libraries do it in passing. Nor can it, or what it would become, gain privileges again
 * (PR_SET_NO_NEW_PRIVS).
 */
#ifndef TPROXY_PROCESS_SANDBOX_H
#define TPROXY_PROCESS_SANDBOX_H

#include "base/report.h"

/* What is needed beside time, memory, threads that are there, and descriptors that are open. */
enum sandbox_need {
	SANDBOX_SOCKETS = 1, /* IPv4, IPv6 and local ones: make, accept, connect, carry */
	SANDBOX_REMOVE = 2,  /* look for files, and remove them */
	SANDBOX_WRITE = 4,   /* open files and replace them; with SANDBOX_REMOVE's */
};

/*
 * Enter, with all threads of the process; needs is of the bits above. It cannot be left. Returns 0, or
 * -1 with *why: the kernel has no seccomp, or whatever runs this process keeps it from it.
 */
int sandbox_enter(unsigned needs, struct failure *why);

#endif
