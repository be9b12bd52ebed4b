/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/neighbours.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reading {
	struct instance *kernel;
	const char *name; /* ours */
	bool contents;
	struct neighbours *into;
	struct failure *why;
};

static void assume_anything(struct intercept *spec)
{
	spec->divert_only = spec->ipv4 = spec->ipv6 = spec->tcp = spec->udp = true;
	spec->table = 0;
}

static bool is_readable(const struct intercept *other)
{
	return other->table;
}

static int add(const char *name, void *context)
{
	struct reading *r = context;
	struct neighbours *n = r->into;
	struct nft_state state;
	struct intercept *grown;
	int err;

	if (!strcmp(name, r->name))
		return 0;
	err = nft_read(r->kernel->rules, name, r->contents, &state, r->why);
	grown = err || !state.present ? NULL : realloc(n->at, (n->count + 1) * sizeof(*grown));
	if (!err && state.present && !grown)
		err = report_fail(r->why, ENOMEM, "realloc", "instances");
	if (!grown) {
		nft_state_free(&state);
		return err;
	}
	n->at = grown;
	n->at[n->count] = state.spec;
	if (!state.readable)
		assume_anything(&n->at[n->count]);
	n->count++;
	return 0;
}

int neighbours_read(struct instance *kernel, const char *name, bool contents, struct neighbours *n,
		    struct failure *why)
{
	struct reading r = { kernel, name, contents, n, why };

	*n = (struct neighbours){ 0 };
	return nft_each(kernel->rules, add, &r, why);
}

void neighbours_free(struct neighbours *n)
{
	for (size_t i = 0; i < n->count; i++)
		intercept_free(&n->at[i]);
	free(n->at);
	*n = (struct neighbours){ 0 };
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
	return a->value == b->value && a->mask == b->mask;
}

struct route_state neighbours_share(const struct neighbours *n, const struct route_plan *plan)
{
	struct route_state share = { false, false };

	for (size_t i = 0; i < n->count; i++) {
		const struct intercept *other = &n->at[i];

		if (!intercept_wants(other, plan->family) || other->table != plan->table)
			continue;
		share.route = true;
		share.rule |= other->pref == plan->pref && same_mark(&other->mark, &plan->mark);
	}
	return share;
}

/* Another value under the same mask that clashes with nothing of the two. */
static struct mark free_mark(const struct intercept *a, const struct intercept *b)
{
	struct mark mark = a->mark;

	for (uint32_t value = 1; value; value++) {
		mark.value = value & mark.mask;
		if (mark.value && !intercept_marks_clash(&mark, &b->mark) &&
		    !intercept_marks_clash(&mark, &b->upstream_mark) &&
		    !intercept_marks_clash(&mark, &a->upstream_mark))
			break;
		if (value > UINT16_MAX)
			break;
	}
	return mark;
}

/* A mark may be shared where everything about it is the same; anything else would send one instance's
 * packets the other's way. */
static int check_marks(struct instance *kernel, const struct intercept *spec,
		       const struct intercept *other, struct failure *why)
{
	char mark[QUANTITY_MARK_MAX], proposal[QUANTITY_MARK_MAX];
	struct mark unused = free_mark(spec, other);
	bool shared = same_mark(&spec->mark, &other->mark) && spec->table == other->table &&
		      spec->pref == other->pref;

	if ((shared || !intercept_marks_clash(&spec->mark, &other->mark)) &&
	    !intercept_marks_clash(&spec->mark, &other->upstream_mark) &&
	    !intercept_marks_clash(&spec->upstream_mark, &other->mark))
		return 0;
	report_refuse(why,
		      "--mark %s, --upstream-mark: instance `%s` uses the same bits "
		      "with other numbers",
		      quantity_format_mark(&spec->mark, mark), other->name);
	return report_hint(why,
			   "--mark %s --table %u are free, or the same --mark, "
			   "--table and --pref as `%s`",
			   quantity_format_mark(&unused, proposal),
			   route_free_table(kernel->route, other->table), other->name);
}

static int check_packets(const struct intercept *spec, const struct intercept *other,
			 struct failure *why)
{
	if (!intercept_overlaps(spec, other))
		return 0;
	report_refuse(why, "instance `%s` intercepts some of these packets already", other->name);
	return report_hint(why,
			   "tproxy-setup status --name %s; use the same --name to replace "
			   "it, or narrow one of the two",
			   other->name);
}

int neighbours_check(struct instance *kernel, const struct intercept *spec,
		     const struct neighbours *n, struct failure *why)
{
	for (size_t i = 0; i < n->count; i++)
		if (is_readable(&n->at[i]) && (check_marks(kernel, spec, &n->at[i], why) ||
					       check_packets(spec, &n->at[i], why)))
			return -1;
	return 0;
}
