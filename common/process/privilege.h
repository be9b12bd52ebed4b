/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * privilege - whose rights a program has, and no more of them than it still needs.
 *
 * Capabilities are a thread's own: to be called while there is only one thread, those that start
 * later inherit what is left.
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

/* An option's setter (field: struct privilege_user). NAME and GROUP are names or numbers; a number
 * needs no entry, and a name that is unknown is a usage error. */
option_setter privilege_option_user;

/*
 * Whom root becomes that was not told: the user `tproxy`, which packages make, or else `nobody`. To
 * be called when the options are known; a user that is set stays, and who is not root stays who it
 * is. Also root stays where there is no other user at all: in a user namespace that has uid 0 only.
 * Returns 0, or -1 when root stays though it should not, with the reason in *why.
 */
int privilege_choose_user(struct privilege_user *user, struct failure *why);

/* Does this process have that capability (CAP_*) to use? */
bool privilege_has(int capability);

/*
 * Become that user with that user's groups, if it is set, and keep of the capabilities only those
 * listed (CAP_*, count of them) that this process has. The bounding set is left alone: what a
 * command of ours may become is its own affair. Returns 0, or -1 with *why.
 */
int privilege_drop(const struct privilege_user *user, const int *keep, size_t count,
		   struct failure *why);

/* Give up one capability (CAP_*), for ever; it may be missing already. 0, or -1 with *why. */
int privilege_give_up(int capability, struct failure *why);

/*
 * Call `act` while no capability is in effect. What it opens has none either, for ever: netlink
 * wants a right of who opened a socket as well as of who sends (netlink_capable(),
 * net/netlink/af_netlink.c). Returns what `act` does, or -1 with *why.
 */
int privilege_without(int (*act)(void *context, struct failure *why), void *context,
		      struct failure *why);

/* No program that this process may become gives it more rights than it has then
 * (PR_SET_NO_NEW_PRIVS). 0, or -1 with *why. */
int privilege_seal(struct failure *why);

#endif
