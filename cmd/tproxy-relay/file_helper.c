/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * The directory may not exist yet: then the nearest existing one above it is used, and the missing
 * part becomes part of the file's name.
 *
 * A request is a text, after one byte that says whether to leave somebody else's file alone. While
 * one request is written others wait in the channel; the last of them counts.
 */
#include "tproxy-relay/file_helper.h"

#include "process/helper.h"
#include "process/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum request { REQUEST_WRITE = 'w', REQUEST_LEAVE = 'l' };

struct file_helper {
	int channel;
	char request[1 + FILE_HELPER_TEXT_MAX];
};

/* The helper's state. */
struct charge {
	const struct file_helper_task *task;
	struct privilege_user user; /* zeroed: it keeps its user */
	bool checks;		    /* check that the user may write there */
	int directory;
	const char *name; /* relative to the directory */
	char *draft;	  /* temporary name, while it is written */
	pid_t relay;
	bool failed;
	dev_t device; /* of the last file written */
	ino_t inode;
	char request[1 + FILE_HELPER_TEXT_MAX];
};

/* ---- the file, by names below the directory ---- */

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

static int fail(const struct charge *c, const char *call, struct failure *why)
{
	return report_fail(why, errno, call, "%s %s", c->task->option, c->task->path);
}

/*
 * Removes what a crashed relay with the same pid left behind.
 * #syscalls file: unlinkat, openat(O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW), fchmod, fstat
 */
static int write_draft(const struct charge *c, const char *text, size_t length, struct stat *st,
		       struct failure *why)
{
	int fd, err = 0;

	unlinkat(c->directory, c->draft, 0);
	fd = openat(c->directory, c->draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0644);
	if (fd < 0)
		return fail(c, "open", why);
	if (fchmod(fd, 0644) < 0 || write_all(fd, text, length) < 0 || fstat(fd, st) < 0)
		err = errno;
	if (close(fd) < 0 && !err)
		err = errno;
	errno = err;
	return err ? fail(c, "write", why) : 0;
}

/* #syscalls file: renameat, unlinkat */
static int replace(struct charge *c, const char *text, size_t length, struct failure *why)
{
	struct stat st = { 0 };
	int result = write_draft(c, text, length, &st, why);

	if (result == 0 && renameat(c->directory, c->draft, c->directory, c->name) < 0)
		result = fail(c, "rename", why);
	if (result < 0) {
		unlinkat(c->directory, c->draft, 0);
		return -1;
	}
	c->device = st.st_dev;
	c->inode = st.st_ino;
	return 0;
}

/* Which file has the name: this one, another one, or none? */
enum holder { HOLDER_THIS, HOLDER_OTHER, HOLDER_NONE };

/* #syscalls file: fstatat */
static enum holder find_holder(const struct charge *c, dev_t device, ino_t inode)
{
	struct stat st;

	if (fstatat(c->directory, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return HOLDER_NONE;
	return st.st_dev == device && st.st_ino == inode ? HOLDER_THIS : HOLDER_OTHER;
}

static void write_text(struct charge *c, const char *text, size_t length)
{
	struct failure why;
	char words[1024];

	if (replace(c, text, length, &why) < 0) {
		if (!c->failed)
			report_warning("%s; it will keep trying silently",
				       report_text(&why, words, sizeof(words)));
		c->failed = true;
		return;
	}
	if (c->failed)
		report_verbose(1, "%s %s: written again", c->task->option, c->task->path);
	c->failed = false;
}

/* ---- the helper ---- */

/* Open the first `length` bytes of the path, which are empty or end with a slash. */
static int open_part(const char *path, size_t length)
{
	char *part = length ? strndup(path, length) : strdup(".");
	int fd, saved;

	if (!part)
		return -1;
	fd = open(part, O_PATH | O_DIRECTORY | O_CLOEXEC);
	saved = errno;
	free(part);
	errno = saved;
	return fd;
}

/* Open the last directory of the path that exists: the rest is the name. */
static int open_directory(struct charge *c)
{
	const char *path = c->task->path;
	size_t cut = strlen(path);

	do {
		while (cut && path[cut - 1] != '/')
			cut--;
		c->name = path + cut;
		c->directory = open_part(path, cut);
		while (cut && path[cut - 1] == '/')
			cut--;
	} while (c->directory < 0 && errno == ENOENT && cut);
	return c->directory;
}

static int prepare(void *context, struct failure *why)
{
	struct charge *c = context;

	if (open_directory(c) < 0)
		return fail(c, "open", why);
	if (asprintf(&c->draft, "%s.%d", c->name, (int)c->relay) < 0)
		return report_fail(why, ENOMEM, "malloc", "%s", c->task->option);
	return 0;
}

static int directory_of(const void *context)
{
	const struct charge *c = context;

	return c->directory;
}

/* #syscalls file: faccessat */
static int begin(void *context, struct failure *why)
{
	struct charge *c = context;

	if (c->checks && faccessat(c->directory, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return fail(c, "access", why);
	if (c->task->text)
		write_text(c, c->task->text, c->task->length);
	return 0;
}

/* Receive the newest request; 0: there will be no more. */
static size_t receive(int channel, struct charge *c)
{
	size_t got = helper_receive(channel, c->request, sizeof(c->request)), size = got;

	for (ssize_t more = (ssize_t)got; more > 0 && (size_t)more <= sizeof(c->request);) {
		size = (size_t)more;
		more = recv(channel, c->request, sizeof(c->request), MSG_DONTWAIT | MSG_TRUNC);
	}
	return size;
}

/* Has a successor taken over the path? */
static bool is_taken(const struct charge *c)
{
	return c->request[0] == REQUEST_LEAVE && c->inode &&
	       find_holder(c, c->device, c->inode) == HOLDER_OTHER;
}

static void run(int channel, void *context)
{
	struct charge *c = context;
	const struct file_helper_task *t = c->task;
	size_t size;

	while ((size = receive(channel, c)) > 0)
		if (!is_taken(c))
			write_text(c, c->request + 1, size - 1);
	if (t->inode && find_holder(c, t->device, t->inode) == HOLDER_THIS)
		unlinkat(c->directory, c->name, 0);
}

/* ---- this side ---- */

/* Start it as the relay's user, if that user may write there. Other helpers' user is no use
 * here. */
static int start(struct charge *c, struct failure *why)
{
	const struct helper_role role = {
		.name = "tproxy-file",
		.prepare = prepare,
		.user = &c->user,
		.sandbox = c->task->sandbox ? SANDBOX_FILE : 0,
		.directory = directory_of,
		.begin = begin,
		.run = run,
	};
	int channel = -1;

	c->user = *c->task->user;
	c->checks = c->user.text != NULL;
	if (c->checks)
		channel = helper_start(&role, c, NULL);
	if (channel >= 0)
		return channel;
	c->user = (struct privilege_user){ 0 };
	c->checks = false;
	return helper_start(&role, c, why);
}

struct file_helper *file_helper_new(const struct file_helper_task *task, struct failure *why)
{
	struct charge *c = calloc(1, sizeof(*c));
	struct file_helper *k = c ? malloc(sizeof(*k)) : NULL;

	if (!k) {
		free(c);
		report_fail(why, ENOMEM, "malloc", "%s %s", task->option, task->path);
		return NULL;
	}
	c->task = task;
	c->relay = getpid();
	k->channel = start(c, why);
	free(c);
	if (k->channel >= 0)
		return k;
	free(k);
	return NULL;
}

void file_helper_write(struct file_helper *k, const char *text, size_t length, bool leave)
{
	if (length > FILE_HELPER_TEXT_MAX)
		return;
	k->request[0] = leave ? REQUEST_LEAVE : REQUEST_WRITE;
	memcpy(k->request + 1, text, length);
	send(k->channel, k->request, 1 + length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void file_helper_free(struct file_helper *k)
{
	if (!k)
		return;
	helper_end(k->channel);
	free(k);
}
