/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/command.h"

#include "process/descriptors.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Enough for system calls, whose symbols the dynamic linker may have to resolve, saving all
 * registers. */
#define CHILD_STACK 32768

/* Variables of one connection, or of this process only: no child may take an inherited one for its
 * own. TCP6* and *HOST, *INFO are set by other UCSPI servers (ucspi-tcp6, tcpserver). */
static const char *const private_variables[] = {
	"PROTO",	 "TCPREMOTEIP",	      "TCPREMOTEPORT",	"TCPREMOTEHOST",  "TCPREMOTEINFO",
	"TCPLOCALIP",	 "TCPLOCALPORT",      "TCPLOCALHOST",	"UDPREMOTEIP",	  "UDPREMOTEPORT",
	"UDPREMOTEHOST", "UDPREMOTEINFO",     "UDPLOCALIP",	"UDPLOCALPORT",	  "UDPLOCALHOST",
	"TCP6REMOTEIP",	 "TCP6REMOTEPORT",    "TCP6REMOTEHOST", "TCP6REMOTEINFO", "TCP6LOCALIP",
	"TCP6LOCALPORT", "TCP6LOCALHOST",     "TCP6INTERFACE",	"TPROXY_CLIENT",  "TPROXY_ORIGDST",
	"TPROXY_MARK",	 "TPROXY_COOKIE",     "LISTEN_FDS",	"LISTEN_PID",	  "LISTEN_FDNAMES",
	"NOTIFY_SOCKET", "TPROXY_ORIGDST_BY", "LISTEN_PIDFDID", "WATCHDOG_USEC",  "WATCHDOG_PID",
};
#define PRIVATE_VARIABLES (sizeof(private_variables) / sizeof(*private_variables))

/* The most variables set for one connection; the longest one: a name and an endpoint. */
#define OWN_VARIABLES 10
#define VARIABLE_MAX  (32 + ENDPOINT_TEXT_MAX)

static bool is_private(const char *entry)
{
	for (size_t i = 0; i < PRIVATE_VARIABLES; i++) {
		size_t length = strlen(private_variables[i]);

		if (!strncmp(entry, private_variables[i], length) && entry[length] == '=')
			return true;
	}
	return false;
}

/* The inherited environment without the private variables, and with room for a connection's own. */
static int prepare_environment(struct command *command)
{
	size_t count = 0;

	while (environ[count])
		count++;
	command->environment = calloc(count + OWN_VARIABLES + 1, sizeof(char *));
	if (!command->environment)
		return -1;
	for (size_t i = 0; i < count; i++)
		if (!is_private(environ[i]))
			command->environment[command->inherited++] = environ[i];
	return 0;
}

/* Can it be executed? 0 or an errno value. */
static int check_executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno;
	if (S_ISDIR(st.st_mode))
		return EISDIR;
	return access(path, X_OK) < 0 ? errno : 0;
}

/* Search PATH like a shell: files that may not be executed are skipped, but remembered; a directory
 * that may not be searched counts as empty. */
static int search_path(const char *name, char **found)
{
	const char *path = getenv("PATH");
	int err = ENOENT, last;

	for (const char *p = path ? path : "/usr/bin:/bin"; p; p = strchr(p, ':')) {
		size_t length;

		p += *p == ':';
		length = strcspn(p, ":");
		if (asprintf(found, "%.*s%s%s", (int)length, p, length ? "/" : "", name) < 0) {
			*found = NULL;
			return ENOMEM;
		}
		last = check_executable(*found);
		if (!last)
			return 0;
		if (!access(*found, F_OK))
			err = last;
		free(*found);
		*found = NULL;
	}
	return err;
}

int command_find(struct command *command, char **argv, struct failure *why)
{
	int err;

	*command = (struct command){ .argv = argv };
	if (strchr(argv[0], '/')) {
		err = check_executable(argv[0]);
		if (!err && !(command->path = strdup(argv[0])))
			err = ENOMEM;
	} else {
		err = search_path(argv[0], &command->path);
	}
	if (!err && prepare_environment(command) < 0)
		err = ENOMEM;
	if (!err)
		return 0;
	command_free(command);
	report_fail(why, err, "", "%s", argv[0]);
	return report_detail(why, "%s", err == ENOENT ? "command not found" : strerror(err));
}

/* The interpreter named by a script's first line. */
static int check_interpreter(char *line, const char *script, struct failure *why)
{
	char *path = line + strspn(line, " \t");
	int err;

	path[strcspn(path, " \t\n")] = '\0';
	err = check_executable(path);
	if (!err)
		return 0;
	report_fail(why, err, "", "%s", script);
	return report_detail(why, "its interpreter %s: %s", path, strerror(err));
}

/* execve(2) does not take text for a program; a shell would, guessing that it is the
 * interpreter. */
static bool is_text(const char *at, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!isprint((unsigned char)at[i]) && !isspace((unsigned char)at[i]))
			return false;
	return length > 0;
}

static int fail_to_run(struct failure *why, int err, const char *path, const char *words)
{
	report_fail(why, err, "", "%s", path);
	return report_detail(why, "%s", words);
}

int command_check(const struct command *command, struct failure *why)
{
	char start[256] = "";
	ssize_t length;
	int fd, err = check_executable(command->path);

	if (err)
		return fail_to_run(why, err, command->path, strerror(err));
	fd = open(command->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* a program may be executable but not readable */
	length = read(fd, start, sizeof(start) - 1);
	close(fd);
	if (length > 2 && !strncmp(start, "#!", 2))
		return check_interpreter(start + 2, command->path, why);
	if (length > 0 && is_text(start, (size_t)length))
		return fail_to_run(why, ENOEXEC, command->path,
				   "is text, and its first line does not begin with #!");
	return 0;
}

void command_free(struct command *command)
{
	free(command->path);
	free(command->environment);
	*command = (struct command){ 0 };
}

int command_exit_status(const struct failure *why)
{
	return why->err == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
}

/* The variables of one connection, before they are added to the environment. */
struct variables {
	char text[OWN_VARIABLES][VARIABLE_MAX];
	size_t count;
};

static void set_variable(struct variables *v, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void set_variable(struct variables *v, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(v->text[v->count++], VARIABLE_MAX, format, ap);
	va_end(ap);
}

/* UCSPI's side of it: TCPREMOTEIP and TCPREMOTEPORT, for example. */
static void set_side(struct variables *v, const char *proto, const char *side,
		     const struct endpoint *e)
{
	char address[ENDPOINT_TEXT_MAX];

	if (!endpoint_is_set(e))
		return;
	set_variable(v, "%s%sIP=%s", proto, side, endpoint_format_address(e, address));
	set_variable(v, "%s%sPORT=%u", proto, side, e->port);
}

/* PROTO is TCP for both families, like in s6-tcpserver; most programs would not know TCP6. */
static void describe_peer(struct variables *v, const struct command_peer *peer)
{
	const char *proto = peer->protocol == IPPROTO_UDP ? "UDP" : "TCP";
	char text[ENDPOINT_TEXT_MAX];

	v->count = 0;
	set_variable(v, "PROTO=%s", proto);
	set_side(v, proto, "REMOTE", &peer->client);
	set_side(v, proto, "LOCAL", &peer->local);
	set_variable(v, "TPROXY_CLIENT=%s", endpoint_format(&peer->client, text));
	if (endpoint_is_set(&peer->origdst))
		set_variable(v, "TPROXY_ORIGDST=%s", endpoint_format(&peer->origdst, text));
	set_variable(v, "TPROXY_ORIGDST_BY=%s", peer->origdst_by);
	set_variable(v, "TPROXY_MARK=0x%x", peer->mark);
	set_variable(v, "TPROXY_COOKIE=0x%llx", (unsigned long long)peer->cookie);
}

/*
 * ---- starting a child ----
 *
 * Like posix_spawn(3), except for the signal handlers: glibc queries or sets each of the 64 signals
 * again in every child, while we wait. After the first time we know which of them do not have their
 * default action.
 */

static void find_changed_signals(struct command *command)
{
	struct sigaction now;

	sigemptyset(&command->changed);
	for (int s = 1; s < NSIG; s++)
		if (sigaction(s, NULL, &now) == 0 && now.sa_handler != SIG_DFL)
			sigaddset(&command->changed, s);
	command->knows_signals = true;
}

struct start {
	const struct command *command;
	int fd;
	int err; /* why execve() failed */
};

/*
 * The child's code: only system calls, because it uses the memory of the parent, which is
 * suspended. All signals have their default action and none is blocked: what this process ignores
 * is not the child's business. Instrumentation by sanitizers would take the borrowed stack for the
 * parent's.
 */
__attribute__((no_sanitize("address"))) static int child_main(void *context)
{
	struct start *start = context;
	const struct command *command = start->command;
	const struct sigaction standard = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		if (sigismember(&command->changed, s))
			sigaction(s, &standard, NULL);
	sigemptyset(&none);
	if (setpgid(0, 0) == 0 && dup2(start->fd, STDIN_FILENO) >= 0 &&
	    dup2(start->fd, STDOUT_FILENO) >= 0 && sigprocmask(SIG_SETMASK, &none, NULL) == 0)
		execve(command->path, command->argv, command->environment);
	start->err = errno;
	_exit(STATUS_CANNOT_RUN);
}

/* Returns the pid, or -1 with errno. No handler of ours may run in the child, so all signals are
 * blocked meanwhile. */
static pid_t start_child(struct command *command, int fd)
{
	struct start start = { .command = command, .fd = fd };
	_Alignas(16) char stack[CHILD_STACK];
	sigset_t all, before;
	pid_t pid;
	int err;

	if (!command->knows_signals)
		find_changed_signals(command);
	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, &before) < 0)
		return -1;
	pid = clone(child_main, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
	err = pid < 0 ? errno : start.err;
	if (pid >= 0 && err)
		waitpid(pid, NULL, 0);
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = err;
	return err ? -1 : pid;
}

/* RLIMIT_NPROC counts all processes of the user; a control group has a limit of its own. */
static void tell_start(const struct command *command, int err, struct failure *why)
{
	report_fail(why, err, "clone or execve", "%s", command->path);
	if (err == EAGAIN)
		report_hint(why, "a limit on processes: ulimit -u, or TasksMax= of the unit");
}

pid_t command_spawn(struct command *command, const struct command_peer *peer, int fd,
		    struct failure *why)
{
	struct variables own;
	pid_t pid;

	if (descriptors_set_blocking(fd) < 0)
		return report_fail(why, errno, "fcntl", "connection");
	describe_peer(&own, peer);
	for (size_t i = 0; i < own.count; i++)
		command->environment[command->inherited + i] = own.text[i];
	command->environment[command->inherited + own.count] = NULL;
	pid = start_child(command, fd);
	if (pid < 0)
		tell_start(command, errno, why);
	command->environment[command->inherited] = NULL;
	return pid;
}
