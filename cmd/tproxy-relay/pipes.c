/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/pipes.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define IDLE_MAX 8    /* keep no more than this for later */
#define BACKOFF	 1000 /* requests to skip after the kernel has refused one */

static void destroy(struct pipes *p, struct pipe *pipe)
{
	close(pipe->from);
	close(pipe->to);
	free(pipe);
	p->open--;
}

/* #syscalls upstream: pipe2, fcntl(F_SETPIPE_SZ) */
static struct pipe *make(struct pipes *p)
{
	struct pipe *pipe = malloc(sizeof(*pipe));
	int ends[2];

	if (!pipe)
		return NULL;
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) {
		free(pipe);
		return NULL;
	}
	*pipe = (struct pipe){ .from = ends[0], .to = ends[1] };
	p->open++;
	if (fcntl(pipe->to, F_SETPIPE_SZ, PIPES_SIZE) >= PIPES_SIZE)
		return pipe;
	destroy(p, pipe);
	return NULL;
}

struct pipe *pipes_take(struct pipes *p)
{
	struct pipe *pipe = p->pool;

	if (pipe) {
		p->pool = pipe->next;
		p->idle--;
		return pipe;
	}
	if (p->open >= p->limit || (p->backoff && p->backoff--))
		return NULL;
	pipe = make(p);
	if (!pipe)
		p->backoff = BACKOFF;
	return pipe;
}

void pipes_give(struct pipes *p, struct pipe *pipe)
{
	p->backoff = 0;
	if (pipe->held || p->idle >= IDLE_MAX) {
		destroy(p, pipe);
		return;
	}
	pipe->next = p->pool;
	p->pool = pipe;
	p->idle++;
}

unsigned pipes_drop(struct pipes *p)
{
	unsigned dropped = 0;

	while (p->pool) {
		struct pipe *pipe = p->pool;

		p->pool = pipe->next;
		destroy(p, pipe);
		dropped++;
	}
	p->idle = 0;
	return dropped;
}
