/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sockets - what `make bench-inspect` measures with.
 *
 *	sockets hold FIRST COUNT
 *		three sockets for each connection FIRST, FIRST + 1, ..., as a transparent proxy and
 *		its server have them; `ready` when they are there. They end with the program, at the
 *		end of stdin.
 *	sockets time COMMAND...
 *		run it, its output to nowhere; prints microseconds, those of the processor, and the
 *		most memory it had, in KB
 *
 * Connection n comes from 10.N:20000 (N: n in three bytes) and goes to 10.N + 128:80. The client's
 * half has no peer: it is made whole by TCP_REPAIR. The upstream leg goes to a listener of this
 * program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REPAIR_OFF (-1) /* TCP_REPAIR_OFF_NO_WP of linux/tcp.h: without a window probe */

static void fail(const char *call)
{
	fprintf(stderr, "sockets: %s: %s\n", call, strerror(errno));
	exit(3);
}

static struct sockaddr_in address(uint32_t ip, uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(ip) };
}

/* A transparent socket with that local address, which leaves nothing behind when it is closed. */
static int open_at(struct sockaddr_in local)
{
	const struct linger reset = { .l_onoff = 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		fail("socket");
	if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		fail("setsockopt");
	if (bind(fd, (struct sockaddr *)&local, sizeof(local)))
		fail("bind");
	return fd;
}

static void connect_to(int fd, struct sockaddr_in peer)
{
	if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)))
		fail("connect");
}

static void add_client_half(uint32_t n)
{
	int fd = open_at(address(0x0a800000 + n, 80)), on = 1, off = REPAIR_OFF;

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)))
		fail("TCP_REPAIR");
	connect_to(fd, address(0x0a000000 + n, 20000));
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)))
		fail("TCP_REPAIR");
}

static void add_upstream_leg(uint32_t n, int listener, struct sockaddr_in server)
{
	connect_to(open_at(address(0x0a000000 + n, 20000)), server);
	if (accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
		fail("accept");
}

static int hold(uint32_t first, uint32_t count)
{
	struct sockaddr_in server = address(INADDR_LOOPBACK, 0);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof(server);
	char byte;

	if (listener < 0 || bind(listener, (struct sockaddr *)&server, length) ||
	    listen(listener, 16) || getsockname(listener, (struct sockaddr *)&server, &length))
		fail("listener");
	for (uint32_t n = first; n < first + count; n++) {
		add_client_half(n);
		add_upstream_leg(n, listener, server);
	}
	printf("ready\n");
	fflush(stdout);
	return read(STDIN_FILENO, &byte, 1) < 0;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return 1e6 * (double)t.tv_sec + (double)t.tv_nsec / 1e3;
}

static double microseconds(struct timeval t)
{
	return 1e6 * (double)t.tv_sec + (double)t.tv_usec;
}

static int time_command(char **command)
{
	double begin = now();
	struct rusage used;
	int status;
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (!pid) {
		if (dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO) < 0)
			fail("/dev/null");
		execvp(*command, command);
		fail(*command);
	}
	if (wait4(pid, &status, 0, &used) < 0)
		fail("wait4");
	printf("%.0f %.0f %ld\n", now() - begin,
	       microseconds(used.ru_utime) + microseconds(used.ru_stime), used.ru_maxrss);
	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? 0 : 3;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "hold"))
		return hold((uint32_t)strtoul(argv[2], NULL, 10),
			    (uint32_t)strtoul(argv[3], NULL, 10));
	if (argc > 2 && !strcmp(argv[1], "time"))
		return time_command(argv + 2);
	fprintf(stderr, "sockets: hold FIRST COUNT, or time COMMAND...\n");
	return 2;
}
