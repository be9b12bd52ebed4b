/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serve - does with an accepted connection what the command line says.
 */
#ifndef TPROXY_LISTEN_SERVE_H
#define TPROXY_LISTEN_SERVE_H

#include "base/report.h"
#include "process/loop.h"
#include "tproxy-listen/service.h"
#include <stdbool.h>

/* Serve an admitted connection, already counted for its client. The descriptor is no longer the
 * caller's. */
void serve_act(struct service *s, const struct caller *caller, int fd);

/* There may be room again: begin the connections that wait, then let the listeners go on. */
void serve_resume(struct service *s);

/* Run the command for a connection, or flow. False, with *why, if it cannot be started. */
bool serve_command(struct connection *c, struct failure *why);

/* The handler of the ends of commands. */
loop_handler serve_ends;

#endif
