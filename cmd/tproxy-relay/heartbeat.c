/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/heartbeat.h"

#include "base/container.h"
#include "process/watchdog.h"

static bool pass_on(struct worker *w, void *context)
{
	return true;
}

static void handle_return(void *context)
{
	struct heartbeat *h = context;

	h->pending = false;
	watchdog_feed();
}

static void handle_timer(struct loop *loop, struct loop_timer *timer)
{
	struct heartbeat *h = container_of(timer, struct heartbeat, timer);

	loop_arm(loop, timer, h->interval);
	if (h->pending)
		return;
	h->pending = true;
	relay_for_each_worker(h->relay, &h->visit);
}

void heartbeat_start(struct heartbeat *h, struct relay *relay)
{
	h->relay = relay;
	h->timer.alarm = handle_timer;
	h->visit = (struct relay_visit){ .visit = pass_on, .done = handle_return, .context = h };
	h->interval = watchdog_interval();
	if (h->interval)
		loop_arm(relay->workers[0].host.loop, &h->timer, h->interval);
}
