/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/sandbox.h"
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKETS SANDBOX_SOCKETS
#define ALL	(SANDBOX_SOCKETS | SANDBOX_REMOVE | SANDBOX_WRITE)

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

static void make_packet_socket(void)
{
	socket(AF_PACKET, SOCK_RAW, 0);
}

static void make_netlink_socket(void)
{
	socket(AF_NETLINK, SOCK_RAW, 0);
}

static void make_stream_socket(void)
{
	_exit(socket(AF_INET, SOCK_STREAM, 0) < 0 || socket(AF_INET6, SOCK_STREAM, 0) < 0 ||
	      socket(AF_UNIX, SOCK_DGRAM, 0) < 0);
}

static void open_file(void)
{
	_exit(open("/dev/null", O_RDONLY) < 0);
}

static void map_code(void)
{
	(void)!mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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

/* More arenas of malloc's than it makes without counting processors, and heaps that grow and shrink. */
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

static void signal_parent(void)
{
	syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static void *act_in_thread(void *gate)
{
	char go;

	if (read(*(int *)gate, &go, 1) == 1)
		call_execve();
	return NULL;
}

/* The signal that ends a child which does that in the sandbox; 0: none, and it succeeded; -1: it did
 * not. With a thread: one that was there before, and does it. */
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
	CHECK(fate(make_packet_socket, ALL, false) == SIGSYS);
	CHECK(fate(make_netlink_socket, ALL, false) == SIGSYS);
	CHECK(fate(NULL, ALL, true) == SIGSYS);
}

static void test_needed(void)
{
	CHECK(fate(use_memory, 0, false) == 0);
	CHECK(fate(abort, 0, false) == SIGABRT);
	CHECK(fate(make_stream_socket, 0, false) == SIGSYS);
	CHECK(fate(make_stream_socket, SOCKETS, false) == 0);
	CHECK(fate(open_file, ALL, false) == 0);
}

/* A sanitizer's run-time library does these itself. */
static void test_forbidden_but_to_sanitizers(void)
{
#if !defined(__SANITIZE_ADDRESS__)
	CHECK(fate(open_file, SOCKETS | SANDBOX_REMOVE, false) == -1); /* refused */
	CHECK(fate(use_many_threads, SOCKETS, false) == 0);
	CHECK(fate(map_code, ALL, false) == SIGSYS);
	CHECK(fate(signal_parent, ALL, false) == SIGSYS);
#else
	(void)map_code;
	(void)use_many_threads;
	(void)signal_parent;
#endif
}

int main(void)
{
	test_forbidden();
	test_needed();
	test_forbidden_but_to_sanitizers();
	return check_done();
}
