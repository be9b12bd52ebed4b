/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/neighbours.h"

#include "base/marks.h"
#include "intercept/predicate.h"
#include <errno.h>
#include <stdio.h>
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
	struct route_state share = { .rule = false };

	for (size_t i = 0; i < n->count; i++) {
		const struct intercept *other = &n->at[i];

		if (!intercept_wants(other, plan->family) || other->table != plan->table)
			continue;
		share.route = true;
		if (intercept_keeps_answers(other) && other->pref == plan->pref)
			share.answers = true;
		share.rule |= other->pref == plan->pref && same_mark(&other->mark, &plan->mark);
	}
	return share;
}

static bool clashes(const struct mark *mark, const struct mark taken[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (marks_clash(mark, &taken[i]))
			return true;
	return false;
}

static void append(struct mark marks[], size_t *count, const struct mark *mark)
{
	marks[(*count)++] = *mark;
}

/* Find marks for the specification that clash with none of theirs; it keeps its own where they do
 * not. False: none found. */
static bool find_marks(const struct intercept *spec, const struct neighbours *n, struct mark *mark,
		       struct mark *upstream)
{
	struct mark *taken = calloc(2 * n->count + 1, sizeof(*taken));
	size_t marks = 0, all;
	bool found = taken;

	for (size_t i = 0; found && i < n->count; i++)
		if (is_readable(&n->at[i]))
			append(taken, &marks, &n->at[i].mark);
	all = marks;
	for (size_t i = 0; found && i < n->count; i++)
		if (is_readable(&n->at[i]))
			append(taken, &all, &n->at[i].upstream_mark);
	/* Relays' upstream marks may be the same: none of them is intercepted. */
	if (found && clashes(&spec->upstream_mark, taken, marks))
		found = marks_find_free(&spec->upstream_mark, taken, all, upstream);
	if (found) {
		append(taken, &all, upstream);
		if (clashes(&spec->mark, taken, all))
			found = marks_find_free(&spec->mark, taken, all, mark);
	}
	free(taken);
	return found;
}

/* `--mark 0x3/0xff --table 101`, only what has changed. */
static void format_marks(struct instance *kernel, const struct intercept *spec,
			 const struct mark *mark, const struct mark *upstream, char *buf,
			 size_t size)
{
	char text[QUANTITY_MARK_MAX];
	size_t used = 0;

	if (!same_mark(mark, &spec->mark))
		used = (size_t)snprintf(buf, size, " --mark %s --table %u",
					quantity_format_mark(mark, text),
					route_free_table(kernel->route, spec->table));
	if (!same_mark(upstream, &spec->upstream_mark))
		snprintf(buf + used, size - used, " --upstream-mark %s",
			 quantity_format_mark(upstream, text));
}

/* Propose free numbers, or those of the other instance if they are usable. Returns -1. */
static int propose_marks(struct instance *kernel, const struct intercept *spec,
			 const struct intercept *other, const struct neighbours *n,
			 struct failure *why)
{
	struct mark mark = spec->mark, upstream = spec->upstream_mark;
	char numbers[128] = "", same[128] = "";

	if (find_marks(spec, n, &mark, &upstream))
		format_marks(kernel, spec, &mark, &upstream, numbers, sizeof(numbers));
	if (!marks_clash(&spec->upstream_mark, &other->mark))
		snprintf(same, sizeof(same), "the same --mark, --table and --pref as `%s`",
			 other->name);
	if (!*numbers && !*same)
		return -1;
	return report_hint(why, "%s%s%s%s", *numbers ? "free:" : "", numbers,
			   *numbers && *same ? ", or " : "", same);
}

/* A mark may be shared only if everything about it is the same; otherwise one instance's packets
 * would take the other's route. */
static int check_marks(struct instance *kernel, const struct intercept *spec,
		       const struct intercept *other, const struct neighbours *n,
		       struct failure *why)
{
	char marks[4][QUANTITY_MARK_MAX];
	bool shared = same_mark(&spec->mark, &other->mark) && spec->table == other->table &&
		      spec->pref == other->pref;

	if ((shared || !marks_clash(&spec->mark, &other->mark)) &&
	    !marks_clash(&spec->mark, &other->upstream_mark) &&
	    !marks_clash(&spec->upstream_mark, &other->mark))
		return 0;
	report_refuse(why,
		      "--mark %s --upstream-mark %s --table %u --pref %u: instance `%s` uses the "
		      "same bits with other numbers: --mark %s --upstream-mark %s --table %u "
		      "--pref %u",
		      quantity_format_mark(&spec->mark, marks[0]),
		      quantity_format_mark(&spec->upstream_mark, marks[1]), spec->table, spec->pref,
		      other->name, quantity_format_mark(&other->mark, marks[2]),
		      quantity_format_mark(&other->upstream_mark, marks[3]), other->table,
		      other->pref);
	return propose_marks(kernel, spec, other, n, why);
}

static int check_packets(const struct intercept *spec, const struct intercept *other,
			 struct failure *why)
{
	if (!predicate_overlaps(spec, other))
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
		if (is_readable(&n->at[i]) && (check_marks(kernel, spec, &n->at[i], n, why) ||
					       check_packets(spec, &n->at[i], why)))
			return -1;
	return 0;
}
