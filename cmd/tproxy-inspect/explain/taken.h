/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * taken - which instance intercepts the packet, or which term of each instance excludes it.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_TAKEN_H
#define TPROXY_INSPECT_EXPLAIN_TAKEN_H

#include "tproxy-inspect/explain/view.h"

/* Why no instance intercepts it, and the command after which one would. */
struct taken_not {
	const char *reason;
	char words[400], fix[STEPS_FIX_MAX];
};

/* Decide for a packet with that mark: a step for each instance. True: v->by and the flow's marks
 * are set; false with *why_not. */
bool taken_decide(struct view *v, uint32_t mark, struct taken_not *why_not);

/* `tproxy-setup up ...` for the instance that takes it, changed so that its mark, its preference,
 * ... is another: the specification to be changed, owned by the caller (intercept_free()). 0, or
 * -1: no memory. */
int taken_copy(const struct view *v, struct intercept *copy);

/* The command that installs it; "" if it does not fit. */
void taken_put_up(const struct intercept *spec, char fix[STEPS_FIX_MAX]);

#endif
