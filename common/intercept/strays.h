/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * strays - rules and routes with our tag that are not as we installed them.
 *
 * Somebody narrowed or inverted a rule, or added a rule or route. The tag makes them ours: `status`
 * shows them, `up` and `down` remove them.
 */
#ifndef TPROXY_INTERCEPT_STRAYS_H
#define TPROXY_INTERCEPT_STRAYS_H

#include "base/report.h"
#include "intercept/instance.h"
#include "net/route.h"
#include <stdbool.h>
#include <stddef.h>

struct strays {
	struct route_tags tags;
	size_t count; /* the first `count` tags are strays, the others are right */
};

/* The scope of a search. */
struct strays_scope {
	const struct intercept
		*wanted;     /* not installed (yet), but its routing is no stray; may be NULL */
	const char *leaving; /* instance whose routing is no longer wanted; may be NULL */
	uint32_t table;	     /* the table in question; 0: unknown */
};

/*
 * Find rules and routes that neither an installed instance nor scope->wanted needs. While an
 * installed instance cannot be read, or another process is at work (nft_is_locked()), only
 * scope->table and the tables of installed instances are searched: the rest may be in use. 0, or -1
 * with *why; the caller frees *s in any case.
 */
int strays_find(struct instance *kernel, const struct strays_scope *scope, struct strays *s,
		struct failure *why);
void strays_free(struct strays *s);

/* Are there any? 1, 0, or -1 with *why. */
int strays_any(struct instance *kernel, const struct strays_scope *scope, struct failure *why);

/*
 * Remove them, and make sure that what is right stays. On failure some may be gone. Put them back,
 * as far as possible. 0, or -1 with *why.
 */
int strays_remove(struct instance *kernel, const struct strays *s, struct failure *why);
int strays_restore(struct instance *kernel, const struct strays *s, struct failure *why);

#endif
