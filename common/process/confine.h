/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * confine - from now on no path leads anywhere (landlock(7)), where the kernel can do that.
 *
 * What is open stays open. Where it can do more (Linux 6.12), no signal reaches another process, and no
 * abstract local socket that is not open yet can be connected to. It is there beside the sandbox: that one
 * allows no such calls either, but for a helper that has files to write.
 */
#ifndef TPROXY_PROCESS_CONFINE_H
#define TPROXY_PROCESS_CONFINE_H

#include "base/report.h"

/*
 * Confine this thread and those that it starts. It cannot be left. `directory` is the descriptor of one in
 * which files may be made, written and removed still; -1: nowhere. Returns 0, also where the kernel has no
 * Landlock, or -1 with *why.
 */
int confine_enter(int directory, struct failure *why);

/* What it can do here, as a part of a sandbox: words for -v and --version. Not for within the sandbox,
 * unless confine_enter() was called before. */
const char *confine_text(void);

#endif
