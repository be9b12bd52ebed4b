/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serve - treats an accepted connection as the command line says.
 */
#ifndef TPROXY_LISTEN_SERVE_H
#define TPROXY_LISTEN_SERVE_H

#include "base/report.h"
#include "process/loop.h"
#include "tproxy-listen/service.h"
#include <stdbool.h>

/* Serve an admitted connection, already counted for its client. Takes over the descriptor. */
void serve_act(struct service *s, const struct caller *caller, int fd);

/* There may be room again: start the waiting connections, then poll the listeners again. */
void serve_resume(struct service *s);

/* Run the command for a connection or flow. False, with *why, if it cannot be started. */
bool serve_command(struct connection *c, struct failure *why);

/* The handler for commands that have ended. */
loop_handler serve_ends;

#endif
