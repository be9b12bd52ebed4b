/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/privilege.h"

#include "base/quantity.h"
#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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

int privilege_find_user(const char *text, struct privilege_user *out, struct failure *why)
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
	return privilege_find_user(arg, field, why);
}

bool privilege_has(int capability)
{
	capng_get_caps_process();
	return capng_have_capability(CAPNG_EFFECTIVE, (unsigned)capability);
}

/* What is to be left, in libcap-ng's state. */
static void select_capabilities(const int *keep, size_t count)
{
	bool has[CAP_LAST_CAP + 1] = { false };

	for (size_t i = 0; i < count; i++)
		has[keep[i]] = privilege_has(keep[i]);
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		if (has[c])
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, c);
}

int privilege_drop(const struct privilege_user *user, const int *keep, size_t count,
		   struct failure *why)
{
	int err = 0;

	if (user->text)
		err = user->name[0] ? initgroups(user->name, user->gid) : setgroups(0, NULL);
	if (err < 0)
		return report_fail(why, errno, "setgroups", "--user %s", user->text);
	select_capabilities(keep, count);
	errno = 0; /* libcap-ng's own numbers say little */
	err = user->text ? capng_change_id((int)user->uid, (int)user->gid, CAPNG_NO_FLAG)
			 : capng_apply(CAPNG_SELECT_CAPS);
	if (!err)
		return 0;
	err = errno ? errno : EPERM;
	if (user->text)
		return report_fail(why, err, "setresuid", "--user %s", user->text);
	return report_fail(why, err, "capset", "capabilities");
}
