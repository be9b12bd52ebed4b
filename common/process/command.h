/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command - finds and runs another program, with a connection on fd 0 and 1 and its addresses in
 * the environment (UCSPI).
 *
 * Nothing here is for use by two threads at once.
 */
#ifndef TPROXY_PROCESS_COMMAND_H
#define TPROXY_PROCESS_COMMAND_H

#include "base/endpoint.h"
#include "base/report.h"
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A command found in PATH, with an environment without the variables that only concerned this
 * process. */
struct command {
	char *path;
	char **argv; /* borrowed */
	char **environment;
	size_t inherited; /* environment entries that are the same for every run */
	bool knows_signals;
	sigset_t changed; /* signals that are ignored or handled here, once known */
};

/*
 * Find argv[0] like execvp(3). Returns 0, or -1 with *why; why->err gives the exit status
 * (command_exit_status()): ENOENT not found, EACCES and others not executable.
 */
int command_find(struct command *command, char **argv, struct failure *why);
void command_free(struct command *command);

/* Can this process execute it with its current identity, after privileges were given up? Returns
 * like command_find(). */
int command_check(const struct command *command, struct failure *why);

/* STATUS_NOT_FOUND or STATUS_CANNOT_RUN, the distinction that a shell makes. */
int command_exit_status(const struct failure *why);

/* What a command is told about its connection. If local is unset, the variables are left out. */
struct command_peer {
	int protocol; /* IPPROTO_TCP or IPPROTO_UDP: names begin with TCP or UDP */
	struct endpoint client;
	struct endpoint local; /* UCSPI's local side: the original destination, if there is one */
	struct endpoint origdst;
	const char *origdst_by;
	uint32_t mark;
	uint64_t cookie;
};

/*
 * Run the command with the connection on fd 0 and 1, in blocking mode, with default signal actions,
 * in a process group of its own (whose number is the pid), so that everything it starts can be
 * killed with it. The cost does not grow with this process's memory, which the child borrows until
 * it has become the command (like vfork(2)). Signals may not change their handlers after the first
 * call. fd remains the caller's. Returns the child's pid, or -1 with *why.
 */
pid_t command_spawn(struct command *command, const struct command_peer *peer, int fd,
		    struct failure *why);

#endif
