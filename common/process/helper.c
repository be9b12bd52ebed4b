/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/helper.h"

#include "base/libc.h"
#include "process/confine.h"
#include "process/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's end of the channel. */
#define CHANNEL 3

#define KEEP_MAX 4 /* capabilities of a role */

/* How the start went. */
struct outcome {
	int result;
	struct failure why;
};

/* #syscalls base: send */
static int send_whole(int channel, const void *message, size_t size)
{
	ssize_t sent;

	do
		sent = send(channel, message, size, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -1 : 0;
}

/* ---- the helper's side ---- */

/* A surplus descriptor would keep a socket open, or the reader of the records waiting. */
static int keep_descriptors(int channel, struct failure *why)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return report_fail(why, errno, "open", "/dev/null");
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return report_fail(why, errno, "dup2", "/dev/null");
	if (channel != CHANNEL && dup2(channel, CHANNEL) < 0)
		return report_fail(why, errno, "dup2", "channel");
	if (close_range(CHANNEL + 1, ~0u, 0) < 0)
		return report_fail(why, errno, "close_range", "descriptors");
	if (fcntl(CHANNEL, F_SETFD, FD_CLOEXEC) < 0)
		return report_fail(why, errno, "fcntl", "channel");
	return 0;
}

/* These signals are for the process that the helper belongs to: the helper ends when that process
 * does. */
static void ignore_signals(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGPIPE };
	sigset_t none;

	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		signal(signals[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int enter_sandbox(const struct helper_role *role, const void *context, struct failure *why)
{
	if (!role->reads && confine_enter(role->directory ? role->directory(context) : -1, why) < 0)
		return -1;
	return sandbox_enter(role->sandbox, why);
}

/* The capabilities that it keeps, and those that its confinement needs. */
static int drop_privileges(const struct helper_role *role, struct failure *why)
{
	int keep[KEEP_MAX + 1], confine = role->sandbox && !role->reads ? confine_capability() : -1;
	size_t count = role->kept < KEEP_MAX ? role->kept : KEEP_MAX;

	for (size_t i = 0; i < count; i++)
		keep[i] = role->keep[i];
	if (confine >= 0)
		keep[count++] = confine;
	return privilege_drop(role->user, keep, count, why);
}

static int set_up(const struct helper_role *role, void *context, struct failure *why)
{
	prctl(PR_SET_NAME, role->name);
	ignore_signals();
	if (role->prepare && role->prepare(context, why) < 0)
		return -1;
	if (!role->whole && drop_privileges(role, why) < 0)
		return -1;
	if (role->sandbox && enter_sandbox(role, context, why) < 0)
		return -1;
	return role->begin ? role->begin(context, why) : 0;
}

static _Noreturn void be_helper(const struct helper_role *role, void *context, int channel)
{
	struct outcome outcome = { 0 };

	outcome.result = keep_descriptors(channel, &outcome.why);
	if (outcome.result == 0) {
		channel = CHANNEL;
		outcome.result = set_up(role, context, &outcome.why);
	}
	if (send_whole(channel, &outcome, sizeof(outcome)) == 0 && outcome.result == 0)
		role->run(channel, context);
	_exit(0);
}

int helper_answer(int channel, const void *answer, size_t size)
{
	return send_whole(channel, answer, size);
}

/* #syscalls base: recv */
size_t helper_receive(int channel, void *request, size_t room)
{
	ssize_t got;

	do
		got = recv(channel, request, room, MSG_TRUNC);
	while (got < 0 && errno == EINTR);
	return got > 0 && (size_t)got <= room ? (size_t)got : 0;
}

/* ---- this side ---- */

ssize_t helper_wait(int channel, void *answer, size_t room)
{
	ssize_t got;

	do
		got = recv(channel, answer, room, 0);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		errno = EPIPE;
	return got > 0 ? got : -1;
}

ssize_t helper_ask(int channel, const void *request, size_t size, void *answer, size_t room)
{
	if (send_whole(channel, request, size) < 0)
		return -1;
	return helper_wait(channel, answer, room);
}

/* #syscalls base: shutdown, poll, recv, close */
void helper_end(int channel)
{
	struct pollfd p = { .fd = channel, .events = POLLIN };
	char left[64];

	if (channel < 0)
		return;
	shutdown(channel, SHUT_WR);
	while (poll(&p, 1, HELPER_TIMEOUT_MS) > 0 && recv(channel, left, sizeof(left), 0) > 0)
		;
	close(channel);
}

/* How it started. The helper has more rights than this process will have, so we trust its
 * answer. */
static int await(int channel, const struct helper_role *role, struct failure *why)
{
	struct outcome outcome;
	ssize_t got = helper_wait(channel, &outcome, sizeof(outcome));

	if (got != (ssize_t)sizeof(outcome))
		return report_fail(why, got < 0 ? errno : EPROTO, "recv", "%s", role->name);
	if (outcome.result < 0 && why)
		*why = outcome.why;
	return outcome.result;
}

static int set_timeout(int channel, struct failure *why)
{
	const struct timeval timeout = { .tv_sec = HELPER_TIMEOUT_MS / 1000 };

	if (setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return report_fail(why, errno, "setsockopt(SO_RCVTIMEO)", "channel");
	return 0;
}

int helper_start(const struct helper_role *role, void *context, struct failure *why)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return report_fail(why, errno, "socketpair", "%s", role->name);
	pid = fork();
	if (pid == 0)
		be_helper(role, context, ends[1]);
	close(ends[1]);
	if (pid < 0)
		report_fail(why, errno, "fork", "%s", role->name);
	else if (await(ends[0], role, why) == 0 && set_timeout(ends[0], why) == 0)
		return ends[0];
	close(ends[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return -1;
}

/* ---- a helper for several threads ---- */

int helper_link_start(struct helper_link *link, const struct helper_role *role, void *context,
		      struct failure *why)
{
	pthread_mutex_init(&link->lock, NULL);
	link->late = false;
	link->channel = helper_start(role, context, why);
	return link->channel < 0 ? -1 : 0;
}

/* An answer has come, or what recv() says instead. Is it whole? */
static bool judge(struct helper_link *link, ssize_t got, size_t room)
{
	if (got == (ssize_t)room)
		return true;
	link->late = got < 0 && errno == EAGAIN;
	if (!link->late) {
		close(link->channel);
		link->channel = -1;
	}
	return false;
}

/* Take the late answer off the channel, if it has come. */
static bool has_caught_up(struct helper_link *link, void *answer, size_t room)
{
	if (!link->late)
		return true;
	link->late = false;
	return judge(link, recv(link->channel, answer, room, MSG_DONTWAIT), room);
}

static bool ask_locked(struct helper_link *link, const void *request, size_t size, void *answer,
		       size_t room)
{
	if (link->channel < 0 || !has_caught_up(link, answer, room))
		return false;
	return judge(link, helper_ask(link->channel, request, size, answer, room), room);
}

bool helper_link_ask(struct helper_link *link, const void *request, size_t size, void *answer,
		     size_t room)
{
	bool answered;

	pthread_mutex_lock(&link->lock);
	answered = ask_locked(link, request, size, answer, room);
	pthread_mutex_unlock(&link->lock);
	return answered;
}

void helper_link_end(struct helper_link *link)
{
	helper_end(link->channel);
	pthread_mutex_destroy(&link->lock);
}
