/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foreign - other programs' rules, as the packet meets them.
 *
 * packet_path evaluates them once for the whole connection; each leg's part is shown when explain
 * comes to it, so that explain and the doctor use the same evaluation.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_FOREIGN_H
#define TPROXY_INSPECT_EXPLAIN_FOREIGN_H

#include "tproxy-inspect/explain/view.h"

/* What the rules do to the connection's packets, if nothing else happens to them. */
struct foreign;

/* Evaluate v->firewall for the packets of v->flow. NULL: no memory. */
struct foreign *foreign_walk(struct view *v);
void foreign_free(struct foreign *foreign);

/* The mark that the packet has when our rules see it. */
uint32_t foreign_mark_before(const struct foreign *foreign);

/* Do chains with rules run at the same place, in an order that the kernel does not tell? */
bool foreign_has_ties(const struct view *v);

/* Show what happens on that leg at these hooks (ended by NULL): a step for each chain (all), or
 * only for those in which something happens and one for the rest. Concludes if the packet is lost;
 * returns whether it continues. */
bool foreign_show(struct view *v, const struct foreign *foreign, enum packet_path_leg leg,
		  const char *name, const char *const hooks[], bool all);

/* Show which rules put one of our marks on the client's later packets before our rules see them:
 * conntrack may have taken the mark from what the proxy sent. */
bool foreign_show_later_marks(struct view *v, const struct foreign *foreign);

/* The same as foreign_show() for a packet that is not intercepted, from the point where our rules
 * would have taken it. */
bool foreign_show_past(struct view *v, uint32_t mark);

/* The same for a connection of this host, up to our rules; *mark: its mark there. */
bool foreign_show_opened(struct view *v, uint32_t *mark);

#endif
