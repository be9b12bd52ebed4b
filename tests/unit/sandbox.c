/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/sandbox.h"
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define IPT_SO_SET_REPLACE 64 /* linux/netfilter_ipv4/ip_tables.h */

#define TCP  (SANDBOX_TCP | SANDBOX_UPSTREAM)
#define UDP  (SANDBOX_UDP | SANDBOX_UPSTREAM_UDP)
#define REST (SANDBOX_RAW | SANDBOX_CONTROL | SANDBOX_COMMANDS | SANDBOX_NETLINK)
#define ALL  (TCP | UDP | REST | SANDBOX_FILE)

/* What a child does in the sandbox; its exit status is not looked at. */
typedef void deed(void);

static void call_execve(void)
{
	char *none[] = { NULL };

	execve("/bin/true", none, none);
}

static void call_mount(void)
{
	mount("none", "/nowhere", "tmpfs", 0, NULL);
}

static void call_io_uring(void)
{
	syscall(SYS_io_uring_setup, 1, NULL);
}

static void call_setuid(void)
{
	syscall(SYS_setuid, 0);
}

/* The errno of what has failed; 0: it has not. */
static int error_of(long result)
{
	return result < 0 ? errno : 0;
}

/* A socket of each kind that is made nowhere once the service serves. */
static void make_other_sockets(void)
{
	static const int kinds[][3] = {
		{ AF_UNIX, SOCK_STREAM, 0 },   { AF_UNIX, SOCK_DGRAM, 0 },
		{ AF_PACKET, SOCK_RAW, 0 },    { AF_NETLINK, SOCK_RAW, 0 },
		{ AF_INET, SOCK_RAW, 255 },    { AF_INET6, SOCK_RAW, 255 },
		{ AF_INET, SOCK_STREAM, 132 }, { AF_INET, SOCK_SEQPACKET, 0 },
		{ AF_INET, SOCK_DGRAM, 1 },    { AF_VSOCK, SOCK_STREAM, 0 },
		{ AF_ALG, SOCK_SEQPACKET, 0 },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (error_of(socket(kinds[i][0], kinds[i][1], kinds[i][2])) != EPERM)
			_exit(1);
	_exit(0);
}

static void make_stream_sockets(void)
{
	_exit(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0) < 0 ||
	      socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0);
}

/* Nothing that is not noted: an option, a command, a request. */
static void use_other_arguments(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	struct ifreq request = { .ifr_ifindex = 1 };

	if (setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		_exit(1);
	if (error_of(setsockopt(fd, SOL_IP, IPT_SO_SET_REPLACE, &on, sizeof(on))) != EPERM ||
	    error_of(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &on, sizeof(on))) != EPERM ||
	    error_of(setsockopt(fd, SOL_TCP, SO_KEEPALIVE, &on, sizeof(on))) != EPERM)
		_exit(2);
	if (error_of(fcntl(fd, F_SETOWN, getpid())) != EPERM ||
	    error_of(fcntl(fd, F_SETSIG, SIGKILL)) != EPERM ||
	    error_of(fcntl(fd, F_SETFL, O_ASYNC)) != EPERM)
		_exit(3);
	if (ioctl(fd, SIOCGIFNAME, &request) < 0 ||
	    error_of(ioctl(fd, SIOCSIFFLAGS, &request)) != EPERM)
		_exit(4);
	_exit(0);
}

/* The upper half of a register does not count, for the kernel neither. */
static void use_wide_arguments(void)
{
	long fd = socket(AF_INET, SOCK_STREAM, 0), wide = 1L << 40;
	int on = 1;

	if (sizeof(long) > sizeof(int) &&
	    (syscall(SYS_setsockopt, fd, wide | SOL_TCP, wide | TCP_NODELAY, &on, sizeof(on)) < 0 ||
	     error_of(syscall(SYS_setsockopt, fd, wide, wide | IPT_SO_SET_REPLACE, &on,
			      sizeof(on))) != EPERM ||
	     error_of(syscall(SYS_fcntl, fd, wide | F_SETSIG, SIGKILL)) != EPERM))
		_exit(1);
	_exit(0);
}

static void open_file(void)
{
	_exit(open("/dev/null", O_RDONLY) < 0);
}

static void make_file(void)
{
	_exit(openat(AT_FDCWD, "/dev/null", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600) >= 0 ||
	      errno != EEXIST || error_of(openat(AT_FDCWD, "/dev/null", O_RDWR)) != EPERM);
}

static void remove_file(void)
{
	unlinkat(AT_FDCWD, "/nowhere/at/all", 0);
}

static void map_code(void)
{
	_exit(error_of((long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0)) != EPERM);
}

/* No filter of one's own, which could have a call answered by someone else. */
static void add_filter(void)
{
	_exit(error_of(syscall(SYS_seccomp, 1, 0, NULL)) != EPERM);
}

static void use_memory(void)
{
	for (int i = 0; i < 100; i++) {
		char *volatile p = malloc(1 << (i % 22));

		if (!p)
			_exit(1);
		free(p);
	}
	_exit(0);
}

/* More arenas of malloc's than it makes without counting processors, and heaps that grow and
 * shrink. */
static void *use_heap(void *last)
{
	void *held[64];

	pthread_barrier_wait(last);
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < 64; i++)
			held[i] = malloc(100000);
		for (int i = 0; i < 64; i++)
			free(held[i]);
	}
	return NULL;
}

static pthread_t threads[12];
static pthread_barrier_t all_there;

static void use_many_threads(void)
{
	pthread_barrier_wait(&all_there);
	for (int i = 0; i < 12; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

static void start_threads(void)
{
	pthread_barrier_init(&all_there, NULL, 13);
	for (int i = 0; i < 12; i++)
		if (pthread_create(&threads[i], NULL, use_heap, &all_there))
			_exit(1);
}

static void signal_init(void)
{
	_exit(error_of(syscall(SYS_tgkill, 1, 1, 0)) != EPERM);
}

static void *act_in_thread(void *gate)
{
	char go;

	if (read(*(int *)gate, &go, 1) == 1)
		call_execve();
	return NULL;
}

/* The signal that ends a child which does that in the sandbox; 0: none, and it succeeded; -1: it
 * did not. With a thread: one that was there before, and does it. */
static int fate(deed *act, unsigned needs, bool thread)
{
	int gate[2], status;
	pid_t child = fork();

	if (child == 0) {
		pthread_t other;

		if (thread && (pipe(gate) || pthread_create(&other, NULL, act_in_thread, gate)))
			_exit(1);
		if (act == use_many_threads)
			start_threads();
		if (sandbox_enter(needs, NULL) < 0)
			_exit(1);
		if (!thread)
			act();
		else if (write(gate[1], "x", 1) == 1)
			pthread_join(other, NULL);
		_exit(2);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : -(WEXITSTATUS(status) != 0);
}

static void test_forbidden(void)
{
	CHECK(fate(call_execve, ALL, false) == SIGSYS);
	CHECK(fate(call_mount, ALL, false) == SIGSYS);
	CHECK(fate(call_io_uring, ALL, false) == SIGSYS);
	CHECK(fate(call_setuid, ALL, false) == SIGSYS);
	CHECK(fate(remove_file, ALL & ~(unsigned)SANDBOX_FILE, false) == SIGSYS);
	CHECK(fate(make_stream_sockets, 0, false) == SIGSYS);
	CHECK(fate(NULL, ALL, true) == SIGSYS);
}

/* What is refused to who collects, and what is not. */
static void collect(void)
{
	char *none[] = { NULL };

	if (error_of(execve("/bin/true", none, none)) != EPERM || error_of(fork()) != EPERM ||
	    error_of(mount("none", "/x", "tmpfs", 0, NULL)) != EPERM ||
	    error_of(syscall(SYS_setuid, 0)) != EPERM || error_of(unlink("/x/y")) != EPERM ||
	    error_of(open("/dev/null", O_WRONLY)) != EPERM ||
	    error_of(open("/tmp", O_RDWR | O_CREAT, 0600)) != EPERM ||
	    error_of(socket(AF_INET, SOCK_STREAM, 0)) != EPERM ||
	    error_of(socket(AF_PACKET, SOCK_RAW, 0)) != EPERM ||
	    error_of(socket(AF_NETLINK, SOCK_RAW, 15)) != EPERM ||
	    error_of(setsockopt(0, SOL_IP, IPT_SO_SET_REPLACE, "", 0)) != EPERM)
		_exit(1);
	if (open("/dev/null", O_RDONLY) < 0 || open("/proc", O_RDONLY | O_DIRECTORY) < 0 ||
	    socket(AF_NETLINK, SOCK_RAW, 0) < 0 || socket(AF_UNIX, SOCK_STREAM, 0) < 0)
		_exit(1);
	_exit(0);
}

static void test_needed(void)
{
	CHECK(fate(use_memory, 0, false) == 0);
	CHECK(fate(abort, 0, false) == SIGABRT);
	CHECK(fate(make_stream_sockets, TCP, false) == 0);
}

static void test_arguments(void)
{
	CHECK(fate(make_other_sockets, ALL, false) == 0);
	CHECK(fate(make_stream_sockets, UDP, false) == -1);
	CHECK(fate(add_filter, ALL, false) == 0);
}

/* A sanitizer's run-time library does these itself. */
static void test_forbidden_but_to_sanitizers(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(TPROXY_COVERAGE)
	CHECK(fate(open_file, TCP, false) == -1); /* refused */
	CHECK(fate(make_file, ALL, false) == 0);
	CHECK(fate(use_other_arguments, ALL, false) == 0);
	CHECK(fate(use_wide_arguments, ALL, false) == 0);
	CHECK(fate(use_many_threads, TCP, false) == 0);
	CHECK(fate(map_code, ALL, false) == 0);
	CHECK(fate(signal_init, ALL, false) == 0);
	CHECK(fate(collect, SANDBOX_COLLECT, false) == 0);
#else
	(void)collect;
	(void)open_file;
	(void)make_file;
	(void)use_other_arguments;
	(void)use_wide_arguments;
	(void)map_code;
	(void)use_many_threads;
	(void)signal_init;
#endif
}

int main(void)
{
	test_forbidden();
	test_needed();
	test_arguments();
	test_forbidden_but_to_sanitizers();
	return check_done();
}
