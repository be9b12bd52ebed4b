/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * strays - rules and routes with our tag that are not as we put them there.
 *
 * Somebody narrowed a rule, inverted it, added one more or another route. They are ours by their
 * tag: `status` shows them, `up` and `down` take them away.
 */
#ifndef TPROXY_SETUP_STRAYS_H
#define TPROXY_SETUP_STRAYS_H

#include "base/report.h"
#include "intercept/instance.h"
#include "net/route.h"
#include <stdbool.h>
#include <stddef.h>

struct strays {
	struct route_tags tags;
	size_t count; /* the first of the tags are strays; the others are as they should be */
};

/* For whom one looks. */
struct strays_scope {
	const struct intercept
		*wanted;     /* not installed, or not yet: its routing is none; may be NULL */
	const char *leaving; /* this instance's routing is not wanted any more; may be NULL */
	uint32_t table;	     /* that this is about; 0: not known */
};

/*
 * Look for what no installed instance and not scope->wanted asks for. While an installed one cannot
 * be read, or another process is at work (nft_is_locked()), that is only what is of scope->table or
 * of an installed one's: the rest may be right. 0, or -1 with *why; the caller frees *s in any
 * case.
 */
int strays_find(struct instance *kernel, const struct strays_scope *scope, struct strays *s,
		struct failure *why);
void strays_free(struct strays *s);

/* Are there any? 1, 0, or -1 with *why. */
int strays_any(struct instance *kernel, const struct strays_scope *scope, struct failure *why);

/*
 * Take them away, and see that what is as it should be stays. On failure some may be gone. Put them
 * back, as far as that can be done. 0, or -1 with *why.
 */
int strays_remove(struct instance *kernel, const struct strays *s, struct failure *why);
int strays_restore(struct instance *kernel, const struct strays *s, struct failure *why);

#endif
