/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/backlog.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <time.h>

#define LOOKS	 5
#define PAUSE_MS 100

struct queue {
	uint64_t cookie;
	uint32_t waiting, room;
};

static int look_at_queue(const struct sockdiag_socket *s, void *context)
{
	struct queue *q = context;

	if (s->cookie != q->cookie)
		return 0;
	q->waiting = s->rqueue;
	q->room = s->wqueue;
	return 1;
}

unsigned backlog_waiting(struct sockdiag *diag, const struct sockdiag_socket *listener,
			 struct holder *holder, uint32_t *room)
{
	const struct sockdiag_filter filter = { .protocol = IPPROTO_TCP,
						.states = 1U << TCP_LISTEN };
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	struct queue q = { .cookie = listener->cookie };
	unsigned least = listener->rqueue;

	for (int i = 0; i < LOOKS && least; i++) {
		nanosleep(&pause, NULL);
		q.waiting = 0;
		sockdiag_dump(diag, &filter, look_at_queue, &q, NULL);
		holder_refresh(holder);
		if (q.waiting < least)
			least = holder->state == 'R' ? 0 : q.waiting;
		if (holder->state == 'R')
			least = 0;
	}
	*room = q.room;
	return least;
}
