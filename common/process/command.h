/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command - another program, found and run: with a connection on fd 0 and 1 and its addresses in
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

/* A command found in PATH, with an environment that has lost what only concerned this process. */
struct command {
	char *path;
	char **argv; /* borrowed */
	char **environment;
	size_t inherited; /* entries of the environment that are the same for every run */
	bool knows_signals;
	sigset_t changed; /* signals that are ignored or handled here, once that is known */
};

/*
 * Find argv[0] as execvp(3) would. Returns 0, or -1 with *why; why->err tells the exit status
 * (command_exit_status()): ENOENT not found, EACCES and others not executable.
 */
int command_find(struct command *command, char **argv, struct failure *why);
void command_free(struct command *command);

/* Can it be executed by who we are now, after privileges were given up? Returns as
 * command_find(). */
int command_check(const struct command *command, struct failure *why);

/* STATUS_NOT_FOUND or STATUS_CANNOT_RUN, as a shell would tell them apart. */
int command_exit_status(const struct failure *why);

/* What a command is told of its connection. Where local is not set the variables are left out. */
struct command_peer {
	int protocol; /* IPPROTO_TCP or IPPROTO_UDP: names begin with TCP or UDP */
	struct endpoint client;
	struct endpoint local; /* UCSPI's local side: the original destination if there is one */
	struct endpoint origdst;
	const char *origdst_by;
	uint32_t mark;
	uint64_t cookie;
};

/*
 * Run the command with the connection on fd 0 and 1, in blocking mode, all signals as by default,
 * in a process group of its own (its number is the pid), so that what it starts can be ended with
 * it. The cost does not grow with this process's memory, which the child borrows until it has
 * become the command (as with vfork(2)). Signals may not change their handlers after the first. fd
 * stays the caller's. Returns the child's pid, or -1 with *why.
 */
pid_t command_spawn(struct command *command, const struct command_peer *peer, int fd,
		    struct failure *why);

#endif
