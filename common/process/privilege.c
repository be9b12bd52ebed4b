/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/privilege.h"

#include "base/quantity.h"
#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int find_name(const char *name, struct privilege_user *out, struct failure *why)
{
	struct passwd *entry = getpwnam(name);
	uint64_t number;

	if (!entry && quantity_number(name, 0, INT32_MAX, &number, NULL) == 0) {
		entry = getpwuid((uid_t)number);
		*out = (struct privilege_user){ .uid = (uid_t)number, .gid = (gid_t)number };
	} else if (!entry) {
		return report_refuse(why, "no such user: %s", name);
	}
	if (entry) {
		*out = (struct privilege_user){ .uid = entry->pw_uid, .gid = entry->pw_gid };
		snprintf(out->name, sizeof(out->name), "%s", entry->pw_name);
	}
	return 0;
}

static int find_group(const char *group, gid_t *gid, struct failure *why)
{
	struct group *entry = getgrnam(group);
	uint64_t number;

	if (!entry && quantity_number(group, 0, INT32_MAX, &number, NULL) < 0)
		return report_refuse(why, "no such group: %s", group);
	*gid = entry ? entry->gr_gid : (gid_t)number;
	return 0;
}

static int find_user(const char *text, struct privilege_user *out, struct failure *why)
{
	const char *colon = strchr(text, ':');
	char name[sizeof(out->name)];
	size_t length = colon ? (size_t)(colon - text) : strlen(text);

	if (length >= sizeof(name))
		return report_refuse(why, "no such user: %.*s", (int)length, text);
	memcpy(name, text, length);
	name[length] = '\0';
	if (find_name(name, out, why) < 0)
		return -1;
	out->text = text;
	return colon ? find_group(colon + 1, &out->gid, why) : 0;
}

int privilege_option_user(void *field, const char *arg, const struct option_spec *self,
			  struct failure *why)
{
	return find_user(arg, field, why);
}

/* ---- the user that root becomes ---- */

/* Does this user namespace have that number (user_namespaces(7))? If that cannot be read, it is no
 * reason to stay root. */
static bool is_mapped(const char *path, unsigned id)
{
	FILE *in = fopen(path, "re");
	unsigned inside, outside, count;
	bool mapped = !in;

	while (in && !mapped && fscanf(in, "%u %u %u", &inside, &outside, &count) == 3)
		mapped = id - inside < count;
	if (in)
		fclose(in);
	return mapped;
}

/* The creator of the namespace may not have been allowed to change groups; then nobody in it is. */
static bool groups_denied(void)
{
	FILE *in = fopen("/proc/self/setgroups", "re");
	char word[8] = "";

	if (in && fscanf(in, "%7s", word) != 1)
		word[0] = '\0';
	if (in)
		fclose(in);
	return strcmp(word, "deny") == 0;
}

static bool is_possible(const struct privilege_user *user)
{
	return is_mapped("/proc/self/uid_map", user->uid) &&
	       is_mapped("/proc/self/gid_map", user->gid) && !groups_denied();
}

int privilege_choose_user(struct privilege_user *user, struct failure *why)
{
	static const char *const names[] = { "tproxy", "nobody" };
	struct privilege_user other = { 0 };

	if (user->text || geteuid() != 0)
		return 0;
	for (size_t i = 0; !other.uid && i < sizeof(names) / sizeof(*names); i++)
		find_user(names[i], &other, NULL);
	if (!other.uid) {
		report_refuse(why, "stays root: there is neither a user tproxy nor nobody");
		return report_hint(why, "--user names another");
	}
	if (!is_possible(&other))
		return 0;
	if (!privilege_has(CAP_SETUID) || !privilege_has(CAP_SETGID))
		return report_refuse(
			why, "stays root: CAP_SETUID and CAP_SETGID are missing to become %s",
			other.name);
	if (strcmp(other.name, "nobody") == 0)
		other.name[0] = '\0'; /* nobody has no groups, and looking for them takes time */
	*user = other;
	return 0;
}

/* ---- capabilities ---- */

bool privilege_has(int capability)
{
	capng_get_caps_process();
	return capng_have_capability(CAPNG_EFFECTIVE, (unsigned)capability);
}

/* Put what is to be kept into libcap-ng's state. 0, or -1. */
static int select_capabilities(const int *keep, size_t count)
{
	bool has[CAP_LAST_CAP + 1] = { false };
	int result = 0;

	for (size_t i = 0; i < count; i++)
		has[keep[i]] = privilege_has(keep[i]);
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		if (has[c])
			result |= capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, c);
	return result;
}

int privilege_drop(const struct privilege_user *user, const int *keep, size_t count,
		   struct failure *why)
{
	int err = 0;

	if (user->text)
		err = user->name[0] ? initgroups(user->name, user->gid) : setgroups(0, NULL);
	if (err < 0)
		return report_fail(why, errno, "setgroups", "--user %s", user->text);
	errno = 0; /* libcap-ng's own numbers say little */
	err = select_capabilities(keep, count);
	if (!err)
		err = user->text ? capng_change_id((int)user->uid, (int)user->gid, CAPNG_NO_FLAG)
				 : capng_apply(CAPNG_SELECT_CAPS);
	if (!err)
		return 0;
	err = errno ? errno : EPERM;
	if (user->text)
		return report_fail(why, err, "setresuid", "--user %s", user->text);
	return report_fail(why, err, "capset", "capabilities");
}

static int fail_to_set(struct failure *why)
{
	return report_fail(why, errno, "capset", "capabilities");
}

/* Of this thread; like capget(2) and capset(2), which have no other prototype. */
static int set_capabilities(const struct __user_cap_data_struct *sets)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return (int)syscall(SYS_capset, &header, sets);
}

int privilege_give_up(int capability, struct failure *why)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	unsigned bit = ~CAP_TO_MASK((unsigned)capability), at = CAP_TO_INDEX((unsigned)capability);

	if (syscall(SYS_capget, &header, sets) < 0)
		return report_fail(why, errno, "capget", "capabilities");
	sets[at].effective &= bit;
	sets[at].permitted &= bit;
	sets[at].inheritable &= bit;
	return set_capabilities(sets) < 0 ? fail_to_set(why) : 0;
}

int privilege_without(int (*act)(void *context, struct failure *why), void *context,
		      struct failure *why)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct all[_LINUX_CAPABILITY_U32S_3], none[_LINUX_CAPABILITY_U32S_3];
	int result;

	if (syscall(SYS_capget, &header, all) < 0)
		return report_fail(why, errno, "capget", "capabilities");
	memcpy(none, all, sizeof(none));
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		none[i].effective = 0;
	if (set_capabilities(none) < 0)
		return fail_to_set(why);
	result = act(context, why);
	return set_capabilities(all) < 0 ? fail_to_set(why) : result;
}

int privilege_seal(struct failure *why)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		return 0;
	return report_fail(why, errno, "prctl(PR_SET_NO_NEW_PRIVS)", "privileges");
}
