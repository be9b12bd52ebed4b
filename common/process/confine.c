/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/confine.h"

#include "base/sanitized.h"
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h, which older systems lack, or have without `scoped`. The numbers are those of every
 * architecture but alpha. */
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

/* The version of the kernel's interface; 0: there is none, or whatever runs this process keeps it from it. */
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

/* What the version knows: a right that is handled and not granted is taken away. */
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
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return report_fail(why, errno, "prctl(PR_SET_NO_NEW_PRIVS)", "sandbox");
	if (syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return report_fail(why, errno, "landlock_restrict_self", "sandbox");
	return 0;
}

int confine_enter(int directory, struct failure *why)
{
	const struct ruleset all = everything();
	int rules, result;

	if (!version())
		return 0;
	/* A kernel of an older version takes the longer structure as long as what it lacks is 0. */
	rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules < 0) {
		report_fail(why, errno, "landlock_create_ruleset", "sandbox");
		return report_hint(why, "--no-sandbox does without it");
	}
	result = restrict_by(rules, directory, why);
	close(rules);
	return result < 0 ? report_hint(why, "--no-sandbox does without it") : 0;
}

const char *confine_text(void)
{
	if (!version())
		return "system calls (seccomp); no Landlock here";
	if (version() < 6)
		return "system calls (seccomp), files (Landlock)";
	return "system calls (seccomp), files, signals and abstract sockets (Landlock)";
}
