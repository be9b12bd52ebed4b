/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spawner - a helper process that starts the commands, as the user who started tproxy-listen or as
 * --user.
 *
 * So the process that reads headers and datagrams of strangers is not the one that may run
 * programs: it can change its user and enter a sandbox, while the commands are in none. The spawner
 * receives a connection and what is known about it, starts its one command, and reports how that
 * ends. It starts no other command, and not more at a time than the limit set at the start.
 */
#ifndef TPROXY_LISTEN_SPAWNER_H
#define TPROXY_LISTEN_SPAWNER_H

#include "base/endpoint.h"
#include "base/report.h"
#include "process/command.h"
#include "process/privilege.h"
#include "socket/transparent.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct spawner;

/* A connection to be served, as in struct command_peer. */
struct spawner_job {
	uint64_t id; /* spawner_take_end() returns it */
	int protocol;
	struct endpoint client, local, origdst;
	enum transparent_origin origin;
	uint32_t mark;
	uint64_t cookie;
};

/* One command that has ended: status as from wait(2). */
struct spawner_end {
	uint64_t id;
	int status;
};

/*
 * Start it, while there is one thread and before privileges are dropped. The command is borrowed.
 * user: commands run as this user, without capabilities; NULL: as the current user, with all
 * current rights. NULL with *why.
 */
struct spawner *spawner_new(struct command *command, const struct privilege_user *user, size_t max,
			    struct failure *why);

/* Can the command be executed? Like command_check(), as the user who will run it. */
int spawner_check(struct spawner *s, struct failure *why);

/* Run the command for the connection on fd, which the caller keeps. Returns its pid, or -1 with
 * *why. */
pid_t spawner_run(struct spawner *s, const struct spawner_job *job, int fd, struct failure *why);

/* Send a signal, SIGTERM or SIGKILL, to all commands and their process groups. NULL is fine. */
void spawner_signal(struct spawner *s, int signo);

/* A descriptor that is readable when a command has ended. Take one that has ended: 1 with *end; 0:
 * none now; -1: the spawner itself is gone. */
int spawner_fd(const struct spawner *s);
int spawner_take_end(struct spawner *s, struct spawner_end *end);

/* Free the spawner; its commands keep running. NULL is fine. */
void spawner_free(struct spawner *s);

#endif
