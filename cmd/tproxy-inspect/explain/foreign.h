/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foreign - other programs' rules, as the packet meets them.
 *
 * packet_path sends the whole connection through them once; each leg's part of that is shown when the walk
 * comes to it, so that explain and the doctor judge by the same walk.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_FOREIGN_H
#define TPROXY_INSPECT_EXPLAIN_FOREIGN_H

#include "tproxy-inspect/explain/view.h"

/* What rules do to the connection's packets, as far as they are all that happens. */
struct foreign;

/* Send the packets of v->flow through v->firewall. NULL: no memory. */
struct foreign *foreign_walk(struct view *v);
void foreign_free(struct foreign *foreign);

/* The mark that the packet has when our rules see it. */
uint32_t foreign_mark_before(const struct foreign *foreign);

/* Show what happens on that leg at these hooks (ended by NULL), a step for each chain (all), or only for those in
 * which something happens and one for the rest. Concludes where the packet is lost; returns whether it goes on. */
bool foreign_show(struct view *v, const struct foreign *foreign, enum packet_path_leg leg,
		  const char *name, const char *const hooks[], bool all);

/* What is not intercepted, from where our rules would have taken it. */
bool foreign_show_past(struct view *v, uint32_t mark);

/* What this host opens itself, as far as our rules; *mark: what it has then. */
bool foreign_show_opened(struct view *v, uint32_t *mark);

#endif
