/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * privilege - whose rights a program has; it keeps only those that it still needs.
 *
 * Capabilities belong to a thread: call this while there is only one thread; later threads inherit
 * what is left.
 */
#ifndef TPROXY_PROCESS_PRIVILEGE_H
#define TPROXY_PROCESS_PRIVILEGE_H

#include "base/options.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* `NAME[:GROUP]`, resolved. Zeroed: no user given. */
struct privilege_user {
	const char *text; /* as it was typed; borrowed */
	uid_t uid;
	gid_t gid;
	char name[64]; /* "": only the number is known, no supplementary groups */
};

/* An option's setter (field: struct privilege_user). NAME and GROUP are names or numbers; a number
 * needs no passwd or group entry, and an unknown name is a usage error. */
option_setter privilege_option_user;

/*
 * The user that root becomes if none was given: `tproxy`, which packages create, else `nobody`.
 * Call it when the options are known; a user that is already set is kept, and a process that is not
 * root stays what it is. Root also stays root if there is no other user at all: in a user namespace
 * that only has uid 0. Returns 0, or -1 if root stays root though it should not, with the reason in
 * *why.
 */
int privilege_choose_user(struct privilege_user *user, struct failure *why);

/* Does this process have that capability (CAP_*) in effect? */
bool privilege_has(int capability);

/*
 * Become that user, with that user's groups, if it is set, and of the capabilities that this
 * process has keep only those listed (CAP_*, count of them). The bounding set is left alone: it is
 * up to our commands what they may become. Returns 0, or -1 with *why.
 */
int privilege_drop(const struct privilege_user *user, const int *keep, size_t count,
		   struct failure *why);

/* Give up one capability (CAP_*) for ever; it need not be there. 0, or -1 with *why. */
int privilege_give_up(int capability, struct failure *why);

/*
 * Call `act` while no capability is in effect. Sockets that it opens never have any either: netlink
 * checks the rights of the process that opened a socket as well as those of the sender
 * (netlink_capable(), net/netlink/af_netlink.c). Returns what `act` returns, or -1 with *why.
 */
int privilege_without(int (*act)(void *context, struct failure *why), void *context,
		      struct failure *why);

/* From now on no program that this process executes gains rights (PR_SET_NO_NEW_PRIVS). 0, or -1
 * with *why. */
int privilege_seal(struct failure *why);

#endif
