/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/helper.h"
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the helper is told at its start, and what it then does. */
struct context {
	bool fails_to_prepare, fails_to_begin;
	int seen; /* set in its copy only */
	int held; /* a descriptor of the other process */
};

static const struct privilege_user nobody_else = { 0 };

static int prepare(void *context, struct failure *why)
{
	struct context *c = context;

	c->seen = 1;
	return c->fails_to_prepare ? report_refuse(why, "cannot prepare") : 0;
}

static int begin(void *context, struct failure *why)
{
	struct context *c = context;

	c->seen++;
	return c->fails_to_begin ? report_fail(why, EACCES, "access", "that") : 0;
}

/* Answers `N`: how far it got, and whether it still has the descriptor. `hang` is not answered. */
static void run(int channel, void *context)
{
	struct context *c = context;
	char request[8];
	size_t size;

	while ((size = helper_receive(channel, request, sizeof(request))) > 0) {
		char answer[] = { (char)('0' + c->seen), fcntl(c->held, F_GETFD) < 0 ? 'n' : 'y' };

		if (size == 4 && memcmp(request, "hang", 4) == 0)
			pause();
		helper_answer(channel, answer, sizeof(answer));
	}
}

static const struct helper_role role = {
	.name = "test-helper",
	.prepare = prepare,
	.user = &nobody_else,
	.begin = begin,
	.run = run,
};

/* How long an answer is waited for: this is not about how busy the machine is. */
static void set_limit(int channel, int seconds)
{
	const struct timeval limit = { .tv_sec = seconds };

	CHECK(setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
}

static void test_answers(void)
{
	struct context context = { .held = fcntl(STDERR_FILENO, F_DUPFD, 10) };
	int channel = helper_start(&role, &context, NULL);
	char answer[8] = "";

	set_limit(channel, 60);
	CHECK(channel >= 0);
	CHECK(context.seen == 0);
	CHECK(helper_ask(channel, "what", 4, answer, sizeof(answer)) == 2);
	CHECK(strcmp(answer, "2n") == 0);
	helper_end(channel);
	CHECK(waitpid(-1, NULL, 0) > 0);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	close(context.held);
}

/* It says why, and leaves no zombie. */
static void test_failures(void)
{
	struct context one = { .fails_to_prepare = true }, other = { .fails_to_begin = true };
	struct failure why;

	CHECK(helper_start(&role, &one, &why) < 0);
	CHECK(strcmp(why.detail, "cannot prepare") == 0);
	CHECK(helper_start(&role, &other, &why) < 0);
	CHECK(why.err == EACCES && strcmp(why.call, "access") == 0);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

/* Signals that end a service are not for it; a request too long is the end, as is the other
 * end's. */
static void test_ends(void)
{
	struct context context = { .held = -1 };
	int channel = helper_start(&role, &context, NULL);
	char answer[8], large[100] = "";

	set_limit(channel, 60);
	for (int i = 0; i < 2; i++) {
		CHECK(helper_ask(channel, "x", 1, answer, sizeof(answer)) == 2);
		signal(SIGTERM, SIG_IGN);
		killpg(0, SIGTERM);
	}
	CHECK(helper_ask(channel, large, sizeof(large), answer, sizeof(answer)) < 0);
	CHECK(errno == EPIPE || errno == ECONNRESET);
	helper_end(channel);
	waitpid(-1, NULL, 0);
}

/* One that hangs is waited for as long as is said, and left behind. */
static void test_hangs(void)
{
	struct context context = { .held = -1 };
	int channel = helper_start(&role, &context, NULL);
	char answer[8];

	CHECK(helper_ask(channel, "hang", 4, answer, sizeof(answer)) < 0 && errno == EAGAIN);
	helper_end(channel);
	CHECK(waitpid(-1, NULL, WNOHANG) == 0);
}

/* `pid?` is answered with its own, anything else with the same. */
static void run_echo(int channel, void *context)
{
	char request[4];
	pid_t own = getpid();

	(void)context;
	while (helper_receive(channel, request, sizeof(request)) > 0) {
		if (memcmp(request, "pid?", sizeof(request)) == 0)
			memcpy(request, &own, sizeof(request));
		helper_answer(channel, request, sizeof(request));
	}
}

/* One that is late is asked again when it has answered, and that answer is nobody's. */
static void test_late(void)
{
	static const struct helper_role echo = {
		.name = "test-echo",
		.user = &nobody_else,
		.run = run_echo,
	};
	struct helper_link link;
	char answer[4];
	pid_t pid = 0;

	CHECK(helper_link_start(&link, &echo, NULL, NULL) == 0);
	set_limit(link.channel, 60);
	CHECK(helper_link_ask(&link, "pid?", 4, &pid, sizeof(pid)) && pid > 0);
	set_limit(link.channel, 1);
	kill(pid, SIGSTOP);
	CHECK(!helper_link_ask(&link, "one.", 4, answer, sizeof(answer)));
	CHECK(link.channel >= 0 && link.late);
	/* Nobody waits for it once more. */
	CHECK(!helper_link_ask(&link, "two.", 4, answer, sizeof(answer)));
	set_limit(link.channel, 60);
	kill(pid, SIGCONT);
	CHECK(poll(&(struct pollfd){ .fd = link.channel, .events = POLLIN }, 1, 60000) == 1);
	CHECK(helper_link_ask(&link, "tre.", 4, answer, sizeof(answer)));
	CHECK(memcmp(answer, "tre.", 4) == 0 && !link.late);
	/* One that has ended is gone. */
	kill(pid, SIGKILL);
	CHECK(!helper_link_ask(&link, "four", 4, answer, sizeof(answer)) && link.channel < 0);
	CHECK(!helper_link_ask(&link, "five", 4, answer, sizeof(answer)));
	helper_link_end(&link);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

/* Also one that hangs ends here: it leads no group of its own. */
static void end_all(void)
{
	int status = check_done();

	signal(SIGUSR2, SIG_IGN);
	killpg(0, SIGUSR2);
	while (waitpid(-1, NULL, 0) > 0)
		;
	exit(status);
}

int main(void)
{
	setpgid(0, 0);
	test_answers();
	test_failures();
	test_ends();
	test_late();
	test_hangs();
	end_all();
}
