/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command - giving a connection, or a listener, to another program, and taking listeners from one.
 *
 * Knows the conventions between such programs: UCSPI (a connection on fd 0 and 1, its addresses in the
 * environment), sd_listen_fds(3) (LISTEN_FDS from fd 3) and sd_notify(3).
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

/* The first descriptor passed by LISTEN_FDS, and how many may be. */
#define LISTEN_FDS_FIRST 3
#define LISTEN_FDS_MAX	 128

/*
 * To be called first: opens /dev/null on those of fd 0, 1, 2 that are closed, so that no socket gets
 * their number, and marks whatever else was inherited close-on-exec. Returns 0, or -1 with *why.
 */
int descriptors_guard(struct failure *why);

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

/* Can it be executed by who we are now, after privileges were given up? Returns as command_find(). */
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
 * Run the command with the connection on fd 0 and 1, in blocking mode, all signals as by default, in a
 * process group of its own (its number is the pid), so that what it starts can be ended with it. The
 * cost does not grow with this process's memory, which the child borrows until it has become the command
 * (as with vfork(2)). Signals may not change their handlers after the first. fd stays the caller's.
 * Returns the child's pid, or -1 with *why.
 */
pid_t command_spawn(struct command *command, const struct command_peer *peer, int fd,
		    struct failure *why);

/*
 * Become the command, which gets the descriptors from fd 3 on, in blocking mode, with LISTEN_FDS,
 * LISTEN_PID and LISTEN_FDNAMES; fds is overwritten. Returns only on failure, -1 with *why.
 */
int listen_fds_become(struct command *command, int *fds, const char *const *names, size_t count,
		      struct failure *why);

/*
 * How many descriptors were passed to this process, from LISTEN_FDS_FIRST on; 0 when none (or when
 * they are for another process). They become close-on-exec, and the variables are removed, so that no
 * child takes them for its own. -1 with *why when the variables make no sense. To be called before
 * descriptors_guard().
 */
int listen_fds_take(struct failure *why);

/* Connect to the service manager, if one listens at NOTIFY_SOCKET, while it can be reached: before
 * privileges are given up; else notify_send() does. -1 with *why on failure, after which nothing is sent. */
int notify_open(struct failure *why);

/* Tell it: `READY=1`. -1 with *why on failure; 0 also where there is none. */
int notify_send(const char *state, struct failure *why);

#endif
