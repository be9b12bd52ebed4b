/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conngen - generate connections: many short ones, or many that stay.
 *
 *	conngen ADDRESS:PORT COUNT WORKERS	open COUNT connections, WORKERS at a time; each is read
 *						to its end. Prints `COUNT MILLISECONDS`.
 *	conngen ADDRESS:PORT COUNT hold		open COUNT, print `COUNT 0`, keep them until stdin ends
 */
#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT	    60 /* seconds for one connect or read */
#define WORKERS_MAX 256

static struct endpoint server;
static atomic_long left;

static _Noreturn void die(const struct failure *why)
{
	report_failure(why, STATUS_REFUSED);
	exit(STATUS_REFUSED);
}

static int dial(void)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT };
	union endpoint_sockaddr sa;
	socklen_t length = endpoint_to_sockaddr(&server, &sa);
	int fd = socket(sa.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct failure why;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, &sa.sa, length) < 0) {
		report_fail(&why, errno, "connect", "server");
		die(&why);
	}
	return fd;
}

static void *work(void *unused)
{
	char bytes[4096];
	struct failure why;

	while (atomic_fetch_sub(&left, 1) > 0) {
		int fd = dial();
		ssize_t n;

		while ((n = read(fd, bytes, sizeof(bytes))) > 0)
			;
		if (n < 0 && errno != ECONNRESET) {
			report_fail(&why, errno, "read", "server");
			die(&why);
		}
		close(fd);
	}
	return unused;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void run(uint64_t count, uint64_t workers)
{
	pthread_t threads[WORKERS_MAX];
	long start = now_ms();

	atomic_store(&left, (long)count);
	for (uint64_t i = 0; i < workers; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	for (uint64_t i = 0; i < workers; i++)
		pthread_join(threads[i], NULL);
	printf("%lu %ld\n", (unsigned long)count, now_ms() - start);
}

static void hold(uint64_t count)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (uint64_t i = 0; i < count; i++)
		dial();
	printf("%lu 0\n", (unsigned long)count);
	fflush(stdout);
	while (getchar() != EOF)
		;
}

int main(int argc, char **argv)
{
	uint64_t count = 0, workers = 0;
	struct failure why = { 0 };
	bool stay = argc == 4 && !strcmp(argv[3], "hold");

	report_init("conngen");
	if (argc != 4 || endpoint_parse(argv[1], &server, &why) < 0 ||
	    quantity_number(argv[2], 1, 10000000, &count, &why) < 0 ||
	    (!stay && quantity_number(argv[3], 1, WORKERS_MAX, &workers, &why) < 0)) {
		if (!why.detail[0])
			report_refuse(&why, "usage: conngen ADDRESS:PORT COUNT WORKERS|hold");
		report_failure(&why, STATUS_USAGE);
		return STATUS_USAGE;
	}
	if (stay)
		hold(count);
	else
		run(count, workers);
	return STATUS_DONE;
}
