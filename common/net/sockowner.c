/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sockowner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is known so far, in the order in which it was read. The first holder of an inode stands for all
 * of them: one socket may have any number of descriptors. */
struct entry {
	struct sockowner owner;
	uint32_t after;	 /* position of the next inode in the same bucket; 0: none */
	uint32_t holder; /* of the next holder of the same inode */
	uint32_t last;	 /* of its last holder; 0: this is not the first */
};

struct sockowner_list {
	struct entry *at; /* from 1 on */
	uint32_t count, room;
	uint32_t *bucket; /* `room` of them, by inode: positions of first holders */
	struct sockowner_filter filter;
	DIR *proc, *descriptors; /* how far it has been read; NULL: to the end */
	struct stat netns;	 /* ours; those of others come second, */
	bool others;		 /* as now */
	struct sockowner now;	 /* whose descriptors */
	bool hidden;
};

/* ---- the table ---- */

static uint32_t *bucket_of(const struct sockowner_list *list, uint32_t inode)
{
	return &list->bucket[inode & (list->room - 1)];
}

/* The position of an inode's first holder, or 0. */
static uint32_t find_first(const struct sockowner_list *list, uint32_t inode)
{
	uint32_t position = list->room ? *bucket_of(list, inode) : 0;

	while (position && list->at[position].owner.inode != inode)
		position = list->at[position].after;
	return position;
}

static void enter_first(struct sockowner_list *list, uint32_t position)
{
	uint32_t *bucket = bucket_of(list, list->at[position].owner.inode);

	list->at[position].after = *bucket;
	*bucket = position;
}

static bool grow(struct sockowner_list *list)
{
	uint32_t room = list->room ? list->room * 2 : 256;
	struct entry *at = realloc(list->at, room * sizeof(*at));
	uint32_t *bucket = at ? calloc(room, sizeof(*bucket)) : NULL;

	if (at)
		list->at = at;
	if (!bucket)
		return false;
	free(list->bucket);
	list->bucket = bucket;
	list->room = room;
	for (uint32_t i = 1; i <= list->count; i++)
		if (list->at[i].last)
			enter_first(list, i);
	return true;
}

/* (Without memory it is missing, like what may not be seen.) */
static void add(struct sockowner_list *list, const struct sockowner *owner)
{
	uint32_t first, position;

	if (list->count + 1 >= list->room && !grow(list)) {
		list->hidden = true;
		return;
	}
	first = find_first(list, owner->inode);
	position = ++list->count;
	list->at[position] = (struct entry){ .owner = *owner };
	if (first) {
		list->at[list->at[first].last].holder = position;
		list->at[first].last = position;
		return;
	}
	list->at[position].last = position;
	enter_first(list, position);
}

/* ---- /proc ---- */

/* The inode behind /proc/PID/fd/N, or 0 if that is not a socket (*err 0, ENOENT), or may not be
 * seen (EACCES: then nothing of that process may).
 * #syscalls collect: readlinkat */
static uint32_t socket_inode(int directory, const char *fd, int *err)
{
	static const char start[] = "socket:[";
	char target[64];
	ssize_t length = readlinkat(directory, fd, target, sizeof(target) - 1);

	*err = length < 0 ? errno : 0;
	if (length < (ssize_t)sizeof(start) || memcmp(target, start, sizeof(start) - 1) != 0)
		return 0;
	target[length] = '\0';
	return (uint32_t)strtoul(target + sizeof(start) - 1, NULL, 10);
}

/* #syscalls collect: openat(O_RDONLY), read, close */
static void read_name(int process, char name[SOCKOWNER_NAME_MAX])
{
	int fd = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, name, SOCKOWNER_NAME_MAX);

	if (fd >= 0)
		close(fd);
	name[length > 0 ? length - 1 : 0] = '\0'; /* in place of the newline */
}

static void end_process(struct sockowner_list *list)
{
	closedir(list->descriptors);
	list->descriptors = NULL;
}

/* Returns 0 or an errno value. */
static int read_descriptor(struct sockowner_list *list)
{
	const struct dirent *entry = readdir(list->descriptors);
	int err = 0;

	if (!entry) {
		end_process(list);
		return 0;
	}
	if (*entry->d_name == '.')
		return 0;
	list->now.inode = socket_inode(dirfd(list->descriptors), entry->d_name, &err);
	list->now.fd = atoi(entry->d_name);
	if (list->now.inode)
		add(list, &list->now);
	if (err != EACCES)
		return 0;
	end_process(list);
	return err;
}

/* The process whose directory in /proc is open as `process`. Returns 0, or an errno value: why its
 * descriptors cannot be read.
 * #syscalls collect: openat(O_RDONLY | O_DIRECTORY), fstat, fcntl(F_GETFL), fcntl(F_SETFD) */
static int open_descriptors(struct sockowner_list *list, pid_t pid, int process)
{
	const char *name = list->filter.name;
	int fd;

	list->now = (struct sockowner){ .pid = pid };
	read_name(process, list->now.name);
	if (name && strncmp(list->now.name, name, sizeof(list->now.name) - 1) != 0)
		return 0;
	fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	list->descriptors = fdopendir(fd);
	if (list->descriptors)
		return 0;
	close(fd);
	return ENOMEM;
}

/* Is that process in another network namespace, or in one that we may not see?
 * #syscalls collect: fstatat */
static bool is_elsewhere(const struct sockowner_list *list, const char *name)
{
	struct stat netns;
	char path[32];

	snprintf(path, sizeof(path), "%.20s/ns/net", name);
	return list->netns.st_ino &&
	       (fstatat(dirfd(list->proc), path, &netns, 0) < 0 ||
		netns.st_ino != list->netns.st_ino || netns.st_dev != list->netns.st_dev);
}

/* One entry of /proc. Returns 0 or an errno value. */
static int open_process(struct sockowner_list *list, const char *name)
{
	int process = openat(dirfd(list->proc), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (process < 0)
		return errno;
	err = open_descriptors(list, (pid_t)atoi(name), process);
	close(process);
	return err;
}

/* #syscalls collect: getdents64, lseek */
static int read_entry(struct sockowner_list *list)
{
	const struct dirent *entry = readdir(list->proc);

	if (entry && (*entry->d_name < '1' || *entry->d_name > '9' ||
		      is_elsewhere(list, entry->d_name) != list->others))
		return 0;
	if (entry)
		return open_process(list, entry->d_name);
	if (!list->others) {
		list->others = true;
		rewinddir(list->proc);
		return 0;
	}
	closedir(list->proc);
	list->proc = NULL;
	return 0;
}

/* A step. Processes that have exited meanwhile are skipped, and so are those of others (but
 * remembered). False: there is no more. */
static bool read_more(struct sockowner_list *list)
{
	int err;

	if (!list->proc && !list->descriptors)
		return false;
	err = list->descriptors ? read_descriptor(list) : read_entry(list);
	if (err && err != ENOENT && err != ESRCH)
		list->hidden = true;
	return true;
}

/* All of one process, now: whether it is there, and may be inspected, must be said. */
static int read_one(struct sockowner_list *list, pid_t pid, struct failure *why)
{
	char name[16];
	int err;

	snprintf(name, sizeof(name), "%d", (int)pid);
	err = open_process(list, name);
	while (!err && list->descriptors)
		err = read_descriptor(list);
	closedir(list->proc);
	list->proc = NULL;
	if (!err)
		return 0;
	report_fail(why, err == ENOENT ? ESRCH : err, "", "process %s", name);
	if (err == EACCES)
		report_hint(why, "needs CAP_SYS_PTRACE");
	return -1;
}

struct sockowner_list *sockowner_read(const struct sockowner_filter *filter, struct failure *why)
{
	struct sockowner_list *list = calloc(1, sizeof(*list));
	int err = 0;

	if (list && filter)
		list->filter = *filter;
	if (list && stat("/proc/thread-self/ns/net", &list->netns) < 0)
		list->netns.st_ino = 0;
	if (!list || !(list->proc = opendir("/proc")))
		err = report_fail(why, list ? errno : ENOMEM, "opendir", "/proc");
	else if (list->filter.pid)
		err = read_one(list, list->filter.pid, why);
	if (!err)
		return list;
	sockowner_free(list);
	return NULL;
}

void sockowner_free(struct sockowner_list *list)
{
	if (!list)
		return;
	if (list->descriptors)
		closedir(list->descriptors);
	if (list->proc)
		closedir(list->proc);
	free(list->bucket);
	free(list->at);
	free(list);
}

/* ---- answers ---- */

/* The next one that is read, if it holds that inode. */
static uint32_t read_for(struct sockowner_list *list, uint32_t inode, bool *more)
{
	uint32_t before = list->count;

	*more = read_more(list);
	return list->count > before && list->at[list->count].owner.inode == inode ? list->count : 0;
}

const struct sockowner *sockowner_find(struct sockowner_list *list, uint32_t inode)
{
	bool more = true;
	uint32_t found;

	if (!list || !inode)
		return NULL;
	found = find_first(list, inode);
	while (!found && more)
		found = read_for(list, inode, &more);
	return found ? &list->at[found].owner : NULL;
}

const struct sockowner *sockowner_next(struct sockowner_list *list, const struct sockowner *owner)
{
	/* `owner` is the first member of its entry; reading may move the entries. */
	size_t position = (size_t)((const struct entry *)(const void *)owner - list->at);

	while (read_more(list))
		;
	position = list->at[position].holder;
	return position ? &list->at[position].owner : NULL;
}

bool sockowner_hidden(const struct sockowner_list *list)
{
	return list->hidden;
}

const char *sockowner_describe(struct sockowner_list *list, uint32_t inode, uid_t uid,
			       char buf[SOCKOWNER_TEXT_MAX])
{
	const struct sockowner *owner = sockowner_find(list, inode);

	if (owner)
		snprintf(buf, SOCKOWNER_TEXT_MAX, "%s (pid %d)", owner->name, (int)owner->pid);
	else
		snprintf(buf, SOCKOWNER_TEXT_MAX, "a process of uid %u", (unsigned)uid);
	return buf;
}
