/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/confine.h"

#include "base/sanitized.h"
#include "process/privilege.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h, which older systems lack, or have without `scoped`. The numbers are the same on
 * every architecture except alpha. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule	    445
#define SYS_landlock_restrict_self  446
#endif

struct ruleset {
	uint64_t files, ports, scoped;
};

struct beneath {
	uint64_t allowed;
	int32_t directory;
} __attribute__((packed));

#define RULE_BENEATH 1U
#define GET_VERSION  1U

#define FILES_FIRST    0x1fffU /* LANDLOCK_ACCESS_FS_*: what the first version knows */
#define FILES_REFER    (1U << 13)
#define FILES_TRUNCATE (1U << 14)
#define FILES_DEVICES  (1U << 15)
#define WRITE_FILE     (1U << 1)
#define REMOVE_FILE    (1U << 5)
#define MAKE_REGULAR   (1U << 8)

#define SCOPE_ABSTRACT_SOCKETS 1U
#define SCOPE_SIGNALS	       2U

/* The version of the kernel's interface; 0: there is none, or whatever runs this process forbids
 * it. */
static int version(void)
{
	static int known = -1;
	long answer;

	if (known < 0) {
		answer = SANITIZED ? 0 : syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION);
		known = answer > 0 ? (int)answer : 0;
	}
	return known;
}

/* The rights that the version knows: a right that is handled and not granted is taken away. */
static struct ruleset everything(void)
{
	struct ruleset all = { .files = FILES_FIRST };

	if (version() >= 2)
		all.files |= FILES_REFER;
	if (version() >= 3)
		all.files |= FILES_TRUNCATE;
	if (version() >= 5)
		all.files |= FILES_DEVICES;
	if (version() >= 6)
		all.scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS;
	return all;
}

static int restrict_by(int rules, int directory, struct failure *why)
{
	const struct beneath own = { WRITE_FILE | REMOVE_FILE | MAKE_REGULAR, directory };

	if (directory >= 0 && syscall(SYS_landlock_add_rule, rules, RULE_BENEATH, &own, 0) < 0)
		return report_fail(why, errno, "landlock_add_rule", "sandbox");
	if (privilege_seal(why) < 0)
		return -1;
	if (syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return report_fail(why, errno, "landlock_restrict_self", "sandbox");
	return 0;
}

/* ---- without Landlock ---- */

/* Has the root of this process been replaced? */
static bool hidden;

/* A mount point: the mount is visible to this process only. */
#define PLACE "/proc"

int confine_capability(void)
{
	bool useful = !SANITIZED && !version() && privilege_has(CAP_SYS_ADMIN);

	return useful ? CAP_SYS_ADMIN : -1;
}

/* The new root: the directory, or an empty file system. The descriptor belongs to another mount
 * namespace, from which nothing can be bound, so its path is used. */
static int mount_root(int directory)
{
	char link[64], path[PATH_MAX];
	ssize_t length;

	if (directory < 0)
		return mount("none", PLACE, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			     "size=4k,mode=555");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return -1;
	path[length] = '\0';
	return mount(path, PLACE, NULL, MS_BIND, NULL);
}

/* The old root is stacked upon the new one, and is then removed (pivot_root(2), NOTES). */
static int change_root(void)
{
	if (chdir(PLACE) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

/* The old descriptor still leads out of the new root. */
static int use_new_root(int directory)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;

	if (fd < 0)
		return -1;
	result = dup3(fd, directory, O_CLOEXEC);
	close(fd);
	return result;
}

/* If mounts are forbidden in spite of the capability (containers), continue without. */
static int hide_files(int directory, struct failure *why)
{
	hidden = unshare(CLONE_NEWNS) == 0 &&
		 mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		 mount_root(directory) == 0 && change_root() == 0 &&
		 (directory < 0 || use_new_root(directory) >= 0);
	return privilege_give_up(CAP_SYS_ADMIN, why);
}

static int enter_landlock(int directory, struct failure *why)
{
	const struct ruleset all = everything();
	/* An older kernel accepts the longer structure as long as the fields that it does not know
	 * are 0. */
	int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0), result;

	if (rules < 0) {
		report_fail(why, errno, "landlock_create_ruleset", "sandbox");
		return report_hint(why, "--no-sandbox runs without it");
	}
	result = restrict_by(rules, directory, why);
	close(rules);
	return result < 0 ? report_hint(why, "--no-sandbox runs without it") : 0;
}

int confine_enter(int directory, struct failure *why)
{
	if (version())
		return enter_landlock(directory, why);
	return confine_capability() < 0 ? 0 : hide_files(directory, why);
}

const char *confine_text(void)
{
	if (!version() && (hidden || confine_capability() >= 0))
		return "system calls (seccomp), files (mount namespace); no Landlock here";
	if (!version())
		return "system calls (seccomp); no Landlock here";
	if (version() < 6)
		return "system calls (seccomp), files (Landlock)";
	return "system calls (seccomp), files, signals and abstract sockets (Landlock)";
}
