/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Worker 0's timer has the stats collected and prints them to memory; the writer takes the newest text
 * and writes it. If it is still busy with the last one, that one is replaced: a slow disk costs
 * freshness, nothing else.
 *
 * While one relay takes over from another both have the same path. The one that is draining leaves it
 * alone once the other has written there.
 */
#include "tproxy-relay/metrics.h"

#include "base/container.h"
#include "tproxy-relay/stats.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FAREWELL_SECONDS 1 /* then a writer that hangs is left behind */

struct metrics {
	struct relay *relay;
	const char *path;
	char *draft; /* the name under which it is written */
	metrics_tell *tell;
	struct stats stats;
	struct loop_timer timer;
	pthread_t thread;
	pthread_mutex_t lock; /* guards text, length, stop */
	pthread_cond_t news;
	char *text; /* to be written; NULL: nothing */
	size_t length;
	bool stop;
	/* The writer's own. */
	bool failed;
	dev_t device; /* of the file last written */
	ino_t inode;
};

/* ---- the file ---- */

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

/* Write the draft. What a relay of the same pid left behind there, after a crash, goes. */
static int write_draft(struct metrics *m, const char *text, size_t length, struct stat *st,
		       struct failure *why)
{
	int fd, err = 0;

	unlink(m->draft);
	fd = open(m->draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return report_fail(why, errno, "open", "--metrics-file %s", m->path);
	if (fchmod(fd, 0644) < 0 || write_all(fd, text, length) < 0 || fstat(fd, st) < 0)
		err = errno;
	if (close(fd) < 0 && !err)
		err = errno;
	return err ? report_fail(why, err, "write", "--metrics-file %s", m->path) : 0;
}

static int replace(struct metrics *m, const char *text, size_t length, struct failure *why)
{
	struct stat st = { 0 };

	if (write_draft(m, text, length, &st, why) < 0) {
		unlink(m->draft);
		return -1;
	}
	if (rename(m->draft, m->path) < 0) {
		report_fail(why, errno, "rename", "--metrics-file %s", m->path);
		unlink(m->draft);
		return -1;
	}
	m->device = st.st_dev;
	m->inode = st.st_ino;
	return 0;
}

/* Has a successor the path? */
static bool is_taken(const struct metrics *m)
{
	struct stat st;

	return m->relay->phase >= RELAY_DRAINING && m->inode && stat(m->path, &st) == 0 &&
	       (st.st_dev != m->device || st.st_ino != m->inode);
}

static void write_file(struct metrics *m, const char *text, size_t length)
{
	struct failure why;

	if (is_taken(m))
		return;
	if (replace(m, text, length, &why) < 0) {
		if (!m->failed)
			m->tell(m->path, &why);
		m->failed = true;
		return;
	}
	if (m->failed)
		m->tell(m->path, NULL);
	m->failed = false;
}

static void *run_writer(void *context)
{
	struct metrics *m = context;

	pthread_mutex_lock(&m->lock);
	for (;;) {
		char *text = m->text;
		size_t length = m->length;

		m->text = NULL;
		if (text) {
			pthread_mutex_unlock(&m->lock);
			write_file(m, text, length);
			free(text);
			pthread_mutex_lock(&m->lock);
		} else if (m->stop) {
			break;
		} else {
			pthread_cond_wait(&m->news, &m->lock);
		}
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* ---- what is to be written ---- */

/* Without memory for a text the last one stays. */
static void hand_over(struct metrics *m, const struct stats *f, bool last)
{
	size_t length = 0;
	char *text = stats_print(f, &length);

	pthread_mutex_lock(&m->lock);
	if (text) {
		free(m->text);
		m->text = text;
		m->length = length;
	}
	m->stop = last;
	pthread_cond_signal(&m->news);
	pthread_mutex_unlock(&m->lock);
}

static void handle_stats(struct stats *f, void *context)
{
	hand_over(context, f, false);
}

static void handle_timer(struct loop *loop, struct loop_timer *timer)
{
	struct metrics *m = container_of(timer, struct metrics, timer);

	stats_collect(&m->stats, m->relay, handle_stats, m);
	loop_arm(loop, timer, METRICS_SECONDS * 1000);
}

/* ---- life ---- */

/* A rename would replace a device, or a directory that is empty, too. */
static int check_path(const char *path, struct failure *why)
{
	struct stat st;

	if (*path && (lstat(path, &st) < 0 || S_ISREG(st.st_mode)))
		return 0;
	report_refuse(why, *path ? "exists and is not a regular file" : "is no path");
	return report_about(why, "--metrics-file %s", path);
}

static void destroy(struct metrics *m)
{
	pthread_cond_destroy(&m->news);
	pthread_mutex_destroy(&m->lock);
	free(m->text);
	free(m->draft);
	free(m);
}

static struct metrics *make(struct relay *relay, const char *path, metrics_tell *tell)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	if (asprintf(&m->draft, "%s.%d", path, (int)getpid()) < 0) {
		free(m);
		return NULL;
	}
	m->relay = relay;
	m->path = path;
	m->tell = tell;
	m->timer.alarm = handle_timer;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->news, NULL);
	return m;
}

/* The first time before there is a writer, so that trouble is told before the relay is ready. */
static void write_first(struct metrics *m)
{
	size_t length;
	char *text;

	stats_collect_now(&m->stats, m->relay);
	text = stats_print(&m->stats, &length);
	if (text)
		write_file(m, text, length);
	free(text);
}

struct metrics *metrics_new(struct relay *relay, const char *path, metrics_tell *tell,
			    struct failure *why)
{
	struct metrics *m;
	int err;

	if (check_path(path, why) < 0)
		return NULL;
	m = make(relay, path, tell);
	if (!m) {
		report_fail(why, ENOMEM, "malloc", "--metrics-file %s", path);
		return NULL;
	}
	write_first(m);
	err = pthread_create(&m->thread, NULL, run_writer, m);
	if (err) {
		report_fail(why, err, "pthread_create", "--metrics-file %s", path);
		destroy(m);
		return NULL;
	}
	loop_arm(relay->workers[0].host.loop, &m->timer, METRICS_SECONDS * 1000);
	return m;
}

void metrics_free(struct metrics *m)
{
	struct timespec until;

	if (!m)
		return;
	loop_disarm(m->relay->workers[0].host.loop, &m->timer);
	stats_collect_now(&m->stats, m->relay);
	hand_over(m, &m->stats, true);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += FAREWELL_SECONDS;
	if (pthread_timedjoin_np(m->thread, NULL, &until) == 0)
		destroy(m);
}
