/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * become - `exec`: this process becomes the command of a unit, whose sandbox is for our programs
 * only.
 */
#ifndef TPROXY_SETUP_BECOME_H
#define TPROXY_SETUP_BECOME_H

/*
 * Execute the command, which must be tproxy-relay, or tproxy-listen without a command of its own;
 * it tells the service manager itself when it is ready. Without a command (*command NULL), for
 * another program's proxy: send READY=1 and wait for SIGTERM or SIGINT. Returns the status to exit
 * with.
 */
int become_command(char **command);

#endif
