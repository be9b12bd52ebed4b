/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "net/tcfilter.h"
#include "net/xfrm.h"
#include <stdio.h>
#include <string.h>

/* --- traffic control -------------------------------------------------------------------------- */

struct filters {
	struct doctor_context *x;
	const char *device;
};

static void judge_filter(const struct tcfilter *filter, void *context)
{
	struct filters *f = context;
	const char *where = filter->egress ? "egress" : "ingress";
	char fix[200];

	if (!filter->drops) {
		context_report(f->x, DOCTOR_WARN,
			       "it sees packets before all rules, or after; what it does with them "
			       "is not known here (tc -s filter show)",
			       "", "tc has a filter (%s) at the %s of %s", filter->kind, where,
			       f->device);
		return;
	}
	tcfilter_remove(filter, f->device, fix, sizeof(fix));
	context_report(f->x, filter->all ? DOCTOR_FAIL : DOCTOR_WARN,
		       "it sees packets before all rules, or after, and drops what it matches", fix,
		       "tc has a filter (%s) that drops packets at the %s of %s", filter->kind,
		       where, f->device);
}

static void look_at(struct doctor_context *x, unsigned index, const char *name)
{
	struct filters f = { .x = x, .device = name };

	tcfilter_each(index, judge_filter, &f, NULL);
}

void check_beneath_tc(struct doctor_context *x)
{
	for (unsigned i = 0; i < x->devices; i++)
		look_at(x, x->device[i].index, x->device[i].name);
	for (unsigned i = 0; i < x->flows; i++) {
		const struct link *upstream = &x->flow[i].upstream;
		bool seen = !upstream->index;

		for (unsigned j = 0; j < x->devices; j++)
			seen |= x->device[j].index == upstream->index;
		for (unsigned j = 0; j < i; j++)
			seen |= x->flow[j].upstream.index == upstream->index;
		if (!seen)
			look_at(x, upstream->index, upstream->name);
	}
	context_ok(x, "no tc filter on the way");
}

/* --- IPsec ------------------------------------------------------------------------------------ */

static void report_block(struct doctor_context *x, const struct xfrm_policy *b)
{
	char source[ENDPOINT_TEXT_MAX], destination[ENDPOINT_TEXT_MAX], fix[256];

	xfrm_remove(b, fix, sizeof(fix));
	context_report(x, DOCTOR_FAIL,
		       "IPsec's policies are asked for what is delivered here and what is sent, "
		       "after all rules",
		       fix, "an IPsec policy (ip xfrm policy) blocks %s from %s to %s",
		       b->out ? "what is sent" : "what is delivered",
		       endpoint_format_cidr(&b->source, source),
		       endpoint_format_cidr(&b->destination, destination));
}

/* A policy that allows a part of what a later one blocks decides on that part. */
static bool is_decided_by(const struct xfrm_policies *p, const struct xfrm_policy *b,
			  const struct packet_path_flow *flow)
{
	return xfrm_find(p, b->out, flow->protocol, &flow->client, &flow->destination) == b ||
	       xfrm_find(p, b->out, flow->protocol, &flow->destination, &flow->client) == b;
}

void check_beneath_xfrm(struct doctor_context *x)
{
	struct xfrm_policies policies;

	if (xfrm_read(&policies, NULL))
		policies.count = 0;
	for (size_t i = 0; i < policies.count; i++) {
		const struct xfrm_policy *b = &policies.at[i];
		bool hit = false;

		for (unsigned j = 0; b->blocks && j < x->flows; j++)
			hit |= is_decided_by(&policies, b, &x->flow[j]);
		if (hit)
			report_block(x, b);
	}
	xfrm_free(&policies);
	context_ok(x, "no IPsec policy blocks these packets");
}
