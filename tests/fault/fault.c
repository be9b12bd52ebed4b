/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault - the seam through which tests make any system call or allocation of ours fail.
 *
 * `make fault` links every program a second time, as build/fault/tproxy-X, from the same objects,
 * with the linker's --wrap for each function below: our calls arrive here, those of libraries do
 * not. The environment says what happens:
 *
 *	TPROXY_FAULT=bind:2:EADDRINUSE		the second bind() of the process fails so
 *	TPROXY_FAULT=malloc:5+:ENOMEM		all from the fifth on
 *	TPROXY_FAULT=memory:7			the seventh allocation, whichever function makes it
 *	TPROXY_FAULT=call:7:EIO			the seventh of all calls that are not allocations
 *	TPROXY_FAULT=call:7:SIGKILL		the process dies in front of it
 *	TPROXY_FAULT=call:7:EXEC		it becomes /bin/true: a call that a sandbox forbids
 *	TPROXY_FAULT=...,...			several of these
 *	TPROXY_FAULT_CLOCK=still		the monotonic clock stands: no deadline is ever due
 *	TPROXY_FAULT_LOG=FILE			gets a line `NAME N` for each fault that happened: when none
 *						did, N was beyond the last call
 *	TPROXY_FAULT_COUNT=FILE			gets a line `NAME CALLS` for each function at exit
 *
 * Without an error, allocations fail with ENOMEM and other calls with EIO. What cannot be
 * understood ends the process with 125, so that no test passes on a fault that never came. Counts
 * are per process: a forked child goes on counting where its parent was. But what is to happen once
 * happens in the process that comes there first.
 *
 * A row of the table is FAULT_KIND(function, (parameters), (arguments)); the Makefile takes the
 * names for --wrap from here.
 */
#include <errno.h>
#include <fcntl.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAULT_STATUS 125
#define FAULTS_MAX   16
#define HIGH_FD	     900
#define COUNTERS_MAX 128

enum group { GROUP_CALL, GROUP_MEMORY };

/* One entry of TPROXY_FAULT. */
struct fault {
	char name[48];
	unsigned long at;
	bool onwards;
	int error;  /* 0: the group's own */
	int signal; /* instead of an error */
	bool exec;  /* the same */
};

/* How often a function was called. Slot 0 and 1 are the groups. */
struct counter {
	_Atomic(const char *) name;
	atomic_ulong calls;
};

static struct fault faults[FAULTS_MAX];
static atomic_bool *happened; /* of each; shared with children */
static size_t fault_count;
static bool clock_stands;
static struct counter counters[COUNTERS_MAX] = { { "call", 0 }, { "memory", 0 } };

static _Noreturn void give_up(const char *entry)
{
	dprintf(2, "TPROXY_FAULT: %s: not NAME:N[+][:ERROR|:SIGNAL]\n", entry);
	_exit(FAULT_STATUS);
}

static int error_number(const char *name)
{
	for (int e = 1; e < 256; e++)
		if (strerrorname_np(e) && !strcmp(strerrorname_np(e), name))
			return e;
	return 0;
}

static int signal_number(const char *name)
{
	for (int s = 1; !strncmp(name, "SIG", 3) && s < NSIG; s++)
		if (sigabbrev_np(s) && !strcmp(sigabbrev_np(s), name + 3))
			return s;
	return 0;
}

static void parse(char *entry)
{
	struct fault *f = &faults[fault_count++];
	char *at = strchr(entry, ':'), *what, *end;

	if (!at || at == entry || at - entry >= (long)sizeof(f->name))
		give_up(entry);
	memcpy(f->name, entry, (size_t)(at - entry));
	f->at = strtoul(at + 1, &end, 10);
	f->onwards = *end == '+';
	end += f->onwards;
	if (!f->at || (*end && *end != ':'))
		give_up(entry);
	what = *end ? end + 1 : NULL;
	f->error = what ? error_number(what) : 0;
	f->signal = what ? signal_number(what) : 0;
	f->exec = what && !strcmp(what, "EXEC");
	if (what && !f->error && !f->signal && !f->exec)
		give_up(entry);
}

/*
 * What is written to is open from the start, because a sandbox may forbid it later; under a high
 * number, which nobody expects to be free or counts on.
 */
struct output {
	const char *variable;
	int fd;
};

static struct output events = { "TPROXY_FAULT_LOG", -1 }, counts = { "TPROXY_FAULT_COUNT", -1 };

static void open_output(struct output *o)
{
	const char *path = getenv(o->variable);
	int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND,
				     0666)
		      : -1;

	if (!path)
		return;
	o->fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (o->fd < 0)
		give_up(path);
	syscall(SYS_close, fd);
}

__attribute__((constructor)) static void fault_start(void)
{
	const char *text = getenv("TPROXY_FAULT");
	static char copy[1024];
	char *rest = copy, *entry;

	open_output(&events);
	open_output(&counts);
	clock_stands = getenv("TPROXY_FAULT_CLOCK") != NULL;
	if (!text)
		return;
	happened = mmap(NULL, sizeof(*happened) * FAULTS_MAX, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (happened == MAP_FAILED)
		give_up(text);
	if (strlen(text) >= sizeof(copy))
		give_up(text);
	strcpy(copy, text);
	while ((entry = strsep(&rest, ",")) && fault_count < FAULTS_MAX)
		parse(entry);
	if (entry)
		give_up(entry);
}

static void append(const struct output *to, const char *name, unsigned long n)
{
	char line[80];
	int length = snprintf(line, sizeof(line), "%s %lu\n", name, n);

	if (to->fd >= 0 && syscall(SYS_write, to->fd, line, (size_t)length) != length)
		_exit(FAULT_STATUS);
}

__attribute__((destructor)) static void fault_end(void)
{
	for (size_t i = 0; counts.fd >= 0 && i < COUNTERS_MAX && counters[i].name; i++)
		append(&counts, counters[i].name, counters[i].calls);
}

/* Count a call; returns which one it is. Slots are claimed by comparing pointers of literals. */
static unsigned long count(const char *name)
{
	for (size_t i = 2; i < COUNTERS_MAX; i++) {
		const char *none = NULL;

		if (atomic_compare_exchange_strong(&counters[i].name, &none, name) || none == name)
			return atomic_fetch_add(&counters[i].calls, 1) + 1;
	}
	give_up("COUNTERS_MAX");
}

static void happen(const struct fault *f, const char *name, unsigned long n, int usual)
{
	append(&events, name, n);
	if (f->signal)
		raise(f->signal);
	if (f->exec)
		execl("/bin/true", "true", (char *)NULL);
	errno = f->error ? f->error : usual;
}

/* Is this call to fail? Then errno is set. errno is kept otherwise. */
static bool due(const char *name, enum group group)
{
	unsigned long n = count(name);
	unsigned long of_group = atomic_fetch_add(&counters[group].calls, 1) + 1;

	for (size_t i = 0; i < fault_count; i++) {
		const struct fault *f = &faults[i];
		bool whole = !strcmp(f->name, counters[group].name);
		unsigned long mine = whole ? of_group : n;

		if (!whole && strcmp(f->name, name))
			continue;
		if (mine != f->at && !(f->onwards && mine > f->at))
			continue;
		if (!f->onwards && atomic_exchange(&happened[i], true))
			continue;
		happen(f, name, n, group == GROUP_MEMORY ? ENOMEM : EIO);
		return !f->signal;
	}
	return false;
}

/* A weak reference: a program that does not use a library is not linked with it. */
#define WRAP(type, name, group, failed, parameters, arguments)                 \
	type __real_##name parameters __attribute__((weak));                   \
	type __wrap_##name parameters;                                         \
	type __wrap_##name parameters                                          \
	{                                                                      \
		return due(#name, group) ? (failed) : __real_##name arguments; \
	}

#define FAULT_INT(name, parameters, arguments) \
	WRAP(int, name, GROUP_CALL, -1, parameters, arguments)
#define FAULT_SIZE(name, parameters, arguments) \
	WRAP(ssize_t, name, GROUP_CALL, -1, parameters, arguments)
/* Those that return the error's number, as POSIX threads do. */
#define FAULT_NUMBER(name, parameters, arguments) \
	WRAP(int, name, GROUP_CALL, errno, parameters, arguments)
/* libnl: a negative number of its own. */
#define FAULT_NETLINK(name, parameters, arguments) \
	WRAP(int, name, GROUP_CALL, -nl_syserr2nlerr(errno), parameters, arguments)
#define FAULT_FILE(name, parameters, arguments) \
	WRAP(FILE *, name, GROUP_CALL, NULL, parameters, arguments)
#define FAULT_MEMORY(name, parameters, arguments) \
	WRAP(void *, name, GROUP_MEMORY, NULL, parameters, arguments)
/* Those with a third argument that depends on the second. */
#define FAULT_VARIADIC(name, type)                                                        \
	int __real_##name(type, unsigned long, ...) __attribute__((weak));                \
	int __wrap_##name(type, unsigned long, ...);                                      \
	int __wrap_##name(type first, unsigned long second, ...)                          \
	{                                                                                 \
		va_list rest;                                                             \
		unsigned long third;                                                      \
                                                                                          \
		va_start(rest, second);                                                   \
		third = va_arg(rest, unsigned long);                                      \
		va_end(rest);                                                             \
		return due(#name, GROUP_CALL) ? -1 : __real_##name(first, second, third); \
	}

/* libseccomp: a negative errno value. */
#define FAULT_FILTER(name, parameters, arguments)                                 \
	int __real_##name parameters __attribute__((weak));                       \
	int __wrap_##name parameters;                                             \
	int __wrap_##name parameters                                              \
	{                                                                         \
		return due(#name, GROUP_CALL) ? -errno : __real_##name arguments; \
	}

/* The first reading is the last one. A loop sleeps as ever, wakes up, and finds nothing due. */
#define FAULT_CLOCK(name, parameters, arguments)                   \
	int __real_##name parameters __attribute__((weak));        \
	int __wrap_##name parameters;                              \
	int __wrap_##name parameters                               \
	{                                                          \
		static _Thread_local struct timespec first;        \
                                                                   \
		if (clock != CLOCK_MONOTONIC || !clock_stands)     \
			return __real_##name arguments;            \
		if (!first.tv_sec && __real_##name(clock, &first)) \
			return -1;                                 \
		*now = first;                                      \
		return 0;                                          \
	}

/* Those that close descriptors: ours stay. */
#define FAULT_CLOSING(name, type)                                                      \
	int __real_##name(type, type, int) __attribute__((weak));                      \
	int __wrap_##name(type, type, int);                                            \
	int __wrap_##name(type first, type last, int flags)                            \
	{                                                                              \
		if (due(#name, GROUP_CALL))                                            \
			return -1;                                                     \
		if (first > HIGH_FD || last < HIGH_FD)                                 \
			return __real_##name(first, last, flags);                      \
		__real_##name(HIGH_FD + 2, last, flags);                               \
		return first < HIGH_FD ? __real_##name(first, HIGH_FD - 1, flags) : 0; \
	}

struct nft_ctx;
struct nlmsghdr;

FAULT_MEMORY(malloc, (size_t n), (n))
FAULT_MEMORY(calloc, (size_t n, size_t size), (n, size))
FAULT_MEMORY(realloc, (void *p, size_t n), (p, n))
FAULT_MEMORY(reallocarray, (void *p, size_t n, size_t size), (p, n, size))
FAULT_MEMORY(strdup, (const char *s), (s))
FAULT_MEMORY(strndup, (const char *s, size_t n), (s, n))
FAULT_MEMORY(open_memstream, (char **p, size_t *n), (p, n))
FAULT_MEMORY(nl_socket_alloc, (void), ())
FAULT_MEMORY(nlmsg_alloc, (void), ())
FAULT_MEMORY(nlmsg_alloc_simple, (int type, int flags), (type, flags))
FAULT_MEMORY(nft_ctx_new, (uint32_t flags), (flags))
FAULT_MEMORY(json_object, (void), ())
FAULT_MEMORY(json_array, (void), ())
FAULT_MEMORY(json_string, (const char *s), (s))
FAULT_MEMORY(json_integer, (long long n), (n))
FAULT_MEMORY(json_dumps, (const void *json, size_t flags), (json, flags))
FAULT_INT(socket, (int family, int type, int protocol), (family, type, protocol))
FAULT_INT(socketpair, (int family, int type, int protocol, int *fds), (family, type, protocol, fds))
FAULT_INT(bind, (int fd, const void *to, socklen_t n), (fd, to, n))
FAULT_INT(connect, (int fd, const void *to, socklen_t n), (fd, to, n))
FAULT_INT(listen, (int fd, int backlog), (fd, backlog))
FAULT_INT(accept4, (int fd, void *from, socklen_t *n, int flags), (fd, from, n, flags))
FAULT_INT(shutdown, (int fd, int how), (fd, how))
FAULT_INT(getsockname, (int fd, void *to, socklen_t *n), (fd, to, n))
FAULT_INT(getpeername, (int fd, void *to, socklen_t *n), (fd, to, n))
FAULT_INT(setsockopt, (int fd, int level, int name, const void *value, socklen_t n),
	  (fd, level, name, value, n))
FAULT_INT(getsockopt, (int fd, int level, int name, void *value, socklen_t *n),
	  (fd, level, name, value, n))
FAULT_SIZE(recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
FAULT_SIZE(__recv_chk, (int fd, void *p, size_t n, size_t room, int flags), (fd, p, n, room, flags))
FAULT_SIZE(recvfrom, (int fd, void *p, size_t n, int flags, void *from, socklen_t *size),
	   (fd, p, n, flags, from, size))
FAULT_SIZE(recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
FAULT_INT(recvmmsg, (int fd, void *m, unsigned n, int flags, struct timespec *t),
	  (fd, m, n, flags, t))
FAULT_SIZE(send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
FAULT_SIZE(sendto, (int fd, const void *p, size_t n, int flags, const void *to, socklen_t size),
	   (fd, p, n, flags, to, size))
FAULT_SIZE(sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAULT_INT(sendmmsg, (int fd, void *m, unsigned n, int flags), (fd, m, n, flags))
FAULT_SIZE(read, (int fd, void *p, size_t n), (fd, p, n))
FAULT_SIZE(__read_chk, (int fd, void *p, size_t n, size_t room), (fd, p, n, room))
FAULT_SIZE(write, (int fd, const void *p, size_t n), (fd, p, n))
FAULT_SIZE(writev, (int fd, const struct iovec *v, int n), (fd, v, n))
FAULT_SIZE(splice, (int in, off_t *from, int out, off_t *to, size_t n, unsigned flags),
	   (in, from, out, to, n, flags))
FAULT_INT(pipe2, (int *fds, int flags), (fds, flags))
FAULT_INT(epoll_create1, (int flags), (flags))
FAULT_INT(epoll_ctl, (int fd, int what, int of, struct epoll_event *e), (fd, what, of, e))
FAULT_INT(epoll_wait, (int fd, struct epoll_event *e, int n, int ms), (fd, e, n, ms))
FAULT_INT(poll, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms))
FAULT_INT(__poll_chk, (struct pollfd * fds, nfds_t n, int ms, size_t room), (fds, n, ms, room))
FAULT_INT(eventfd, (unsigned n, int flags), (n, flags))
FAULT_INT(signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))
FAULT_INT(timerfd_create, (int clock, int flags), (clock, flags))
FAULT_INT(sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
FAULT_INT(setns, (int fd, int type), (fd, type))
FAULT_INT(getrlimit, (int what, void *limit), (what, limit))
FAULT_INT(setrlimit, (int what, const void *limit), (what, limit))
FAULT_INT(dup2, (int from, int to), (from, to))
FAULT_INT(unlinkat, (int at, const char *path, int flags), (at, path, flags))
FAULT_INT(renameat, (int at, const char *from, int to, const char *path), (at, from, to, path))
FAULT_INT(prctl, (int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d),
	  (what, a, b, c, d))
FAULT_INT(unlink, (const char *path), (path))
FAULT_INT(rename, (const char *from, const char *to), (from, to))
FAULT_INT(pidfd_open, (pid_t pid, unsigned flags), (pid, flags))
FAULT_INT(pidfd_getfd, (int pidfd, int fd, unsigned flags), (pidfd, fd, flags))
FAULT_SIZE(getrandom, (void *p, size_t n, unsigned flags), (p, n, flags))
FAULT_INT(clone, (int (*main)(void *), void *stack, int flags, void *context),
	  (main, stack, flags, context))
FAULT_INT(fork, (void), ())
FAULT_INT(waitpid, (pid_t pid, int *status, int flags), (pid, status, flags))
FAULT_INT(execvp, (const char *file, char *const *arguments), (file, arguments))
FAULT_INT(capng_update, (int action, int set, unsigned capability), (action, set, capability))
FAULT_INT(capng_change_id, (int uid, int gid, int flags), (uid, gid, flags))
FAULT_INT(nft_run_cmd_from_buffer, (struct nft_ctx * nft, const char *text), (nft, text))
FAULT_INT(nft_ctx_buffer_output, (struct nft_ctx * nft), (nft))
FAULT_INT(nft_ctx_buffer_error, (struct nft_ctx * nft), (nft))
FAULT_FILTER(seccomp_load, (void *filter), (filter))
FAULT_NUMBER(pthread_create, (pthread_t * t, const pthread_attr_t *a, void *(*f)(void *), void *p),
	     (t, a, f, p))
FAULT_NETLINK(nl_connect, (struct nl_sock * nl, int protocol), (nl, protocol))
FAULT_NETLINK(nl_send_auto, (struct nl_sock * nl, struct nl_msg *m), (nl, m))
FAULT_NETLINK(nl_send_sync, (struct nl_sock * nl, struct nl_msg *m), (nl, m))
FAULT_NETLINK(nl_recvmsgs_default, (struct nl_sock * nl), (nl))
FAULT_NETLINK(nl_recvmsgs, (struct nl_sock * nl, struct nl_cb *cb), (nl, cb))
FAULT_FILE(fopen, (const char *path, const char *mode), (path, mode))
FAULT_FILE(fdopen, (int fd, const char *mode), (fd, mode))
FAULT_CLOCK(clock_gettime, (clockid_t clock, struct timespec *now), (clock, now))
FAULT_CLOSING(close_range, unsigned)
FAULT_VARIADIC(fcntl, int)
FAULT_VARIADIC(ioctl, int)
FAULT_VARIADIC(open, const char *)
