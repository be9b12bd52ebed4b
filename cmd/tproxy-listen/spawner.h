/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spawner - a helper that starts the commands, as who started tproxy-listen or as --user says.
 *
 * So what reads headers and datagrams of strangers is another process than the one that may run
 * programs: it can leave its user and enter a sandbox, and its commands are in none. The spawner
 * gets a connection and what is known of it, starts its one command, and tells how that ends. It
 * starts no other one, and not more at a time than it was told at the beginning.
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

/* A connection to be served, as struct command_peer has it. */
struct spawner_job {
	uint64_t id; /* how spawner_take_end() calls it */
	int protocol;
	struct endpoint client, local, origdst;
	enum transparent_origin origin;
	uint32_t mark;
	uint64_t cookie;
};

/* One command that has ended: status as wait(2) has it. */
struct spawner_end {
	uint64_t id;
	int status;
};

/*
 * Start it, while there is one thread and before privileges are dropped. The command is borrowed.
 * user: whom commands run as, without capabilities; NULL: as who is here, with all the rights there
 * are. NULL with *why.
 */
struct spawner *spawner_new(struct command *command, const struct privilege_user *user, size_t max,
			    struct failure *why);

/* Can the command be executed? As command_check(), by who will run it. */
int spawner_check(struct spawner *s, struct failure *why);

/* Run the command for the connection on fd, which stays the caller's. Its pid, or -1 with *why. */
pid_t spawner_run(struct spawner *s, const struct spawner_job *job, int fd, struct failure *why);

/* Send a signal, SIGTERM or SIGKILL, to all commands and whoever is in their process groups. NULL
 * has none. */
void spawner_signal(struct spawner *s, int signo);

/* A descriptor that is readable when a command has ended. Who has: 1 with *end; 0: nobody now; -1:
 * the spawner itself is gone. */
int spawner_fd(const struct spawner *s);
int spawner_take_end(struct spawner *s, struct spawner_end *end);

/* The commands go on. NULL is fine. */
void spawner_free(struct spawner *s);

#endif
