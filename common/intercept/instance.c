/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/instance.h"

#include <netinet/in.h>
#include <string.h>

static const sa_family_t families[2] = { AF_INET, AF_INET6 };

int instance_open(struct instance *kernel, struct failure *why)
{
	*kernel = (struct instance){ 0 };
	kernel->rules = nft_open(why);
	kernel->route = kernel->rules ? route_open(why) : NULL;
	if (kernel->route)
		return 0;
	instance_close(kernel);
	return -1;
}

void instance_close(struct instance *kernel)
{
	nft_close(kernel->rules);
	route_close(kernel->route);
	*kernel = (struct instance){ 0 };
}

/* --- looking ---------------------------------------------------------------------------------- */

static struct route_plan route_plan(const struct intercept *spec, sa_family_t family)
{
	return (struct route_plan){
		.family = family,
		.mark = spec->mark,
		.table = spec->table,
		.pref = spec->pref,
		.answers = intercept_keeps_answers(spec),
	};
}

static int look_at_routing(struct instance *kernel, const struct intercept *spec,
			   struct instance_view *view, struct failure *why)
{
	for (int i = 0; i < 2; i++) {
		struct instance_routing *r = &view->routing[i];

		r->plan = route_plan(spec, families[i]);
		r->wanted = intercept_wants(spec, families[i]);
		if (r->wanted && route_look(kernel->route, &r->plan, &r->state, r->conflict, why))
			return -1;
	}
	return 0;
}

int instance_look(struct instance *kernel, const char *name, const struct intercept *spec,
		  bool contents, struct instance_view *view, struct failure *why)
{
	memset(view, 0, sizeof(*view));
	if (nft_read(kernel->rules, name, contents, &view->rules, why))
		return -1;
	if (!spec && view->rules.readable)
		spec = &view->rules.spec;
	return spec ? look_at_routing(kernel, spec, view, why) : 0;
}

void instance_view_free(struct instance_view *view)
{
	nft_state_free(&view->rules);
}

static bool routing_intact(const struct instance_view *view)
{
	for (int i = 0; i < 2; i++) {
		const struct instance_routing *r = &view->routing[i];

		if (r->wanted && (!r->state.rule || !r->state.route ||
				  (r->plan.answers && !r->state.answers) || r->conflict[0]))
			return false;
	}
	return true;
}

int instance_is_routed(struct instance *kernel, const struct intercept *spec, struct failure *why)
{
	struct instance_view view = { 0 };

	return look_at_routing(kernel, spec, &view, why) ? -1 : routing_intact(&view);
}

bool instance_intact(const struct instance_view *view)
{
	return nft_intact(&view->rules) && routing_intact(view);
}

int instance_each_listener(const struct intercept *spec, instance_listener_visitor *visit,
			   void *context, struct failure *why)
{
	const struct endpoint *to[] = { &spec->to4, &spec->to6 };
	const int protocols[] = { spec->tcp ? IPPROTO_TCP : 0, spec->udp ? IPPROTO_UDP : 0 };
	struct listening_state state;
	int result = 0;

	for (int i = 0; i < 4 && !result; i++) {
		int protocol = protocols[i % 2];

		if (!protocol || !endpoint_is_set(to[i / 2]))
			continue;
		result = listening_look(protocol, to[i / 2], &state, why);
		if (!result)
			result = visit(protocol, to[i / 2], &state, context);
	}
	return result;
}

/* 1: for some connections nobody listens, or not transparently. */
static int lacks_listener(int protocol, const struct endpoint *to,
			  const struct listening_state *state, void *context)
{
	return !state->count || state->nontransparent;
}

int instance_ready(const struct intercept *spec, struct failure *why)
{
	int lacking = instance_each_listener(spec, lacks_listener, NULL, why);

	return lacking < 0 ? -1 : !lacking;
}
