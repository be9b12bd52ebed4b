/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/sockowner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An array sorted by inode, terminated by an entry with inode 0. */
struct sockowner_list {
	struct sockowner *at;
	size_t count, room;
	bool hidden;
};

static int add(struct sockowner_list *list, const struct sockowner *owner)
{
	if (list->count + 1 >= list->room) {
		size_t room = list->room ? list->room * 2 : 256;
		struct sockowner *at = realloc(list->at, room * sizeof(*at));

		if (!at)
			return -1;
		list->at = at;
		list->room = room;
	}
	list->at[list->count++] = *owner;
	list->at[list->count] = (struct sockowner){ 0 };
	return 0;
}

/* The inode behind /proc/PID/fd/N, or 0 if that is not a socket (*err 0, ENOENT), or may not be
 * seen (EACCES: then nothing of that process may). */
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

static void read_name(int process, char name[SOCKOWNER_NAME_MAX])
{
	int fd = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, name, SOCKOWNER_NAME_MAX);

	if (fd >= 0)
		close(fd);
	name[length > 0 ? length - 1 : 0] = '\0'; /* in place of the newline */
}

/* All sockets in a process's list of descriptors, which this takes over. Returns 0 or an errno
 * value. */
static int read_descriptors(struct sockowner_list *list, struct sockowner *owner, int descriptors)
{
	DIR *dir = fdopendir(descriptors);
	int err = 0;

	if (!dir) {
		close(descriptors);
		return ENOMEM;
	}
	for (struct dirent *entry; err != EACCES && (entry = readdir(dir));) {
		if (entry->d_name[0] == '.' ||
		    !(owner->inode = socket_inode(descriptors, entry->d_name, &err)))
			continue;
		owner->fd = atoi(entry->d_name);
		if (add(list, owner)) {
			err = ENOMEM;
			break;
		}
	}
	closedir(dir);
	return err == ENOENT ? 0 : err;
}

/* The process whose directory in /proc is open as `process`. Returns 0, or an errno value: ENOMEM,
 * or why its descriptors could not be read. */
static int read_process(struct sockowner_list *list, const struct sockowner_filter *filter,
			pid_t pid, int process)
{
	struct sockowner owner = { .pid = pid };
	int descriptors;

	read_name(process, owner.name);
	if (filter && filter->name &&
	    strncmp(owner.name, filter->name, sizeof(owner.name) - 1) != 0)
		return 0;
	descriptors = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (descriptors < 0)
		return errno;
	return read_descriptors(list, &owner, descriptors);
}

static int compare(const void *one, const void *other)
{
	const struct sockowner *a = one, *b = other;

	if (a->inode != b->inode)
		return a->inode < b->inode ? -1 : 1;
	return a->pid != b->pid ? a->pid - b->pid : a->fd - b->fd;
}

/* One entry of /proc. Returns 0 or an errno value. */
static int read_entry(struct sockowner_list *list, const struct sockowner_filter *filter, int proc,
		      const char *name)
{
	int process = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (process < 0)
		return errno;
	err = read_process(list, filter, (pid_t)atoi(name), process);
	close(process);
	return err;
}

/* Processes that have exited meanwhile are skipped, and so are those of others (but remembered). */
static int read_all(struct sockowner_list *list, const struct sockowner_filter *filter, DIR *proc,
		    struct failure *why)
{
	int err = 0;

	for (struct dirent *entry; err != ENOMEM && (entry = readdir(proc));) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		err = read_entry(list, filter, dirfd(proc), entry->d_name);
		if (err == EACCES || err == EPERM)
			list->hidden = true;
	}
	return err == ENOMEM ? report_fail(why, ENOMEM, "malloc", "sockets of /proc") : 0;
}

static int read_one(struct sockowner_list *list, const struct sockowner_filter *filter, DIR *proc,
		    struct failure *why)
{
	char name[16];
	int err;

	snprintf(name, sizeof(name), "%d", (int)filter->pid);
	err = read_entry(list, filter, dirfd(proc), name);
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
	DIR *proc = opendir("/proc");
	int err;

	if (!proc || !list)
		err = report_fail(why, proc ? ENOMEM : errno, "opendir", "/proc");
	else
		err = filter && filter->pid ? read_one(list, filter, proc, why)
					    : read_all(list, filter, proc, why);
	if (proc)
		closedir(proc);
	if (err) {
		sockowner_free(list);
		return NULL;
	}
	if (list->count)
		qsort(list->at, list->count, sizeof(*list->at), compare);
	return list;
}

const struct sockowner *sockowner_find(const struct sockowner_list *list, uint32_t inode)
{
	size_t low = 0, high = list ? list->count : 0;

	if (!inode)
		return NULL;
	while (low < high) { /* the lowest of equal ones */
		size_t middle = low + (high - low) / 2;

		if (list->at[middle].inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	return list && low < list->count && list->at[low].inode == inode ? &list->at[low] : NULL;
}

bool sockowner_hidden(const struct sockowner_list *list)
{
	return list->hidden;
}

void sockowner_free(struct sockowner_list *list)
{
	if (!list)
		return;
	free(list->at);
	free(list);
}

const char *sockowner_describe(const struct sockowner_list *list, uint32_t inode, uid_t uid,
			       char buf[SOCKOWNER_TEXT_MAX])
{
	const struct sockowner *owner = sockowner_find(list, inode);

	if (owner)
		snprintf(buf, SOCKOWNER_TEXT_MAX, "%s (pid %d)", owner->name, (int)owner->pid);
	else
		snprintf(buf, SOCKOWNER_TEXT_MAX, "a process of uid %u", (unsigned)uid);
	return buf;
}
