/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * descriptors - the open files of this process.
 */
#ifndef TPROXY_PROCESS_DESCRIPTORS_H
#define TPROXY_PROCESS_DESCRIPTORS_H

#include "base/report.h"
#include <stdint.h>

/*
 * Call this first: it opens /dev/null on those of fd 0, 1, 2 that are closed, so that no socket
 * gets their number, and marks every other inherited descriptor close-on-exec. Returns 0, or -1
 * with *why.
 */
int descriptors_guard(struct failure *why);

/* Raise the limit on open files to the hard limit. *files (may be NULL): how many may be open then.
 * 0, or -1 with *why. */
int descriptors_raise_limit(uint64_t *files, struct failure *why);

/* Put the descriptor into the state that most programs expect. 0, or -1 with errno. */
int descriptors_set_blocking(int fd);

#endif
