/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listen_fds - passes listeners from one program to another, by the protocol of sd_listen_fds(3).
 */
#ifndef TPROXY_PROCESS_LISTEN_FDS_H
#define TPROXY_PROCESS_LISTEN_FDS_H

#include "base/report.h"
#include "process/command.h"
#include <stddef.h>

/* The first descriptor passed by LISTEN_FDS, and the most that may be passed. */
#define LISTEN_FDS_FIRST 3
#define LISTEN_FDS_MAX	 128

/*
 * Execute the command, which gets the descriptors from fd 3 on, in blocking mode, with LISTEN_FDS,
 * LISTEN_PID and LISTEN_FDNAMES; fds is overwritten. Returns only on failure, -1 with *why.
 */
int listen_fds_become(struct command *command, int *fds, const char *const *names, size_t count,
		      struct failure *why);

/*
 * How many descriptors were passed to this process, from LISTEN_FDS_FIRST on; 0 if none (or if they
 * are for another process). They become close-on-exec, and the variables are removed, so that no
 * child takes them for its own. -1 with *why if the variables make no sense. Call it before
 * descriptors_guard().
 */
int listen_fds_take(struct failure *why);

#endif
