/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/proxyproto_wait.h"

#include "base/container.h"
#include <stddef.h>

void proxyproto_wait_end(struct loop *loop, struct proxyproto_wait *g)
{
	loop_disarm(loop, &g->timer);
	loop_forget(loop, &g->source);
	proxyproto_drop(&g->begun);
}

/* Look at what has arrived. False while it is not enough. */
static bool look(struct loop *loop, struct proxyproto_wait *g)
{
	struct proxyproto_header header;
	struct failure why = { 0 };
	char text[512];
	int found = proxyproto_receive(g->source.fd, &g->begun, &header, &why);

	if (found == 0)
		return false;
	proxyproto_wait_end(loop, g);
	if (found > 0)
		g->done(loop, g, &header, NULL);
	else
		g->done(loop, g, NULL, report_text(&why, text, sizeof(text)));
	return true;
}

static void handle_bytes(struct loop *loop, struct loop_source *source, uint32_t events)
{
	look(loop, container_of(source, struct proxyproto_wait, source));
}

static void handle_late(struct loop *loop, struct loop_timer *timer)
{
	struct proxyproto_wait *g = container_of(timer, struct proxyproto_wait, timer);
	bool begun = g->begun;

	proxyproto_wait_end(loop, g);
	g->done(loop, g, NULL, begun ? "not complete within 3 s" : "none within 3 s");
}

/* A proxy sends the header as soon as it may, so it is often there already. */
int proxyproto_wait_await(struct loop *loop, struct proxyproto_wait *g, int fd,
			  proxyproto_wait_handler *done)
{
	*g = (struct proxyproto_wait){
		.source = { .handler = handle_bytes, .fd = fd },
		.timer = { .alarm = handle_late },
		.done = done,
	};
	if (look(loop, g))
		return 0;
	if (loop_watch(loop, &g->source, EPOLLIN) < 0) {
		proxyproto_wait_end(loop, g);
		return -1;
	}
	loop_arm(loop, &g->timer, PROXYPROTO_TIME_MS);
	return 0;
}
