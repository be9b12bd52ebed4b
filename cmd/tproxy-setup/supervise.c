/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/supervise.h"

#include "base/clock.h"
#include "process/notify.h"
#include "process/watchdog.h"
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The interval of checks whether the command is ready. */
#define READY_POLL_MS 20

/* When we report what we wait for, and the interval of checks whether that has changed. */
#define TELL_AFTER_MS 2000
#define TELL_EVERY_MS 1000
#define TOLD_MAX      320

/* Time for a command to end after the installation failed. */
#define GRACE_MS 5000

/* Messages between wrapper and supervisor, one byte each. */
enum word {
	WORD_INSTALL = 'i', /* wrapper: install */
	WORD_REMOVE = 'r',  /* wrapper: end it, then remove */
	WORD_DONE = 'd',    /* supervisor: installed, or ended */
	WORD_FAILED = 'f',  /* supervisor: could not */
};

/*
 * The wrapper's states:
 *
 *   WAITING -> INSTALLED -> REMOVING -> (supervisor gone) GONE WAITING -> GONE: the command ended
 *   before it was ready, or the installation failed
 */
enum phase { PHASE_WAITING, PHASE_INSTALLED, PHASE_REMOVING, PHASE_GONE };

struct wrapper {
	const struct supervise_work *work;
	sigset_t signals, before;
	int signal_fd, notify_fd;
	pid_t command, supervisor;
	int command_pidfd;
	int supervisor_fd; /* wrapper's end of the socket */
	enum phase phase;
	int status; /* exit status of the command; -1 while it runs */
	bool told_ready, told_stranger, failed;
	uint64_t started, looked; /* ms; when the command was started, and last looked at */
	char told[TOLD_MAX];	  /* what we last reported that it waits for */
	const char *name;	  /* of the command */
	bool killing;		  /* the command was told to end because there are no rules */
};

static const int forwarded[] = { SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM,
				 SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT };

/* --- the supervisor --------------------------------------------------------------------------- */

static volatile sig_atomic_t hurry;

static void on_hurry(int signo)
{
	(void)signo;
	hurry = 1;
}

/* The supervisor survives signals that a terminal or a service manager sends to the whole group;
 * SIGTERM, which the wrapper sends when it is asked to end a second time, only makes it hurry. */
static void supervisor_signals(const struct wrapper *w)
{
	struct sigaction action = { .sa_handler = on_hurry };

	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &action, NULL);
	sigprocmask(SIG_SETMASK, &w->before, NULL);
}

static void supervisor_says(int fd, enum word word)
{
	const char byte = (char)word;

	/* A wrapper that is gone needs no answer. */
	(void)!send(fd, &byte, 1, MSG_NOSIGNAL);
}

static int supervisor_hears(int fd)
{
	char byte;
	ssize_t got;

	do
		got = recv(fd, &byte, 1, 0);
	while (got < 0 && errno == EINTR);
	return got == 1 ? byte : EOF;
}

static void tell_command(const struct wrapper *w, int signo)
{
	(void)!syscall(SYS_pidfd_send_signal, w->command_pidfd, signo, NULL, 0);
}

/* The wrapper is gone: end the command, too. */
static void end_orphan(const struct wrapper *w, int signo)
{
	report_verbose(1, "wrapper is gone; signal %d to the command", signo);
	tell_command(w, signo);
}

static _Noreturn void supervisor_main(const struct wrapper *w, int fd, bool installed)
{
	const struct supervise_work *work = w->work;
	bool orphan;
	int word, err = 0;

	setsid();
	supervisor_signals(w);
	while ((word = supervisor_hears(fd)) == WORD_INSTALL) {
		installed = !work->install(work->context);
		supervisor_says(fd, installed ? WORD_DONE : WORD_FAILED);
	}
	orphan = word == EOF;
	if (installed)
		supervisor_says(fd, work->end(work->context) ? WORD_FAILED : WORD_DONE);
	else
		supervisor_says(fd, WORD_DONE);
	if (orphan)
		end_orphan(w, SIGTERM);
	if (installed)
		err = work->remove(work->context, &hurry);
	if (orphan)
		end_orphan(w, SIGKILL);
	_exit(err ? STATUS_WRAPPER : 0);
}

static int start_supervisor(struct wrapper *w, bool installed)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	w->supervisor = fork();
	if (w->supervisor < 0) {
		close(pair[0]);
		close(pair[1]);
		return -1;
	}
	if (!w->supervisor) {
		close(pair[0]);
		close(w->signal_fd);
		supervisor_main(w, pair[1], installed);
	}
	close(pair[1]);
	w->supervisor_fd = pair[0];
	return 0;
}

/* Send a message to the supervisor and wait for its answer. */
static int ask_supervisor(struct wrapper *w, enum word word)
{
	supervisor_says(w->supervisor_fd, word);
	return supervisor_hears(w->supervisor_fd) == WORD_DONE ? 0 : -1;
}

/* --- the command ------------------------------------------------------------------------------ */

/* LISTEN_FDS are meant for the command. */
static void pass_listeners_on(pid_t wrapper)
{
	const char *pid = getenv("LISTEN_PID");
	char own[16];

	if (!pid || atol(pid) != wrapper)
		return;
	snprintf(own, sizeof(own), "%d", (int)getpid());
	setenv("LISTEN_PID", own, 1);
}

static _Noreturn void become_command(char **argv, const struct wrapper *w, const char *notify,
				     pid_t wrapper)
{
	int err;

	pass_listeners_on(wrapper);
	watchdog_hand_over(wrapper);
	setenv("NOTIFY_SOCKET", notify, 1);
	sigprocmask(SIG_SETMASK, &w->before, NULL);
	execvp(*argv, argv);
	err = errno;
	report_error("%s: %s", *argv, strerror(err));
	_exit(err == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN);
}

/* A socket in the abstract namespace, at an address that the kernel chooses: `@` and five
 * digits. */
static int open_notify(char address[32])
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(sun);
	const int yes = 1;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) ||
	    bind(fd, (struct sockaddr *)&sun, sizeof(sun.sun_family)) ||
	    getsockname(fd, (struct sockaddr *)&sun, &length)) {
		close(fd);
		return -1;
	}
	length -= (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1;
	snprintf(address, 32, "@%.*s", (int)length, sun.sun_path + 1);
	return fd;
}

static int start_command(struct wrapper *w, char **argv)
{
	char notify[32];
	pid_t wrapper = getpid();

	w->notify_fd = open_notify(notify);
	if (w->notify_fd < 0)
		return -1;
	w->command = fork();
	if (w->command < 0)
		return -1;
	if (!w->command)
		become_command(argv, w, notify, wrapper);
	w->command_pidfd = (int)syscall(SYS_pidfd_open, w->command, 0);
	return w->command_pidfd < 0 ? -1 : 0;
}

/* --- the wrapper ------------------------------------------------------------------------------ */

static int wait_status(int status)
{
	return WIFSIGNALED(status) ? STATUS_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

static void begin_removal(struct wrapper *w)
{
	if (w->phase == PHASE_WAITING || w->phase == PHASE_INSTALLED) {
		w->phase = PHASE_REMOVING;
		if (ask_supervisor(w, WORD_REMOVE))
			w->failed = true;
	} else if (w->phase == PHASE_REMOVING) {
		kill(w->supervisor, SIGTERM);
	}
}

static void supervisor_ended(struct wrapper *w, int status)
{
	close(w->supervisor_fd);
	w->supervisor_fd = -1;
	if (w->phase == PHASE_REMOVING && WIFEXITED(status)) {
		w->failed |= WEXITSTATUS(status) != 0;
		w->phase = PHASE_GONE;
		return;
	}
	/* Somebody killed the supervisor; what it installed needs a new one. */
	if (start_supervisor(w, w->phase != PHASE_WAITING)) {
		report_error("fork: %s", strerror(errno));
		w->failed = true;
		w->phase = PHASE_GONE;
	} else if (w->phase == PHASE_REMOVING && ask_supervisor(w, WORD_REMOVE)) {
		w->failed = true;
	}
}

/* A command that should serve has ended with success: most likely it has only put itself in the
 * background. */
static void tell_background(struct wrapper *w)
{
	if (w->status)
		return;
	if (w->phase == PHASE_WAITING)
		report_error("%s ended before anybody listened: keep it in the foreground",
			     w->name);
	else if (w->phase == PHASE_INSTALLED && w->work->left(w->work->context, getpid()))
		report_error("%s ended, and left a listener behind: keep it in the foreground, "
			     "interception ends with it",
			     w->name);
	else
		return;
	w->failed = true;
}

static void reap(struct wrapper *w)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == w->command) {
			w->status = wait_status(status);
			tell_background(w);
			if (w->phase != PHASE_REMOVING)
				begin_removal(w);
		} else if (pid == w->supervisor) {
			supervisor_ended(w, status);
		}
	}
}

/* The command gets a terminal's signals itself; we forward only signals that were sent to this
 * process. Interception ends first, so that no connection goes to a command that accepts no
 * more. */
static void forward(struct wrapper *w, const struct signalfd_siginfo *info)
{
	int signo = (int)info->ssi_signo;

	if (signo == SIGTERM || signo == SIGINT)
		begin_removal(w);
	if (info->ssi_code != SI_KERNEL)
		tell_command(w, signo);
}

static void read_signals(struct wrapper *w)
{
	struct signalfd_siginfo info;

	while (read(w->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(w);
		else
			forward(w, &info);
	}
}

/* Any process of this network namespace can send to an abstract address. We trust senders that
 * could do anything to us anyway, the command itself, and its process group, whatever user it
 * became: no other process can join that group. (In a pid namespace a group of outside has no
 * number.) The kernel vouches for both (unix(7), SCM_CREDENTIALS). */
static bool is_trusted(const struct wrapper *w, const struct ucred *sender)
{
	pid_t group = getpgid(w->command);

	return !sender->uid || sender->uid == geteuid() ||
	       (w->status < 0 && sender->pid == w->command) ||
	       (sender->pid > 0 && group > 0 && getpgid(sender->pid) == group);
}

static bool says(const char *text, const char *what)
{
	size_t length = strlen(what);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, what, length) && (!line[length] || line[length] == '\n'))
			return true;
	}
	return false;
}

/* Returns the length, or -1. Without credentials *sender is nobody at all. */
static ssize_t receive_notify(int fd, char *text, size_t size, struct ucred *sender)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(*sender))];
	} control;
	struct iovec iov = { text, size };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = got < 0 ? NULL : CMSG_FIRSTHDR(&message);

	*sender = (struct ucred){ .uid = UINT32_MAX };
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
	    c->cmsg_len >= CMSG_LEN(sizeof(*sender)))
		memcpy(sender, CMSG_DATA(c), sizeof(*sender));
	return got;
}

static void read_notify(struct wrapper *w)
{
	char text[256];
	struct ucred sender;
	ssize_t got;

	while ((got = receive_notify(w->notify_fd, text, sizeof(text) - 1, &sender)) >= 0) {
		text[got] = '\0';
		if (says(text, "WATCHDOG=1") && is_trusted(w, &sender))
			watchdog_feed();
		if (!says(text, "READY=1"))
			continue;
		if (is_trusted(w, &sender))
			w->told_ready = true;
		else if (!w->told_stranger)
			report_warning("READY=1 from process %ld of uid %lu is ignored: it is not "
				       "in the command's process group",
				       (long)sender.pid, (unsigned long)sender.uid);
		w->told_stranger |= !is_trusted(w, &sender);
	}
}

/* The user who waits wants to know what for. */
static void tell_waiting(struct wrapper *w)
{
	uint64_t now = clock_ms();
	char text[TOLD_MAX];

	if (now - w->started < TELL_AFTER_MS || now - w->looked < TELL_EVERY_MS)
		return;
	w->looked = now;
	w->work->describe(w->work->context, getpid(), text, sizeof(text));
	if (!strcmp(text, w->told))
		return;
	snprintf(w->told, sizeof(w->told), "%s", text);
	report_notice("waiting for %s: %s; nothing is intercepted until then", w->name, text);
}

/* The command says READY=1, but nothing accepts connections where they will go. */
static void tell_doubt(const struct wrapper *w)
{
	char text[TOLD_MAX];

	if (w->work->ready(w->work->context))
		return;
	w->work->describe(w->work->context, getpid(), text, sizeof(text));
	/* It may be true by now: some programs report first and then open their listeners one after
	 * the other. */
	if (w->work->ready(w->work->context))
		return;
	report_warning("%s says that it is ready, but %s", w->name, text);
}

static void install_when_ready(struct wrapper *w)
{
	int ready = w->told_ready ? 1 : w->work->ready(w->work->context);

	if (!ready) {
		tell_waiting(w);
		return;
	}
	if (w->told_ready)
		tell_doubt(w);
	if (ready > 0 && !ask_supervisor(w, WORD_INSTALL)) {
		w->phase = PHASE_INSTALLED;
		/* Tell our own service manager that everything is installed. */
		notify_send("READY=1", NULL);
		return;
	}
	w->failed = w->killing = true;
	begin_removal(w);
	tell_command(w, SIGTERM);
}

/* How long a turn may wait, in milliseconds; -1: for ever. A service manager that wants signs of
 * life gets the command's, and after its end, while connections are drained, those of the
 * wrapper. */
static int timeout_of(const struct wrapper *w)
{
	uint64_t interval = w->status >= 0 ? watchdog_interval() : 0;

	if (w->phase == PHASE_WAITING)
		return READY_POLL_MS;
	if (w->killing)
		return GRACE_MS;
	return interval ? (int)interval : -1;
}

static void turn(struct wrapper *w)
{
	struct pollfd polled[] = {
		{ .fd = w->signal_fd, .events = POLLIN },
		{ .fd = w->notify_fd, .events = POLLIN },
	};

	if (!poll(polled, 2, timeout_of(w)) && w->killing)
		tell_command(w, SIGKILL);
	if (w->status >= 0)
		watchdog_feed();
	read_notify(w);
	read_signals(w);
	if (w->phase == PHASE_WAITING)
		install_when_ready(w);
}

static int catch_signals(struct wrapper *w)
{
	sigemptyset(&w->signals);
	sigaddset(&w->signals, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(*forwarded); i++)
		sigaddset(&w->signals, forwarded[i]);
	sigprocmask(SIG_BLOCK, &w->signals, &w->before);
	w->signal_fd = signalfd(-1, &w->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return w->signal_fd < 0 ? -1 : 0;
}

int supervise_run(char **argv, const struct supervise_work *work)
{
	struct wrapper w = { .work = work,
			     .name = *argv,
			     .started = clock_ms(),
			     .signal_fd = -1,
			     .notify_fd = -1,
			     .command_pidfd = -1,
			     .supervisor_fd = -1,
			     .status = -1 };

	/* Processes that the command leaves behind become our children, so that we know whose they
	 * are. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (catch_signals(&w) || start_command(&w, argv) || start_supervisor(&w, false)) {
		report_error("cannot start %s: %s", *argv, strerror(errno));
		if (w.command > 0)
			kill(w.command, SIGKILL);
		return STATUS_WRAPPER;
	}
	while (w.status < 0 || w.phase != PHASE_GONE)
		turn(&w);
	sigprocmask(SIG_SETMASK, &w.before, NULL);
	return w.failed ? STATUS_WRAPPER : w.status;
}
