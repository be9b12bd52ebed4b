/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * become - `exec`: this process becomes the command of a unit, which has a sandbox for our programs alone.
 */
#ifndef TPROXY_SETUP_BECOME_H
#define TPROXY_SETUP_BECOME_H

/*
 * Execute the command, which must be tproxy-relay, or tproxy-listen without a command of its own; it tells the
 * service manager itself when it is ready. Without a command (*command NULL), where somebody else's proxy
 * listens: say READY=1 and wait for SIGTERM or SIGINT. Returns the status to exit with.
 */
int become_command(char **command);

#endif
