/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/flow_table.h"

#include <errno.h>
#include <stdlib.h>

#define SLOTS 4096 /* a power of two */

int flow_table_init(struct flow_table *t, uint64_t seed, struct failure *why)
{
	t->seed = seed;
	t->slots = calloc(SLOTS, sizeof(*t->slots));
	return t->slots ? 0 : report_fail(why, ENOMEM, "malloc", "flows");
}

void flow_table_free(struct flow_table *t)
{
	free(t->slots);
}

uint64_t flow_table_hash(const struct flow_table *t, const struct endpoint *client,
			 const struct endpoint *local)
{
	return endpoint_hash(local, endpoint_hash(client, t->seed));
}

static struct connection **slot_of(const struct flow_table *t, const struct endpoint *client,
				   const struct endpoint *local)
{
	return &t->slots[flow_table_hash(t, client, local) & (SLOTS - 1)];
}

struct connection *flow_table_find(const struct flow_table *t, const struct endpoint *client,
				   const struct endpoint *local)
{
	struct connection *c = *slot_of(t, client, local);

	while (c && !(endpoint_equal(&c->caller.client, client) &&
		      endpoint_equal(&c->caller.local, local)))
		c = c->next;
	return c;
}

static void order_remove(struct flow_table *t, struct connection *c)
{
	*(c->older ? &c->older->newer : &t->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &t->newest) = c->older;
	c->older = c->newer = NULL;
}

static void order_append(struct flow_table *t, struct connection *c)
{
	c->older = t->newest;
	*(t->newest ? &t->newest->newer : &t->oldest) = c;
	t->newest = c;
}

void flow_table_enter(struct flow_table *t, struct connection *c)
{
	struct connection **slot = slot_of(t, &c->caller.client, &c->caller.local);

	c->next = *slot;
	*slot = c;
	order_append(t, c);
}

void flow_table_touch(struct flow_table *t, struct connection *c)
{
	order_remove(t, c);
	order_append(t, c);
}

void flow_table_forget(struct flow_table *t, struct connection *c)
{
	struct connection **at = slot_of(t, &c->caller.client, &c->caller.local);

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	order_remove(t, c);
}

struct connection *flow_table_idle(const struct flow_table *t)
{
	struct connection *c = t->oldest;

	while (c && c->phase != PHASE_SERVED)
		c = c->phase == PHASE_RUN ? NULL : c->newer;
	return c;
}
