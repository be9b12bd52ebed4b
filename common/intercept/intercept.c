/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/intercept.h"

#include "base/defaults.h"
#include "base/fnv.h"
#include "base/plain.h"
#include "net/link.h"
#include <ctype.h>
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

/* Where nft looks for control groups (the path is built into libnftables). */
#define CGROUP_ROOT "/sys/fs/cgroup"

const struct intercept_list intercept_lists[INTERCEPT_LISTS] = {
	[LIST_PORT] = { "port", true, offsetof(struct intercept, port) },
	[LIST_NOT_PORT] = { "not-port", true, offsetof(struct intercept, not_port) },
	[LIST_SRC] = { "src", false, offsetof(struct intercept, src) },
	[LIST_DST] = { "dst", false, offsetof(struct intercept, dst) },
	[LIST_NOT_SRC] = { "not-src", false, offsetof(struct intercept, not_src) },
	[LIST_NOT_DST] = { "not-dst", false, offsetof(struct intercept, not_dst) },
};

struct port_list *intercept_ports(const struct intercept *spec, enum intercept_list_id id)
{
	return (struct port_list *)((char *)spec + intercept_lists[id].offset);
}

struct cidr_list *intercept_cidrs(const struct intercept *spec, enum intercept_list_id id)
{
	return (struct cidr_list *)((char *)spec + intercept_lists[id].offset);
}

bool intercept_takes_own(const struct intercept *spec)
{
	return spec->local && !spec->divert_only;
}

bool intercept_keeps_answers(const struct intercept *spec)
{
	return spec->local && spec->divert_only;
}

void intercept_init(struct intercept *spec)
{
	memset(spec, 0, sizeof(*spec));
	strcpy(spec->name, "default");
	spec->ipv4 = spec->ipv6 = true;
	spec->tcp = true;
	spec->zone = CONNTRACK_OFF;
	spec->mark = DEFAULT_MARK;
	spec->upstream_mark = DEFAULT_UPSTREAM_MARK;
	spec->table = DEFAULT_TABLE;
	spec->pref = DEFAULT_PREFERENCE;
	spec->ct_zone = DEFAULT_CT_ZONE;
}

void intercept_free(struct intercept *spec)
{
	for (int id = 0; id < INTERCEPT_LISTS; id++)
		if (intercept_lists[id].is_ports)
			endpoint_ports_free(intercept_ports(spec, id));
		else
			endpoint_cidr_free(intercept_cidrs(spec, id));
}

static int copy_list(struct intercept *copy, const struct intercept *spec,
		     enum intercept_list_id id, struct failure *why)
{
	struct intercept *from = (struct intercept *)spec;
	int err = 0;

	if (intercept_lists[id].is_ports) {
		const struct port_list *list = intercept_ports(from, id);

		*intercept_ports(copy, id) = (struct port_list){ 0 };
		for (size_t i = 0; !err && i < list->count; i++)
			err = endpoint_ports_add(intercept_ports(copy, id), &list->at[i], why);
	} else {
		const struct cidr_list *list = intercept_cidrs(from, id);

		*intercept_cidrs(copy, id) = (struct cidr_list){ 0 };
		for (size_t i = 0; !err && i < list->count; i++)
			err = endpoint_cidr_add(intercept_cidrs(copy, id), &list->at[i], why);
	}
	return err;
}

int intercept_copy(struct intercept *copy, const struct intercept *spec, struct failure *why)
{
	int err = 0;

	*copy = *spec;
	for (int id = 0; id < INTERCEPT_LISTS; id++)
		err |= copy_list(copy, spec, id, why);
	return err;
}

/* --- user input ----------------------------------------------------------------------------- */

int intercept_check_name(const char *text, struct failure *why)
{
	size_t length = strlen(text);

	if (!length || length > INTERCEPT_NAME_MAX)
		return report_refuse(why, "a name has 1 to %d characters", INTERCEPT_NAME_MAX);
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && (c == text || !strchr("_.-", *c)))
			return report_refuse(why, "a name is made of letters, digits, and _ . - "
						  "after the first");
	return 0;
}

int intercept_set_name(struct intercept *spec, const char *text, struct failure *why)
{
	if (intercept_check_name(text, why))
		return -1;
	strcpy(spec->name, text);
	return 0;
}

int intercept_set_to(struct intercept *spec, const char *text, struct failure *why)
{
	struct endpoint_list list = { 0 };
	int err = endpoint_parse_listener(text, ENDPOINT_BARE_LOOPBACK, &list, why);

	for (size_t i = 0; !err && i < list.count; i++) {
		struct endpoint *slot = list.at[i].family == AF_INET ? &spec->to4 : &spec->to6;

		if (list.at[i].scope)
			err = report_refuse(why, "a listener address with a %%scope cannot be "
						 "looked up by the kernel's rule");
		else if (endpoint_is_set(slot))
			err = report_refuse(why, "a listener for %s is already given",
					    list.at[i].family == AF_INET ? "IPv4" : "IPv6");
		else
			*slot = list.at[i];
	}
	endpoint_list_free(&list);
	return err;
}

/* Names that the kernel allows and that nft can quote, both in rules and in the comment that stores
 * the specification. */
static int check_device(const char *text, struct failure *why)
{
	char name[IFNAMSIZ + 1];
	size_t star = strcspn(text, "*"), length;

	snprintf(name, sizeof(name), "%.*s", (int)(text[star] && !text[star + 1] ? star : IFNAMSIZ),
		 text);
	if (!link_valid_name(name) || strchr(name, '*') || strlen(text) >= IFNAMSIZ)
		return report_refuse(
			why,
			"no interface can be called that (up to %d characters, none of "
			"them blank, / or :; a trailing * matches any rest)",
			IFNAMSIZ - 1);
	if (strchr(name, ','))
		return report_refuse(why, "one name: give --iif again for the next");
	for (const unsigned char *p = (unsigned char *)name; *p; p += length) {
		length = plain_length(p);
		if (!length || !plain_may_show(p, length) || strchr("\"\\", *p))
			return report_refuse(why, "a name that nft cannot quote");
	}
	return 0;
}

int intercept_add_device(struct intercept *spec, const char *text, struct failure *why)
{
	if (check_device(text, why))
		return -1;
	for (unsigned i = 0; i < spec->devices; i++)
		if (!strcmp(spec->device[i], text))
			return 0;
	if (spec->devices == INTERCEPT_DEVICES_MAX)
		return report_refuse(why,
				     "at most %d interfaces; a * at the end of a name stands "
				     "for many",
				     INTERCEPT_DEVICES_MAX);
	strcpy(spec->device[spec->devices++], text);
	return 0;
}

int intercept_add_not_mark(struct intercept *spec, const char *text, struct failure *why)
{
	struct mark mark;

	if (quantity_mark(text, &mark, why))
		return -1;
	if (spec->not_marks == INTERCEPT_MARKS_MAX)
		return report_refuse(why, "at most %d marks", INTERCEPT_MARKS_MAX);
	spec->not_mark[spec->not_marks++] = mark;
	return 0;
}

static int add_number(struct intercept_ids *ids, uint32_t number, struct failure *why)
{
	for (unsigned i = 0; i < ids->count; i++)
		if (ids->at[i] == number)
			return 0;
	if (ids->count == INTERCEPT_IDS_MAX)
		return report_refuse(why, "at most %d of them", INTERCEPT_IDS_MAX);
	ids->at[ids->count++] = number;
	return 0;
}

int intercept_add_id(struct intercept_ids *ids, bool group, const char *text, struct failure *why)
{
	const struct passwd *user;
	const struct group *members;
	uint64_t number;

	if (isdigit((unsigned char)*text))
		return quantity_number(text, 0, UINT32_MAX - 1, &number, why)
			       ? -1
			       : add_number(ids, (uint32_t)number, why);
	user = group ? NULL : getpwnam(text);
	members = group ? getgrnam(text) : NULL;
	if (!user && !members)
		return report_refuse(why, "no such %s", group ? "group" : "user");
	return add_number(ids, user ? user->pw_uid : members->gr_gid, why);
}

/* Paths go into rules and into the canonical text: no blanks, no quotes. */
static bool valid_path(const char *path)
{
	for (const char *c = path; *c; c++)
		if (!isgraph((unsigned char)*c) || strchr("\"\\,", *c))
			return false;
	return *path && strlen(path) < INTERCEPT_PATH_MAX && !strstr(path, "..");
}

int intercept_add_group_path(struct intercept_groups *groups, const char *path, struct failure *why)
{
	if (!valid_path(path))
		return report_refuse(why, "not a path below " CGROUP_ROOT);
	if (groups->count == INTERCEPT_GROUPS_MAX)
		return report_refuse(why, "at most %d of them", INTERCEPT_GROUPS_MAX);
	strcpy(groups->at[groups->count++], path);
	return 0;
}

/* Version 2 groups are at the root, or below `unified` in a hybrid layout. Sets *is_hybrid; NULL if
 * there are none. */
static const char *group_root(bool *is_hybrid)
{
	static const char *const roots[] = { CGROUP_ROOT, CGROUP_ROOT "/" INTERCEPT_HYBRID };
	struct statfs fs;

	for (int i = 0; i < 2; i++) {
		*is_hybrid = i;
		if (!statfs(roots[i], &fs) && fs.f_type == CGROUP2_SUPER_MAGIC)
			return roots[i];
	}
	return NULL;
}

/* The path without `dir` and the following slashes, if it is below `dir`. */
static const char *without(const char *path, const char *dir)
{
	size_t length = strlen(dir);
	bool below = !strncmp(path, dir, length) && (path[length] == '/' || !path[length]);

	path += below ? length : 0;
	return path + strspn(path, "/");
}

/* The group's own path, in the form of /proc/PID/cgroup or as a path in the file system. */
static const char *group_name(const char *text, bool is_hybrid)
{
	text = without(text, CGROUP_ROOT);
	return is_hybrid ? without(text, INTERCEPT_HYBRID) : text;
}

int intercept_add_group(struct intercept_groups *groups, const char *text, struct failure *why)
{
	bool is_hybrid;
	const char *root = group_root(&is_hybrid), *name = group_name(text, is_hybrid);
	char path[sizeof(CGROUP_ROOT) + sizeof(INTERCEPT_HYBRID) + INTERCEPT_PATH_MAX], *end;
	struct stat st;

	if (!root)
		return report_refuse(why,
				     "no control groups of version 2 are mounted at " CGROUP_ROOT);
	/* See intercept_group_level(). */
	if (!*name || (!is_hybrid && without(name, INTERCEPT_HYBRID) != name))
		return report_refuse(why, "the control group `%s` cannot be matched",
				     *name ? name : "/");
	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (end = path + strlen(path); end > path + sizeof(CGROUP_ROOT) && end[-1] == '/'; end--)
		end[-1] = '\0';
	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return report_refuse(why, "no such control group: %s", path);
	return intercept_add_group_path(groups, path + sizeof(CGROUP_ROOT), why);
}

unsigned intercept_group_level(const char *path)
{
	unsigned level = 1;

	for (const char *c = without(path, INTERCEPT_HYBRID); *c; c++)
		level += *c == '/';
	return level;
}

uint64_t intercept_group_number(const char *path)
{
	char full[sizeof(CGROUP_ROOT) + INTERCEPT_PATH_MAX];
	struct stat st;

	snprintf(full, sizeof(full), CGROUP_ROOT "/%s", path);
	return stat(full, &st) ? 0 : st.st_ino;
}

/* --- digests of lists ------------------------------------------------------------------------- */

static struct intercept_digest digest_ports(const struct port_list *list)
{
	struct intercept_digest digest = { list->count, FNV_START };

	for (size_t i = 0; i < list->count; i++) {
		const uint8_t bytes[] = { list->at[i].first >> 8, list->at[i].first & 0xff,
					  list->at[i].last >> 8, list->at[i].last & 0xff };

		digest.hash = fnv_add(digest.hash, bytes, sizeof(bytes));
	}
	return digest;
}

static struct intercept_digest digest_cidrs(const struct cidr_list *list)
{
	struct intercept_digest digest = { list->count, FNV_START };

	for (size_t i = 0; i < list->count; i++) {
		const struct cidr *c = &list->at[i];

		digest.hash = fnv_add(digest.hash, &c->length, 1);
		digest.hash = fnv_add(digest.hash, &c->addr, c->family == AF_INET ? 4 : 16);
	}
	return digest;
}

struct intercept_digest intercept_digest_of(const struct intercept *spec, enum intercept_list_id id)
{
	return intercept_lists[id].is_ports ? digest_ports(intercept_ports(spec, id))
					    : digest_cidrs(intercept_cidrs(spec, id));
}

bool intercept_digest_equal(const struct intercept_digest *a, const struct intercept_digest *b)
{
	return a->count == b->count && (!a->count || a->hash == b->hash);
}

const char *intercept_list_text(const struct intercept *spec, enum intercept_list_id id, char *buf,
				size_t size)
{
	size_t count = intercept_digest_of(spec, id).count, used = 0;
	char item[ENDPOINT_TEXT_MAX];

	buf[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		if (intercept_lists[id].is_ports) {
			const struct port_range *r = &intercept_ports(spec, id)->at[i];

			snprintf(item, sizeof(item), r->first == r->last ? "%u" : "%u-%u", r->first,
				 r->last);
		} else {
			endpoint_format_cidr(&intercept_cidrs(spec, id)->at[i], item);
		}
		if (used + strlen(item) + sizeof(",...") > size) {
			snprintf(buf + used, size - used, "...");
			break;
		}
		used += (size_t)snprintf(buf + used, size - used, "%s%s", item,
					 i + 1 < count ? "," : "");
	}
	return buf;
}

bool intercept_wants(const struct intercept *spec, sa_family_t family)
{
	return family == AF_INET ? spec->ipv4 : spec->ipv6;
}
