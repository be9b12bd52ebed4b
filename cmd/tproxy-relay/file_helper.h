/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file_helper - a process in charge of one path, so that the relay itself needs no file access.
 *
 * It replaces what the file holds (--metrics-file), or removes it at the end (--control), also
 * after SIGKILL. It acts by a descriptor of the directory, opened before any rights are given up,
 * and is the relay's user if that one may write there; else it stays who started the relay, without
 * capabilities.
 */
#ifndef TPROXY_RELAY_FILE_HELPER_H
#define TPROXY_RELAY_FILE_HELPER_H

#include "base/report.h"
#include "process/privilege.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct file_helper;

/* What it is to do. All is borrowed until it has been started. */
struct file_helper_task {
	const char *option; /* `--control`: for messages */
	const char *path;
	const struct privilege_user *user;
	bool sandbox;
	/* To be removed at the end, if it is still this file; inode 0: nothing is. */
	dev_t device;
	ino_t inode;
	/* The first text for it, written before file_helper_new() returns; NULL: none. */
	const char *text;
	size_t length;
};

/* While there is one thread. NULL with *why: no process to be had. That a file cannot be written is
 * told to stderr (once, until it can be again), and no error. */
struct file_helper *file_helper_new(const struct file_helper_task *task, struct failure *why);

/*
 * Replace the file by a text of at most FILE_HELPER_TEXT_MAX bytes, or, while the last one is still
 * being written, not: nobody waits for a disk. `leave`: not if somebody else has replaced it since.
 */
#define FILE_HELPER_TEXT_MAX 65536
void file_helper_write(struct file_helper *k, const char *text, size_t length, bool leave);

/* Have it end, which is waited for (a second at most), and free. NULL is fine. */
void file_helper_free(struct file_helper *k);

#endif
