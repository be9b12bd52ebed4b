/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sandbox - from now on only the system calls that the rest of a service's work needs (seccomp(2)).
 *
 * They are noted beside the functions that make them (`#syscalls`; see sandbox_notes.awk). A call
 * that is not noted kills the process (SIGSYS): a service that suddenly wants to run a program or
 * to mount a file system is not itself any more. One that is, but not with these arguments (another
 * option of a socket, another kind of socket), fails with EPERM. Only to open a file fails with
 * EACCES, because libraries do it in passing. Nor can the process, or what it would become, gain
 * privileges again (PR_SET_NO_NEW_PRIVS).
 */
#ifndef TPROXY_PROCESS_SANDBOX_H
#define TPROXY_PROCESS_SANDBOX_H

#include "base/report.h"

/* What is needed beside time, memory, threads that are there, and descriptors that are open. */
enum sandbox_need {
	SANDBOX_TCP = 1,	  /* to accept TCP connections, and carry what comes */
	SANDBOX_UPSTREAM = 2,	  /* to make some of one's own for them */
	SANDBOX_UDP = 4,	  /* to take datagrams, and make sockets that answer */
	SANDBOX_UPSTREAM_UDP = 8, /* to pass them on as they came, and errors back */
	SANDBOX_RAW = 16,	  /* to send datagrams of a port that is somebody else's */
	SANDBOX_CONTROL = 32,	  /* to answer questions at a local socket */
	SANDBOX_COMMANDS = 64,	  /* to hand connections to who starts commands */
	SANDBOX_NETLINK = 128,	  /* to ask the kernel by a netlink socket that is open */
	SANDBOX_FILE = 256,	  /* to replace and remove files */
	SANDBOX_SANITIZER = 512,  /* not to be asked for: such a build needs it, and has it */
};

/*
 * Enter, with all threads of the process; needs is of the bits above. It cannot be left. Returns 0,
 * or -1 with *why: the kernel has no seccomp, or whatever runs this process keeps it from it.
 */
int sandbox_enter(unsigned needs, struct failure *why);

#endif
