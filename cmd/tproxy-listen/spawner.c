/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Requests come over the helper's channel and are answered at once, except for signals. The ends of
 * commands are reported through a pipe, whose write end comes with the first request: the service
 * reads it when it likes. While the pipe is full dead children are not reaped, so nothing is lost
 * and nobody waits.
 */
#include "tproxy-listen/spawner.h"

#include "process/helper.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS 256

enum kind { KIND_PIPE, KIND_CHECK, KIND_RUN, KIND_SIGNAL };

struct request {
	enum kind kind;
	int signo;
	struct spawner_job job;
};

struct answer {
	pid_t pid;
	struct failure why;
};

struct spawner {
	int channel, ends;
};

/* A running command. */
struct run {
	struct run *next;
	uint64_t id;
	pid_t pid;
};

/* The helper's state. */
struct state {
	struct command *command;
	size_t max, count;
	int channel, ends;
	int deaths; /* a signalfd */
	bool reaps; /* a child may have died */
	struct run *slots[SLOTS];
};

/* ---- the helper: who runs ---- */

static struct run **slot_of(struct state *s, pid_t pid)
{
	return &s->slots[(unsigned)pid % SLOTS];
}

static void add(struct state *s, struct run *run)
{
	struct run **slot = slot_of(s, run->pid);

	run->next = *slot;
	*slot = run;
	s->count++;
}

static struct run *take(struct state *s, pid_t pid)
{
	for (struct run **at = slot_of(s, pid); *at; at = &(*at)->next) {
		struct run *run = *at;

		if (run->pid != pid)
			continue;
		*at = run->next;
		s->count--;
		return run;
	}
	return NULL;
}

static void signal_all(struct state *s, int signo)
{
	if (signo != SIGTERM && signo != SIGKILL)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		for (const struct run *run = s->slots[i]; run; run = run->next)
			kill(-run->pid, signo);
}

/* ---- the helper: requests ---- */

static bool is_family(const struct endpoint *e, bool or_none)
{
	return e->family == AF_INET || e->family == AF_INET6 || (or_none && e->family == AF_UNSPEC);
}

/* Is it a valid request of the service? */
static bool is_job(const struct spawner_job *job)
{
	return (job->protocol == IPPROTO_TCP || job->protocol == IPPROTO_UDP) &&
	       is_family(&job->client, false) && is_family(&job->local, true) &&
	       is_family(&job->origdst, true) && job->origin >= ORIGIN_NONE &&
	       job->origin <= ORIGIN_PROXY;
}

static pid_t start(struct state *s, const struct spawner_job *job, int fd, struct failure *why)
{
	const struct command_peer peer = {
		.protocol = job->protocol,
		.client = job->client,
		.local = job->local,
		.origdst = job->origdst,
		.origdst_by = transparent_origin_name(job->origin),
		.mark = job->mark,
		.cookie = job->cookie,
	};
	struct run *run = malloc(sizeof(*run));

	if (!run)
		return report_fail(why, ENOMEM, "malloc", "%s", s->command->path);
	run->id = job->id;
	run->pid = command_spawn(s->command, &peer, fd, why);
	if (run->pid >= 0) {
		add(s, run);
		return run->pid;
	}
	free(run);
	return -1;
}

static void handle_run(struct state *s, const struct spawner_job *job, int fd)
{
	struct answer answer = { .pid = -1 };

	if (fd < 0 || !is_job(job) || s->count >= s->max)
		report_fail(&answer.why, EINVAL, "spawner", "%s", s->command->path);
	else
		answer.pid = start(s, job, fd, &answer.why);
	helper_answer(s->channel, &answer, sizeof(answer));
}

static void handle_check(struct state *s)
{
	struct answer answer = { .pid = 0 };

	answer.pid = command_check(s->command, &answer.why);
	helper_answer(s->channel, &answer, sizeof(answer));
}

/* Receive the next request, with its descriptor, or -1. False: there are no more. */
static bool receive(struct state *s, struct request *request, int *fd)
{
	struct iovec data = { request, sizeof(*request) };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got;
	struct cmsghdr *c;

	do
		got = recvmsg(s->channel, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	*fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return got == sizeof(*request);
}

/* False: the service is gone, or sends invalid requests. */
static bool serve(struct state *s)
{
	struct request request;
	int fd;

	if (!receive(s, &request, &fd))
		return false;
	if (request.kind == KIND_PIPE && s->ends < 0) {
		s->ends = fd;
		return fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
	}
	if (request.kind == KIND_RUN)
		handle_run(s, &request.job, fd);
	else if (request.kind == KIND_CHECK)
		handle_check(s);
	else if (request.kind == KIND_SIGNAL)
		signal_all(s, request.signo);
	else
		return false;
	if (fd >= 0)
		close(fd);
	return true;
}

/* ---- the helper: who has ended ---- */

/* Reap one child at a time, while there is room in the pipe. */
static void reap(struct state *s)
{
	struct spawner_end end;
	pid_t pid = waitpid(-1, &end.status, WNOHANG);
	struct run *run = pid > 0 ? take(s, pid) : NULL;

	s->reaps = pid > 0;
	if (!run)
		return;
	end.id = run->id;
	free(run);
	if (write(s->ends, &end, sizeof(end)) != sizeof(end)) /* poll() has reported room */
		report_warning("%s: an end could not be told: %s", s->command->path,
			       strerror(errno));
}

static int prepare(void *context, struct failure *why)
{
	struct state *s = context;
	sigset_t deaths;

	signal(SIGCHLD, SIG_DFL); /* if it is ignored, as some parents leave it, it never comes */
	sigemptyset(&deaths);
	sigaddset(&deaths, SIGCHLD);
	sigprocmask(SIG_BLOCK, &deaths, NULL);
	s->deaths = signalfd(-1, &deaths, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->deaths < 0 ? report_fail(why, errno, "signalfd", "SIGCHLD") : 0;
}

static void run(int channel, void *context)
{
	struct state *s = context;
	struct signalfd_siginfo info;

	s->channel = channel;
	for (;;) {
		struct pollfd p[] = {
			{ .fd = channel, .events = POLLIN },
			{ .fd = s->deaths, .events = POLLIN },
			{ .fd = s->reaps ? s->ends : -1, .events = POLLOUT },
		};

		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents && read(s->deaths, &info, sizeof(info)) > 0)
			s->reaps = true;
		if (p[2].revents & POLLOUT)
			reap(s);
		if (p[0].revents && !serve(s))
			return;
	}
}

/* ---- this side ---- */

/* Send a request, with a descriptor or -1.
 * #syscalls commands: sendmsg */
static int tell(const struct spawner *s, const struct request *request, int fd)
{
	struct iovec data = { (void *)request, sizeof(*request) };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
	ssize_t sent;

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS,
						  .cmsg_len = CMSG_LEN(sizeof(fd)) };
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	}
	do
		sent = sendmsg(s->channel, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -1 : 0;
}

static pid_t ask(const struct spawner *s, const struct request *request, int fd,
		 struct failure *why)
{
	struct answer answer;

	if (tell(s, request, fd) < 0 ||
	    helper_wait(s->channel, &answer, sizeof(answer)) != sizeof(answer))
		return report_fail(why, errno, "spawner", "command");
	if (answer.pid < 0 && why)
		*why = answer.why;
	return answer.pid;
}

/* Give the helper the pipe. There is no time limit for a start: that depends on the command's file
 * system. */
static int connect_ends(struct spawner *s, struct failure *why)
{
	const struct request request = { .kind = KIND_PIPE };
	const struct timeval no_limit = { 0 };
	int ends[2], result;

	if (setsockopt(s->channel, SOL_SOCKET, SO_RCVTIMEO, &no_limit, sizeof(no_limit)) < 0)
		return report_fail(why, errno, "setsockopt(SO_RCVTIMEO)", "spawner");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return report_fail(why, errno, "pipe2", "spawner");
	s->ends = ends[0];
	result = tell(s, &request, ends[1]);
	if (result < 0)
		report_fail(why, errno, "sendmsg", "spawner");
	close(ends[1]);
	if (result == 0 && fcntl(s->ends, F_SETFL, O_NONBLOCK) < 0)
		return report_fail(why, errno, "fcntl", "spawner");
	return result;
}

struct spawner *spawner_new(struct command *command, const struct privilege_user *user, size_t max,
			    struct failure *why)
{
	const struct helper_role role = {
		.name = "tproxy-spawner",
		.prepare = prepare,
		.user = user,
		.whole = !user,
		.run = run,
	};
	struct state state = { .command = command, .max = max, .ends = -1 };
	struct spawner *s = malloc(sizeof(*s));

	if (!s) {
		report_fail(why, ENOMEM, "malloc", "spawner");
		return NULL;
	}
	s->ends = -1;
	s->channel = helper_start(&role, &state, why);
	if (s->channel >= 0 && connect_ends(s, why) == 0)
		return s;
	spawner_free(s);
	return NULL;
}

int spawner_check(struct spawner *s, struct failure *why)
{
	const struct request request = { .kind = KIND_CHECK };

	return ask(s, &request, -1, why);
}

pid_t spawner_run(struct spawner *s, const struct spawner_job *job, int fd, struct failure *why)
{
	const struct request request = { .kind = KIND_RUN, .job = *job };

	return ask(s, &request, fd, why);
}

void spawner_signal(struct spawner *s, int signo)
{
	const struct request request = { .kind = KIND_SIGNAL, .signo = signo };

	if (s)
		tell(s, &request, -1);
}

int spawner_fd(const struct spawner *s)
{
	return s->ends;
}

int spawner_take_end(struct spawner *s, struct spawner_end *end)
{
	ssize_t got = read(s->ends, end, sizeof(*end));

	if (got == sizeof(*end))
		return 1;
	return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

void spawner_free(struct spawner *s)
{
	if (!s)
		return;
	helper_end(s->channel);
	if (s->ends >= 0)
		close(s->ends);
	free(s);
}
