/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * departure - compares what was observed with the walk: does the packet end where the walk says?
 */
#ifndef TPROXY_INSPECT_EXPLAIN_DEPARTURE_H
#define TPROXY_INSPECT_EXPLAIN_DEPARTURE_H

#include "tproxy-inspect/explain/observe.h"
#include "tproxy-inspect/explain/view.h"

/* Add steps for what was observed, in order of time, to those of the walk, and settle the verdict.
 * `walked`: view is open, and has the walk's steps and verdict. */
void departure_judge(struct view *v, bool walked, const struct observation *o);

#endif
