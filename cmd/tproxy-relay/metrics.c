/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Worker 0's timer collects the stats and prints them to memory; a file_helper writes the text. If
 * it is still busy with the last text, this one is skipped: a slow disk costs freshness, nothing
 * else.
 *
 * While one relay takes over from another, both have the same path. The draining one stops writing
 * once the other has written there.
 */
#include "tproxy-relay/metrics.h"

#include "base/container.h"
#include "tproxy-relay/file_helper.h"
#include "tproxy-relay/stats.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct metrics {
	struct relay *relay;
	struct stats stats;
	struct loop_timer timer;
	struct file_helper *helper;
};

/* Without memory for a new text, the last one stays. */
static void write_text(struct stats *stats, void *context)
{
	struct metrics *m = context;
	size_t length = 0;
	char *text = stats_print(stats, &length);

	if (text)
		file_helper_write(m->helper, text, length, m->relay->phase >= RELAY_DRAINING);
	free(text);
}

static void handle_timer(struct loop *loop, struct loop_timer *timer)
{
	struct metrics *m = container_of(timer, struct metrics, timer);

	stats_collect(&m->stats, m->relay, write_text, m);
	loop_arm(loop, timer, METRICS_SECONDS * 1000);
}

/* A rename would also replace a device, or an empty directory. */
static int check_path(const char *path, struct failure *why)
{
	struct stat st;

	if (*path && (lstat(path, &st) < 0 || S_ISREG(st.st_mode)))
		return 0;
	report_refuse(why, *path ? "exists and is not a regular file" : "is no path");
	return report_about(why, "--metrics-file %s", path);
}

/* Start the helper with the first text, so that errors are reported before the relay is ready. */
static struct file_helper *start_helper(struct metrics *m, const char *path,
					const struct privilege_user *user, struct failure *why)
{
	struct file_helper_task task = {
		.option = "--metrics-file",
		.path = path,
		.user = user,
		.sandbox = m->relay->sandbox,
	};
	struct file_helper *helper;
	char *text;

	stats_collect_now(&m->stats, m->relay);
	text = stats_print(&m->stats, &task.length);
	task.text = text;
	helper = file_helper_new(&task, why);
	free(text);
	return helper;
}

struct metrics *metrics_new(struct relay *relay, const char *path,
			    const struct privilege_user *user, struct failure *why)
{
	struct metrics *m;

	if (check_path(path, why) < 0)
		return NULL;
	m = calloc(1, sizeof(*m));
	if (!m) {
		report_fail(why, ENOMEM, "malloc", "--metrics-file %s", path);
		return NULL;
	}
	m->relay = relay;
	m->timer.alarm = handle_timer;
	m->helper = start_helper(m, path, user, why);
	if (!m->helper) {
		free(m);
		return NULL;
	}
	loop_arm(relay->workers[0].host.loop, &m->timer, METRICS_SECONDS * 1000);
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	loop_disarm(m->relay->workers[0].host.loop, &m->timer);
	stats_collect_now(&m->stats, m->relay);
	write_text(&m->stats, m);
	file_helper_free(m->helper);
	free(m);
}
