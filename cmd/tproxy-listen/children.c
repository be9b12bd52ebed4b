/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-listen/children.h"

#include <signal.h>
#include <sys/wait.h>

static struct child **slot_of(struct children *children, pid_t pid)
{
	return &children->slots[(unsigned)pid % CHILDREN_SLOTS];
}

void children_add(struct children *children, struct child *child, pid_t pid)
{
	struct child **slot = slot_of(children, pid);

	child->pid = pid;
	child->next = *slot;
	*slot = child;
	children->count++;
}

static struct child *take(struct children *children, pid_t pid)
{
	for (struct child **at = slot_of(children, pid); *at; at = &(*at)->next) {
		struct child *child = *at;

		if (child->pid != pid)
			continue;
		*at = child->next;
		children->count--;
		return child;
	}
	return NULL;
}

void children_reap(struct children *children, children_ended *ended, void *context)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *child = take(children, pid);

		if (child)
			ended(child, status, context);
	}
}

void children_signal(const struct children *children, int signo)
{
	for (size_t i = 0; i < CHILDREN_SLOTS; i++)
		for (const struct child *child = children->slots[i]; child; child = child->next)
			kill(-child->pid, signo);
}
