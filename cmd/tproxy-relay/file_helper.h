/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file_helper - a process in charge of one path, so that the relay itself needs no file access.
 *
 * It replaces the contents of the file (--metrics-file), or removes it at the end (--control), even
 * after SIGKILL of the relay. It works through a descriptor of the directory, opened before any
 * rights are dropped. It runs as the relay's user if that user may write there; else as the user
 * who started the relay, without capabilities.
 */
#ifndef TPROXY_RELAY_FILE_HELPER_H
#define TPROXY_RELAY_FILE_HELPER_H

#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct file_helper;

/* Its task. Everything is borrowed until the helper has started. */
struct file_helper_task {
	const char *option; /* `--control`: for messages */
	const char *path;
	const struct privilege_user *user;
	bool sandbox;
	/* Remove the path at the end if it is still this file; inode 0: remove nothing. */
	dev_t device;
	ino_t inode;
	/* The first contents, written before file_helper_new() returns; NULL: none. */
	const char *text;
	size_t length;
};

/* Call this while there is one thread. NULL with *why: the process could not be started. A file
 * that cannot be written is no error: it is reported on stderr, once until it can be written
 * again. */
struct file_helper *file_helper_new(const struct file_helper_task *task, struct failure *why);

/*
 * Replace the contents with a text of at most FILE_HELPER_TEXT_MAX bytes. Does nothing while the
 * last text is still being written: nobody waits for a disk. `leave`: do nothing if somebody else
 * has replaced the file since.
 */
#define FILE_HELPER_TEXT_MAX 65536
void file_helper_write(struct file_helper *k, const char *text, size_t length, bool leave);

/* End the helper, wait for it (a second at most), and free. NULL is fine. */
void file_helper_free(struct file_helper *k);

#endif
