/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One socket with thousands of descriptors: in order, each once, and looking for another one beside
 * it costs no more for it. */
#include "net/sockowner.h"
#include "check.h"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MANY   30000
#define BUCKET (1u << 20) /* inodes that differ in this bit only share a bucket */

/* Processes of our own name only. */
static struct sockowner_list *read_ours(void)
{
	static const struct sockowner_filter ours = { .name = "sockowner-unit" };
	struct failure why = { 0 };

	return sockowner_read(&ours, &why);
}

static double cpu_s(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

/* The time that it takes to learn that nobody holds it; the best of three. */
static double time_to_miss(uint32_t inode)
{
	double best = 1e9;

	for (int i = 0; i < 3; i++) {
		double from = cpu_s();
		struct sockowner_list *list = read_ours();

		CHECK(!sockowner_find(list, inode));
		sockowner_free(list);
		if (cpu_s() - from < best)
			best = cpu_s() - from;
	}
	return best;
}

static void test_collision(uint32_t inode)
{
	double alone = time_to_miss((inode ^ BUCKET) + 1);

	CHECK(time_to_miss(inode ^ BUCKET) < 3 * alone + 0.005);
}

static void test_holders(uint32_t inode, int held)
{
	struct sockowner_list *list = read_ours();
	const struct sockowner *o = sockowner_find(list, inode);
	int count = 0, last = -1;

	for (; o; o = sockowner_next(list, o)) {
		CHECK(o->inode == inode && o->pid == getpid() && o->fd > last);
		last = o->fd;
		count++;
	}
	CHECK(count == held);
	sockowner_free(list);
}

/* Another socket, whose inode comes among those of many descriptors. */
static void test_other(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockowner_list *list = read_ours();
	const struct sockowner *o;
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	o = sockowner_find(list, (uint32_t)st.st_ino);
	CHECK(o && o->fd == fd && !sockowner_next(list, o));
	CHECK(!sockowner_find(list, 0) && !sockowner_find(NULL, 1));
	sockowner_free(list);
	close(fd);
}

int main(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0), held = 1;
	struct rlimit limit;
	struct stat st;

	CHECK(prctl(PR_SET_NAME, "sockowner-unit") == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	while (held < MANY && dup(fd) >= 0)
		held++;
	/* (One is left for /proc where the limit is lower.) */
	for (int i = 0; held < MANY && i < 16; i++)
		close(--held + fd);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	test_holders((uint32_t)st.st_ino, held);
	test_collision((uint32_t)st.st_ino);
	test_other();
	return check_done();
}
