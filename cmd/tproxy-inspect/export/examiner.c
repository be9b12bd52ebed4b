/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channel: a request is one byte. The answer is one message for each instance, then one that
 * says how it went.
 */
#include "tproxy-inspect/export/examiner.h"

#include "base/clock.h"
#include "base/record_parse.h"
#include "intercept/names.h"
#include "process/command.h"
#include "process/helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST 'e'

/* For one instance; tens of thousands of foreign rules take some seconds. */
#define LIMIT_MS 60000
#define TEXT_MAX (16U << 20)
#define PIECE	 65536

struct end {
	uint64_t took;
	uint32_t complete; /* 0: the instances could not be read */
};

struct examiner {
	int channel; /* -1: it has ended */
	uint64_t interval;
	bool begun, tried;
	uint64_t last; /* when it was tried for the last time */
	struct examiner_results results, next;
};

/* What the helper knows. */
struct practice {
	struct command doctor;
	char *argv[8];
	int channel;
};

/* ---- the helper: one checkup ---- */

static struct examiner_finding *find(struct checkup *x, const char *check, const char *severity)
{
	struct examiner_finding *f = x->at;

	while (f < x->at + x->count &&
	       (strcmp(f->check, check) != 0 || strcmp(f->severity, severity) != 0))
		f++;
	if (f < x->at + x->count)
		return f;
	if (x->count == EXAMINER_FINDINGS)
		return NULL;
	x->count++;
	snprintf(f->check, sizeof(f->check), "%s", check);
	snprintf(f->severity, sizeof(f->severity), "%s", severity);
	return f;
}

/* What goes between quotes in a metric. */
static bool is_plain(const char *word)
{
	return word && *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-")];
}

/* False: this is not what the doctor says. */
static bool take_line(struct checkup *x, const char *line, size_t length)
{
	struct record_texts texts;
	struct record r;
	struct examiner_finding *f;
	const char *check, *severity;

	if (length >= RECORD_LINE_MAX || record_parse_json(line, length, &r, &texts, NULL) < 0)
		return false;
	check = record_get_text(&r, RECORD_CHECK);
	severity = record_get_text(&r, RECORD_SEVERITY);
	if (!is_plain(check) || !is_plain(severity))
		return false;
	if (strcmp(severity, "ok") == 0)
		return true;
	f = find(x, check, severity);
	if (f)
		f->number++;
	return true;
}

static bool take_text(struct checkup *x, const char *text, size_t size)
{
	for (const char *end; size && (end = memchr(text, '\n', size)); text = end + 1) {
		if (!take_line(x, text, (size_t)(end - text)))
			return false;
		size -= (size_t)(end + 1 - text);
	}
	return size == 0;
}

/* Wait until there is something to read. False: the time is over, or nobody wants it any more. */
static bool wait_for_text(int fd, int channel, uint64_t until)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = channel } };
	uint64_t now = clock_ms();

	return now < until && poll(p, 2, (int)(until - now)) > 0 && !p[1].revents;
}

/* Read what it prints until it closes the pipe. NULL: that took too long, or too much memory. */
static char *read_all(int fd, int channel, size_t *size)
{
	uint64_t until = clock_ms() + LIMIT_MS;
	char *text = NULL;

	for (*size = 0;;) {
		char *grown = *size < TEXT_MAX ? realloc(text, *size + PIECE) : NULL;
		ssize_t got = -1;

		if (grown) {
			text = grown;
			if (wait_for_text(fd, channel, until))
				got = read(fd, text + *size, PIECE);
		}
		if (got == 0)
			return text;
		if (got < 0) {
			free(text);
			return NULL;
		}
		*size += (size_t)got;
	}
}

static void set_up_child(posix_spawn_file_actions_t *files, posix_spawnattr_t *how, int output)
{
	sigset_t all;

	sigfillset(&all);
	posix_spawn_file_actions_init(files);
	posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(how);
	posix_spawnattr_setsigdefault(how, &all); /* a helper ignores some */
	posix_spawnattr_setflags(how, POSIX_SPAWN_SETSIGDEF);
}

/* Returns its pid, or -1; what it prints comes from *output. */
static pid_t start_doctor(const struct practice *practice, int *output)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	int ends[2], err;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	set_up_child(&files, &how, ends[1]);
	err = posix_spawn(&pid, practice->doctor.path, &files, &how, practice->doctor.argv,
			  practice->doctor.environment);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&how);
	close(ends[1]);
	*output = ends[0];
	if (!err)
		return pid;
	close(ends[0]);
	return -1;
}

/* Its status is 1 if something is wrong, 0 if not. */
static bool has_answered(pid_t pid, bool whole)
{
	int status;

	if (!whole)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return whole && WIFEXITED(status) && WEXITSTATUS(status) <= STATUS_NO;
}

static void examine(struct practice *practice, struct checkup *x)
{
	char option[sizeof("--name=") + INTERCEPT_NAME_MAX], *text;
	size_t size = 0;
	int output;
	pid_t pid;

	snprintf(option, sizeof(option), "--name=%s", x->name);
	practice->argv[2] = option;
	pid = start_doctor(practice, &output);
	if (pid < 0)
		return;
	text = read_all(output, practice->channel, &size);
	close(output);
	x->answered = has_answered(pid, text != NULL) && take_text(x, text, size);
	if (!x->answered)
		x->count = 0;
	free(text);
}

/* ---- the helper: all instances ---- */

static int read_names(struct names *names)
{
	struct instance kernel;
	int err;

	if (instance_open(&kernel, NULL))
		return -1;
	err = names_read(&kernel, names, NULL);
	instance_close(&kernel);
	return err;
}

static int answer_all(int channel, struct practice *practice, const struct names *names)
{
	for (size_t i = 0; i < names->count; i++) {
		struct checkup x = { .answered = false };

		memcpy(x.name, names->at[i], sizeof(x.name));
		examine(practice, &x);
		if (helper_answer(channel, &x, sizeof(x)) < 0)
			return -1;
	}
	return 0;
}

static void run(int channel, void *context)
{
	struct practice *practice = context;
	char request;
	int result = 0;

	practice->channel = channel;
	while (result == 0 && helper_receive(channel, &request, 1) == 1 && request == REQUEST) {
		struct names names = { .count = 0 };
		struct end end = { .took = clock_ms() };

		end.complete = read_names(&names) == 0;
		if (end.complete)
			result = answer_all(channel, practice, &names);
		names_free(&names);
		end.took = clock_ms() - end.took;
		if (result == 0)
			result = helper_answer(channel, &end, sizeof(end));
	}
}

/* ---- this side ---- */

/* In PATH, or where a user's PATH does not lead. */
static int find_doctor(struct practice *practice, struct failure *why)
{
	static char places[][32] = { "tproxy-setup", "/usr/local/sbin/tproxy-setup",
				     "/usr/sbin/tproxy-setup" };
	static char command[] = "doctor", json[] = "--json";
	int result = -1;

	practice->argv[1] = command;
	practice->argv[3] = json;
	for (size_t i = 0; result < 0 && i < sizeof(places) / sizeof(*places); i++) {
		practice->argv[0] = places[i];
		result = command_find(&practice->doctor, practice->argv, i ? NULL : why);
	}
	return result;
}

struct examiner *examiner_new(uint64_t interval, struct failure *why)
{
	static const struct helper_role role = {
		.name = "tproxy-examine",
		.whole = true,
		.run = run,
	};
	struct practice practice = { 0 };
	struct examiner *e;

	if (find_doctor(&practice, why) < 0)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e) {
		report_fail(why, errno, "malloc", "%s", role.name);
	} else {
		e->interval = interval;
		e->channel = helper_start(&role, &practice, why);
	}
	command_free(&practice.doctor);
	if (e && e->channel >= 0)
		return e;
	free(e);
	return NULL;
}

void examiner_free(struct examiner *e)
{
	if (!e)
		return;
	if (e->channel >= 0)
		close(e->channel);
	free(e->results.at);
	free(e->next.at);
	free(e);
}

static int add(struct examiner_results *r, const struct checkup *x)
{
	struct checkup *grown = realloc(r->at, (r->count + 1) * sizeof(*grown));

	if (!grown)
		return -1;
	r->at = grown;
	grown[r->count++] = *x;
	return 0;
}

static void finish(struct examiner *e, const struct end *end)
{
	struct examiner_results old = e->results;

	e->last = clock_ms();
	e->tried = true;
	e->begun = false;
	if (end->complete) {
		e->results = e->next;
		e->results.known = true;
		e->results.ended = e->last;
		e->results.took = end->took;
	}
	free(end->complete ? old.at : e->next.at);
	e->next = (struct examiner_results){ 0 };
}

/* One that is no longer there, or says what no examiner says, is not asked again. */
static void lose(struct examiner *e)
{
	close(e->channel);
	e->channel = -1;
}

/* #syscalls collect: recv, send, close */
static bool take_message(struct examiner *e)
{
	union {
		struct checkup x;
		struct end end;
	} message;
	ssize_t got = recv(e->channel, &message, sizeof(message), MSG_DONTWAIT);

	if (got == sizeof(message.x) && add(&e->next, &message.x) == 0)
		return true;
	if (got == sizeof(message.end))
		finish(e, &message.end);
	else if (got >= 0 || (errno != EAGAIN && errno != EINTR))
		lose(e);
	return false;
}

static bool is_due(const struct examiner *e)
{
	return !e->begun && (!e->tried || clock_ms() - e->last >= e->interval);
}

const struct examiner_results *examiner_results(struct examiner *e)
{
	static const struct examiner_results none;
	const char request = REQUEST;

	if (!e)
		return &none;
	while (e->begun && e->channel >= 0 && take_message(e))
		;
	if (e->channel < 0 || !is_due(e))
		return &e->results;
	if (send(e->channel, &request, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
		e->begun = true;
	else
		lose(e);
	return &e->results;
}
