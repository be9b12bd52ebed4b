/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sandbox - restricts a service to the system calls that the rest of its work needs (seccomp(2)).
 *
 * The calls are noted next to the functions that make them (`#syscalls`; see sandbox_notes.awk). A
 * call that is not noted kills the process (SIGSYS): a service that suddenly wants to run a program
 * or to mount a file system has been taken over. A noted call with other arguments (another socket
 * option, another kind of socket) fails with EPERM, and so does any other call of who collects: with
 * libraries that are not ours it reads whatever the kernel holds, and hears no stranger. Opening a file fails with EACCES, because
 * libraries do it in passing. Neither the process nor a program that it executes can gain
 * privileges again (PR_SET_NO_NEW_PRIVS).
 */
#ifndef TPROXY_PROCESS_SANDBOX_H
#define TPROXY_PROCESS_SANDBOX_H

#include "base/report.h"

/* What a service needs in addition to time, memory, existing threads, and open descriptors. */
enum sandbox_need {
	SANDBOX_TCP = 1,	  /* to accept TCP connections and relay their data */
	SANDBOX_UPSTREAM = 2,	  /* to open connections on their behalf */
	SANDBOX_UDP = 4,	  /* to take datagrams and open sockets that answer */
	SANDBOX_UPSTREAM_UDP = 8, /* to forward datagrams unchanged, and return errors */
	SANDBOX_RAW = 16,	  /* to send datagrams from a port that belongs to somebody else */
	SANDBOX_CONTROL = 32,	  /* to answer queries on a local socket */
	SANDBOX_COMMANDS = 64,	  /* to hand connections to the helper that starts commands */
	SANDBOX_NETLINK = 128,	  /* to query the kernel over an open netlink socket */
	SANDBOX_FILE = 256,	  /* to replace and remove files */
	SANDBOX_HTTP = 1024,	  /* to answer HTTP requests */
	SANDBOX_COLLECT = 2048,	  /* to read rules, routes, sockets and /proc, and to ask relays */
	SANDBOX_SANITIZER = 512,  /* not for callers: set if the build needs it */
};

/*
 * Enter the sandbox with all threads of the process; needs has the bits above. There is no way
 * back. Returns 0, or -1 with *why: the kernel has no seccomp, or whatever runs this process
 * forbids it.
 */
int sandbox_enter(unsigned needs, struct failure *why);

#endif
