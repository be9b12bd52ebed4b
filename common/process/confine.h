/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * confine - takes the file system away from the process: with landlock(7), or, if the kernel lacks
 * that, with an empty mount namespace of its own, if the process may create one (CAP_SYS_ADMIN).
 *
 * Open descriptors stay open. Where Landlock can do more (Linux 6.12), signals no longer reach
 * other processes, and abstract local sockets that are not open yet can no longer be connected to.
 * It complements the sandbox, which allows no such calls either, except to a helper that has files
 * to write.
 */
#ifndef TPROXY_PROCESS_CONFINE_H
#define TPROXY_PROCESS_CONFINE_H

#include "base/report.h"

/* The capability to keep until confine_enter(), which gives it up; -1: none is needed, or it is not
 * available. */
int confine_capability(void);

/*
 * Confine this thread and those that it starts; call it before there are others. There is no way
 * back. `directory` is the descriptor of a directory in which files may still be created, written
 * and removed (afterwards the number may refer to another descriptor of the same directory); -1:
 * none. Returns 0, also if there is neither Landlock nor the right to create a namespace, or -1
 * with *why.
 */
int confine_enter(int directory, struct failure *why);

/* What it can do here, as a part of a sandbox: words for -v and --version. Do not call it inside
 * the sandbox, unless confine_enter() was called before. */
const char *confine_text(void);

#endif
