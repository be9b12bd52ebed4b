/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/children.h"

static struct child **slot_of(struct children *children, uint64_t id)
{
	return &children->slots[id % CHILDREN_SLOTS];
}

void children_add(struct children *children, struct child *child, uint64_t id, pid_t pid)
{
	struct child **slot = slot_of(children, id);

	child->id = id;
	child->pid = pid;
	child->next = *slot;
	*slot = child;
	children->count++;
}

struct child *children_take(struct children *children, uint64_t id)
{
	for (struct child **at = slot_of(children, id); *at; at = &(*at)->next) {
		struct child *child = *at;

		if (child->id != id)
			continue;
		*at = child->next;
		children->count--;
		return child;
	}
	return NULL;
}
