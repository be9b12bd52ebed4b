/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/record_output.h"
#include "base/container.h"

#define NOTICE_MS 1000 /* report longer waits */
#define PAUSE_MS  2000 /* how long a reader may take nothing in a hurry */

static void lose_reader(struct record_output *o)
{
	loop_forget(o->loop, &o->source);
	if (o->gone)
		return;
	o->gone = true;
	if (o->ops->gone)
		o->ops->gone(o);
}

/* Poll for room, for the reader's end only, or for nothing. */
static void watch(struct record_output *o, bool more)
{
	if (more)
		loop_watch(o->loop, &o->source, EPOLLOUT);
	else if (o->watches_reader)
		loop_watch(o->loop, &o->source, 0);
	else
		loop_forget(o->loop, &o->source);
}

void record_output_flush(struct record_output *o)
{
	struct failure why;
	bool more;

	if (!o->stream)
		return;
	more = record_stream_flush(o->stream);
	if (record_stream_trouble(o->stream, &why) && o->ops->trouble)
		o->ops->trouble(&why);
	if (record_stream_is_broken(o->stream))
		lose_reader(o);
	else
		watch(o, more);
}

static void tell_ready(struct record_output *o)
{
	if (o->ops->ready)
		o->ops->ready(o);
}

static void handle_output(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct record_output *o = container_of(source, struct record_output, source);

	if (events & (EPOLLERR | EPOLLHUP))
		lose_reader(o);
	else
		record_output_flush(o);
	if (!record_output_is_congested(o))
		tell_ready(o);
}

static void give_up(struct record_output *o)
{
	loop_disarm(o->loop, &o->timer);
	o->over = true;
	tell_ready(o);
}

/* When to look next. The caller may have ended thousands of connections in this turn. */
static void arm(struct record_output *o)
{
	uint64_t next = o->hurries ? PAUSE_MS : o->told ? UINT64_MAX : NOTICE_MS, now, left;

	loop_update_clock(o->loop);
	now = loop_now(o->loop);
	left = o->deadline > now ? o->deadline - now : 0;
	o->written = record_stream_written(o->stream);
	loop_arm(o->loop, &o->timer, next < left ? next : left);
}

static void handle_timer(struct loop *loop, struct loop_timer *timer)
{
	struct record_output *o = container_of(timer, struct record_output, timer);
	uint64_t now = loop_now(loop);

	if (now >= o->deadline || (o->hurries && record_stream_written(o->stream) == o->written)) {
		give_up(o);
		return;
	}
	if (!o->told && !record_output_is_done(o) && o->ops->waiting)
		o->ops->waiting(record_stream_waiting(o->stream), o->deadline - now);
	o->told = true;
	arm(o);
}

void record_output_end(struct record_output *o, uint64_t ms)
{
	if (!o->stream || o->over || o->deadline)
		return;
	loop_update_clock(o->loop);
	o->deadline = loop_now(o->loop) + ms;
	arm(o);
}

void record_output_hurry(struct record_output *o)
{
	if (!o->stream || o->over)
		return;
	if (o->hurries) {
		give_up(o);
		return;
	}
	o->hurries = true;
	if (o->deadline)
		arm(o);
}

bool record_output_is_congested(struct record_output *o)
{
	return o->stream && !o->over && !o->gone && record_stream_is_congested(o->stream);
}

bool record_output_is_done(struct record_output *o)
{
	return !o->stream || o->over || o->gone || !record_stream_flush(o->stream);
}

void record_output_init(struct record_output *o, const struct record_output_ops *ops,
			struct loop *loop, struct record_stream *stream, bool watch_reader)
{
	*o = (struct record_output){
		.ops = ops,
		.stream = stream,
		.loop = loop,
		.source = { .handler = handle_output, .fd = -1 },
		.timer = { .alarm = handle_timer },
	};
	if (!stream)
		return;
	o->source.fd = record_stream_fd(stream);
	/* EPERM: a regular file, which never hangs up and is always ready. */
	o->watches_reader = watch_reader && loop_watch(loop, &o->source, 0) == 0;
}
