/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * privilege - whose rights a program has, and no more of them than it still needs.
 *
 * Capabilities are a thread's own: to be called while there is only one thread, those that start later
 * inherit what is left.
 */
#ifndef TPROXY_PROCESS_PRIVILEGE_H
#define TPROXY_PROCESS_PRIVILEGE_H

#include "base/options.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* `NAME[:GROUP]`, looked up. Zeroed: nobody in particular. */
struct privilege_user {
	const char *text; /* as it was typed; borrowed */
	uid_t uid;
	gid_t gid;
	char name[64]; /* "": known by its number only, no supplementary groups */
};

/* NAME and GROUP are names or numbers; a number needs no entry. -1 with *why naming what is unknown. */
int privilege_find_user(const char *text, struct privilege_user *out, struct failure *why);

/* The same as an option's setter (field: struct privilege_user): an unknown one is a usage error. */
option_setter privilege_option_user;

/* Does this process have that capability (CAP_*) to use? */
bool privilege_has(int capability);

/*
 * Become that user with that user's groups, if it is set, and keep of the capabilities only those
 * listed (CAP_*, count of them) that this process has. The bounding set is left alone: what a command
 * of ours may become is its own affair. Returns 0, or -1 with *why.
 */
int privilege_drop(const struct privilege_user *user, const int *keep, size_t count,
		   struct failure *why);

#endif
