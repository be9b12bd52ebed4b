/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * walk - the path of a packet through this host, from the interface to the server and back.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_WALK_H
#define TPROXY_INSPECT_EXPLAIN_WALK_H

#include "tproxy-inspect/explain/view.h"

/* Follow it; afterwards view->steps has the steps and the verdict. 0, or -1 with *why: no
 * memory. */
int walk_packet(struct view *v, struct failure *why);

#endif
