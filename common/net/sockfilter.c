/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sockfilter.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <stdlib.h>
#include <string.h>

/* The distances are 16 bits wide, and an attribute is not longer either. */
#define CODE_MAX 65000

#define OP_SIZE sizeof(struct inet_diag_bc_op)

/* A jump whose target is not known yet. */
#define UNAIMED 0

struct program {
	char *at;
	size_t used, room;
	bool failed, too_long;
};

/* The operations on one end of a socket. */
struct end {
	unsigned char condition, at_least, at_most;
};
static const struct end source = { INET_DIAG_BC_S_COND, INET_DIAG_BC_S_GE, INET_DIAG_BC_S_LE };
static const struct end destination = { INET_DIAG_BC_D_COND, INET_DIAG_BC_D_GE, INET_DIAG_BC_D_LE };

static void append(struct program *p, const void *what, size_t size)
{
	if (p->used + size > CODE_MAX)
		p->too_long = true;
	if (p->failed || p->too_long)
		return;
	if (p->used + size > p->room) {
		size_t room = 2 * (p->used + size);
		char *at = realloc(p->at, room);

		if (!at) {
			p->failed = true;
			return;
		}
		p->at = at;
		p->room = room;
	}
	memcpy(p->at + p->used, what, size);
	p->used += size;
}

/* Append an operation of `size` bytes in all, whose operand is still to come. Returns its
 * position. */
static size_t begin(struct program *p, unsigned char code, size_t size)
{
	const struct inet_diag_bc_op op = { .code = code, .yes = (unsigned char)size };
	size_t where = p->used;

	append(p, &op, sizeof(op));
	return where;
}

/* Make the jump at that position (taken if it is false) lead to `target`. */
static void aim(struct program *p, size_t where, size_t target)
{
	if (p->failed || p->too_long)
		return;
	((struct inet_diag_bc_op *)(void *)(p->at + where))->no = (unsigned short)(target - where);
}

/* Set the target of all jumps from `start` on that have none yet. */
static void aim_rest(struct program *p, size_t start, size_t target)
{
	for (size_t at = start; !p->failed && !p->too_long && at < p->used;) {
		struct inet_diag_bc_op *op = (struct inet_diag_bc_op *)(void *)(p->at + at);

		if (op->no == UNAIMED)
			op->no = (unsigned short)(target - at);
		at += op->yes;
	}
}

static void put_address(struct program *p, const struct end *end, const struct cidr *cidr)
{
	size_t length = cidr->family == AF_INET ? sizeof(cidr->addr.v4) : sizeof(cidr->addr.v6);
	const struct inet_diag_hostcond condition = {
		.family = (unsigned char)cidr->family,
		.prefix_len = cidr->length,
		.port = -1,
	};

	begin(p, end->condition, OP_SIZE + sizeof(condition) + length);
	append(p, &condition, sizeof(condition));
	append(p, &cidr->addr, length);
}

/* Compare a port; the operand is the second half of the operation. Returns its position. */
static size_t put_port(struct program *p, unsigned char code, uint16_t port)
{
	const struct inet_diag_bc_op operand = { .no = port };
	size_t where = begin(p, code, 2 * OP_SIZE);

	append(p, &operand, sizeof(operand));
	return where;
}

/* An unconditional jump. */
static size_t put_jump(struct program *p)
{
	return begin(p, INET_DIAG_BC_JMP, OP_SIZE);
}

/*
 * One CIDR[:PORTS]. Jumps for false get no target yet, except between port ranges: there the next
 * one is tried. True leads to a jump; these jumps are chained by their positions in the list
 * `jumps`.
 */
static void put_match(struct program *p, const struct end *end, const struct match *m,
		      size_t *jumps, size_t *count)
{
	if (m->cidr.family != AF_UNSPEC)
		put_address(p, end, &m->cidr);
	for (size_t i = 0; i < m->ports.count; i++) {
		size_t least = put_port(p, end->at_least, m->ports.at[i].first);
		size_t most = put_port(p, end->at_most, m->ports.at[i].last);

		jumps[(*count)++] = put_jump(p);
		if (i + 1 == m->ports.count)
			break; /* no other range: try the next entry */
		aim(p, least, p->used);
		aim(p, most, p->used);
	}
	if (!m->ports.count)
		jumps[(*count)++] = put_jump(p);
}

static size_t count_jumps(const struct match_list *list)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		count += list->at[i].ports.count ? list->at[i].ports.count : 1;
	return count;
}

/* One of the list's entries must match; the list fails where its last entry fails, and that jump
 * gets no target yet. */
static void put_list(struct program *p, const struct end *end, const struct match_list *list)
{
	size_t *jumps = list && list->count ? calloc(count_jumps(list), sizeof(*jumps)) : NULL;
	size_t count = 0;

	if (!list || !list->count)
		return;
	if (!jumps) {
		p->failed = true;
		return;
	}
	for (size_t i = 0; i < list->count; i++) {
		size_t start = p->used, before = count;

		put_match(p, end, &list->at[i], jumps, &count);
		/* Their targets are set below; they must not be taken for failures. */
		for (size_t j = before; j < count; j++)
			aim(p, jumps[j], jumps[j] + 1);
		if (i + 1 < list->count)
			aim_rest(p, start, p->used);
	}
	for (size_t j = 0; j < count; j++)
		aim(p, jumps[j], p->used);
	free(jumps);
}

static void put_mark(struct program *p, const struct mark *mark)
{
	const struct inet_diag_markcond condition = { mark->value, mark->mask };

	begin(p, INET_DIAG_BC_MARK_COND, OP_SIZE + sizeof(condition));
	append(p, &condition, sizeof(condition));
}

int sockfilter_make(const struct sockfilter_spec *spec, struct sockfilter *out, struct failure *why)
{
	struct program p = { 0 };

	*out = (struct sockfilter){ 0 };
	put_list(&p, &source, spec->local);
	put_list(&p, &destination, spec->peer);
	if (spec->mark)
		put_mark(&p, spec->mark);
	aim_rest(&p, 0, p.used + OP_SIZE);
	if (p.failed || p.too_long) {
		free(p.at);
		return p.failed ? report_fail(why, ENOMEM, "malloc", "filter") : 0;
	}
	out->code = p.at;
	out->length = p.used;
	return 0;
}

void sockfilter_free(struct sockfilter *filter)
{
	free((void *)filter->code);
	*filter = (struct sockfilter){ 0 };
}
