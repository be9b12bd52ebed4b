/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/strays.h"

#include "intercept/neighbours.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The kernel may remove another rule than the intended one (route_tags_remove()): then the right
 * rule is put back, and the stray is tried again. */
#define ROUNDS 5

/* Who needs routing. */
struct claims {
	struct neighbours installed;
	const struct intercept *wanted;
	uint32_t table; /* of the instance in question */
	bool doubtful;	/* there are other instances with unknown specifications */
};

/* Which of its rule and route somebody needs. */
static struct route_state claimed(const struct claims *c, const struct route_plan *plan)
{
	const struct neighbours one = { (struct intercept *)c->wanted, c->wanted ? 1 : 0 };
	struct route_state share = neighbours_share(&c->installed, plan);
	struct route_state ours = neighbours_share(&one, plan);

	return (struct route_state){ share.rule || ours.rule, share.route || ours.route,
				     share.answers || ours.answers };
}

static bool is_claimed(const struct claims *c, const struct route_tagged *tagged)
{
	struct route_state share = claimed(c, &tagged->plan);

	return tagged->plain && (!tagged->is_rule	? share.route
				 : tagged->plan.answers ? share.answers
							: share.rule);
}

static bool same_plan(const struct route_tagged *a, const struct route_tagged *b)
{
	return a->is_rule == b->is_rule && a->plan.family == b->plan.family &&
	       a->plan.answers == b->plan.answers && a->plan.table == b->plan.table &&
	       a->plan.pref == b->plan.pref && a->plan.mark.value == b->plan.mark.value &&
	       a->plan.mark.mask == b->plan.mark.mask;
}

/* Is there an equal one, as we make it, among the first `count`? */
static bool is_there(const struct route_tags *tags, size_t count, const struct route_tagged *one)
{
	for (size_t i = 0; i < count; i++)
		if (tags->at[i].plain && same_plan(&tags->at[i], one))
			return true;
	return false;
}

static bool is_stray(const struct claims *c, const struct route_tags *tags, size_t i)
{
	const struct route_tagged *one = &tags->at[i];

	if (is_claimed(c, one))
		return is_there(tags, i, one);
	return !c->doubtful || one->plan.table == c->table || claimed(c, &one->plan).route;
}

/* Move strays to the front; the order within either kind stays. */
static int sort_out(const struct claims *c, struct strays *s, struct failure *why)
{
	struct route_tags *tags = &s->tags;
	struct route_tagged *sorted = calloc(tags->count + 1, sizeof(*sorted));
	size_t used = 0;

	if (!sorted)
		return report_fail(why, ENOMEM, "calloc", "rules and routes with our tag");
	for (int wanted = 1; wanted >= 0; wanted--) {
		for (size_t i = 0; i < tags->count; i++)
			if (is_stray(c, tags, i) == wanted)
				sorted[used++] = tags->at[i];
		s->count = wanted ? used : s->count;
	}
	free(tags->at);
	tags->at = sorted;
	return 0;
}

/* Nothing is known about instances whose specification cannot be read. */
static bool has_unreadable(const struct neighbours *n)
{
	for (size_t i = 0; i < n->count; i++)
		if (!n->at[i].table)
			return true;
	return false;
}

int strays_find(struct instance *kernel, const struct strays_scope *scope, struct strays *s,
		struct failure *why)
{
	struct claims c = { .wanted = scope->wanted, .table = scope->table };
	int err;

	*s = (struct strays){ 0 };
	/* In this order: whoever has added routing that we see, but no rules yet, still holds the
	 * lock. */
	if (route_tags_read(kernel->route, &s->tags, why))
		return -1;
	if (!s->tags.count)
		return 0;
	c.doubtful = nft_is_locked(kernel->rules);
	err = neighbours_read(kernel, scope->leaving ? scope->leaving : "", false, &c.installed,
			      why);
	c.doubtful |= has_unreadable(&c.installed);
	if (!err)
		err = sort_out(&c, s, why);
	neighbours_free(&c.installed);
	return err;
}

void strays_free(struct strays *s)
{
	route_tags_free(&s->tags);
	s->count = 0;
}

int strays_any(struct instance *kernel, const struct strays_scope *scope, struct failure *why)
{
	struct strays s;
	int err = strays_find(kernel, scope, &s, why);
	bool any = s.count;

	strays_free(&s);
	return err ? err : any;
}

static bool same_message(const struct route_tagged *a, const struct route_tagged *b)
{
	size_t length = a->message->nlmsg_len;

	return length == b->message->nlmsg_len &&
	       !memcmp((char *)a->message + NLMSG_HDRLEN, (char *)b->message + NLMSG_HDRLEN,
		       length - NLMSG_HDRLEN);
}

static size_t count_of(const struct route_tagged *one, const struct route_tagged *at, size_t count)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++)
		found += same_message(one, &at[i]);
	return found;
}

/* One round: remove strays that still exist, put back what was removed with them. *left: there were
 * some. */
static int turn(struct instance *kernel, const struct strays *s, bool *left, struct failure *why)
{
	const struct route_tagged *right = s->tags.at + s->count;
	size_t rights = s->tags.count - s->count;
	struct route_tags now;
	int err = route_tags_read(kernel->route, &now, why);

	*left = false;
	for (size_t i = 0; i < s->count && !err; i++) {
		const struct route_tagged *one = &s->tags.at[i];

		/* As many may stay as are needed. */
		if (count_of(one, now.at, now.count) <= count_of(one, right, rights))
			continue;
		*left = true;
		err = route_tags_remove(kernel->route, one, why);
	}
	route_tags_free(&now);
	if (!err)
		err = route_tags_read(kernel->route, &now, why);
	for (size_t i = 0; i < rights && !err; i++)
		if (!count_of(&right[i], now.at, now.count))
			err = route_tags_restore(kernel->route, &right[i], why);
	route_tags_free(&now);
	return err;
}

int strays_remove(struct instance *kernel, const struct strays *s, struct failure *why)
{
	bool left = s->count;

	for (int i = 0; left && i < ROUNDS; i++)
		if (turn(kernel, s, &left, why))
			return -1;
	return 0;
}

int strays_restore(struct instance *kernel, const struct strays *s, struct failure *why)
{
	struct route_tags now;
	int err = route_tags_read(kernel->route, &now, why);

	for (size_t i = 0; i < s->count && !err; i++)
		if (count_of(&s->tags.at[i], now.at, now.count) <
		    count_of(&s->tags.at[i], s->tags.at, s->tags.count))
			err = route_tags_restore(kernel->route, &s->tags.at[i], why);
	route_tags_free(&now);
	return err;
}
