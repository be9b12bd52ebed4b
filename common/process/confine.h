/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * confine - from now on no path leads anywhere: by landlock(7), or where the kernel has none by an
 * empty mount namespace of its own, if there is the right to make one (CAP_SYS_ADMIN).
 *
 * What is open stays open. Where Landlock can do more (Linux 6.12), no signal reaches another
 * process, and no abstract local socket that is not open yet can be connected to. It is there
 * beside the sandbox: that one allows no such calls either, but for a helper that has files to
 * write.
 */
#ifndef TPROXY_PROCESS_CONFINE_H
#define TPROXY_PROCESS_CONFINE_H

#include "base/report.h"

/* The capability to keep until confine_enter(), which gives it up; -1: it needs none, or there is
 * none. */
int confine_capability(void);

/*
 * Confine this thread and those that it starts; to be called before there are others. It cannot be
 * left. `directory` is the descriptor of one in which files may be made, written and removed still
 * (it may be another one of the same directory then, with the same number); -1: nowhere. Returns 0,
 * also where there is neither Landlock nor the right to make a namespace, or -1 with *why.
 */
int confine_enter(int directory, struct failure *why);

/* What it can do here, as a part of a sandbox: words for -v and --version. Not for within the
 * sandbox, unless confine_enter() was called before. */
const char *confine_text(void);

#endif
