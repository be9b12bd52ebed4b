/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/intercept.h"

#include "base/defaults.h"
#include "base/marks.h"
#include "base/plain.h"
#include "base/shell.h"
#include "net/link.h"
#include <ctype.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/rtnetlink.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

/* Version of the canonical text and of the rules made from it: whichever changes, it goes up, and
 * `up` replaces what an older version installed. */
#define TEXT_VERSION 1

/* Where nft looks for control groups (libnftables has the path built in). */
#define CGROUP_ROOT "/sys/fs/cgroup"

/* The rule that all traffic meets next has this preference (RT_TABLE_MAIN's). */
#define MAIN_PREFERENCE 32766

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

/* --- what a user types ----------------------------------------------------------------------- */

int intercept_set_name(struct intercept *spec, const char *text, struct failure *why)
{
	size_t length = strlen(text);

	if (!length || length > INTERCEPT_NAME_MAX)
		return report_refuse(why, "a name has 1 to %d characters", INTERCEPT_NAME_MAX);
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && (c == text || !strchr("_.-", *c)))
			return report_refuse(why, "a name is made of letters, digits, and _ . - "
						  "after the first");
	memcpy(spec->name, text, length + 1);
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

/* What the kernel allows and nft can quote, in rules and in the comment that keeps the specification. */
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
			"them blank, / or :; a * at its end stands for all that begin "
			"so)",
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

static int add_path(struct intercept_groups *groups, const char *path, struct failure *why)
{
	if (!valid_path(path))
		return report_refuse(why, "not a path below " CGROUP_ROOT);
	if (groups->count == INTERCEPT_GROUPS_MAX)
		return report_refuse(why, "at most %d of them", INTERCEPT_GROUPS_MAX);
	strcpy(groups->at[groups->count++], path);
	return 0;
}

/* Groups of version 2 are at the root, or in a hybrid layout below `unified`. Sets *is_hybrid; NULL
 * when there are none. */
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

/* The path without `dir` and the slashes in front, if it is below it. */
static const char *without(const char *path, const char *dir)
{
	size_t length = strlen(dir);
	bool below = !strncmp(path, dir, length) && (path[length] == '/' || !path[length]);

	path += below ? length : 0;
	return path + strspn(path, "/");
}

/* The group's own path, given as /proc/PID/cgroup shows it or as a shell finds it. */
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
	return add_path(groups, path + sizeof(CGROUP_ROOT), why);
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

/* --- contradictions --------------------------------------------------------------------------- */

/* A list of one family's prefixes matches nothing in the other. */
static void narrow_families(struct intercept *spec)
{
	const struct cidr_list *positive[] = { &spec->src, &spec->dst };

	for (int i = 0; i < 2; i++) {
		if (!positive[i]->count)
			continue;
		spec->ipv4 &= endpoint_cidrs_have(positive[i], AF_INET);
		spec->ipv6 &= endpoint_cidrs_have(positive[i], AF_INET6);
	}
}

static int check_families(struct intercept *spec, bool only4, bool only6, struct failure *why)
{
	bool want4 = only4 || !only6, want6 = only6 || !only4;

	spec->ipv4 = spec->ipv6 = true;
	narrow_families(spec);
	if (!spec->ipv4 && !spec->ipv6)
		return report_refuse(why, "--src and --dst: no address family in common, nothing "
					  "would match");
	if ((only4 && !spec->ipv4) || (only6 && !spec->ipv6))
		return report_refuse(why,
				     "-%c: --src or --dst holds %s addresses alone, nothing "
				     "would match",
				     only4 && !spec->ipv4 ? '4' : '6',
				     only4 && !spec->ipv4 ? "IPv6" : "IPv4");
	spec->ipv4 &= want4;
	spec->ipv6 &= want6;
	return 0;
}

/* One family's listener is missing, and nothing says that this family is not meant. */
static int check_listener(struct intercept *spec, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];
	const struct endpoint *given = endpoint_is_set(&spec->to4) ? &spec->to4 : &spec->to6;

	if (!spec->ipv4)
		spec->to4 = (struct endpoint){ 0 };
	if (!spec->ipv6)
		spec->to6 = (struct endpoint){ 0 };
	if (spec->divert_only || (spec->ipv4 <= endpoint_is_set(&spec->to4) &&
				  spec->ipv6 <= endpoint_is_set(&spec->to6)))
		return 0;
	if (!endpoint_is_set(given))
		return report_refuse(why, "--to PORT: where the listener is; needed unless "
					  "--divert-only");
	return report_refuse(
		why, "--to %s: an %s address alone; add %s, or a --to for %s",
		endpoint_format(given, text), given->family == AF_INET ? "IPv4" : "IPv6",
		given->family == AF_INET ? "-4" : "-6", given->family == AF_INET ? "IPv6" : "IPv4");
}

static int check_mark(const struct mark *mark, const char *option, struct failure *why)
{
	if (mark->value)
		return 0;
	return report_refuse(why,
			     "--%s 0: packets without a mark carry 0 already; use a value "
			     "with a bit set",
			     option);
}

static int check_numbers(const struct intercept *spec, struct failure *why)
{
	char one[QUANTITY_MARK_MAX], other[QUANTITY_MARK_MAX];

	if (check_mark(&spec->mark, "mark", why) ||
	    check_mark(&spec->upstream_mark, "upstream-mark", why))
		return -1;
	if (marks_clash(&spec->mark, &spec->upstream_mark))
		return report_refuse(why,
				     "--mark %s and --upstream-mark %s: one packet could "
				     "carry both; use values that differ in the masks' "
				     "common bits",
				     quantity_format_mark(&spec->mark, one),
				     quantity_format_mark(&spec->upstream_mark, other));
	if (!spec->table || spec->table == RT_TABLE_DEFAULT || spec->table == RT_TABLE_MAIN ||
	    spec->table == RT_TABLE_LOCAL)
		return report_refuse(why,
				     "--table %u: the system's own table; use another, as "
				     "%d",
				     spec->table, DEFAULT_TABLE);
	if (!spec->pref || spec->pref >= MAIN_PREFERENCE)
		return report_refuse(why,
				     "--pref %u: a rule must stand after 0 (local) and before "
				     "%d (main) to decide anything",
				     spec->pref, MAIN_PREFERENCE);
	if (!spec->ct_zone || spec->ct_zone > UINT16_MAX)
		return report_refuse(why, "--ct-zone %u: zones are 1 to 65535", spec->ct_zone);
	return 0;
}

/* Diverting goes by socket: what selects packets has nothing to act on. */
static int check_divert_only(const struct intercept *spec, struct failure *why)
{
	const struct {
		bool given;
		const char *option;
	} idle[] = {
		{ endpoint_is_set(&spec->to4) || endpoint_is_set(&spec->to6), "to" },
		{ spec->port.count, "port" },
		{ spec->not_port.count, "not-port" },
		{ spec->src.count, "src" },
		{ spec->dst.count, "dst" },
		{ spec->not_src.count, "not-src" },
		{ spec->not_dst.count, "not-dst" },
		{ spec->devices, "iif" },
		{ spec->not_marks, "not-mark" },
		{ spec->include_own, "include-own" },
		{ spec->local, "local" },
		{ spec->udp, "udp" },
		{ spec->confirm_ms, "confirm-within" },
		{ spec->no_listener != NO_LISTENER_REJECT, "no-listener" },
		{ spec->midstream != MIDSTREAM_RESET, "midstream" },
		{ spec->conntrack == CONNTRACK_ZONE || spec->conntrack == CONNTRACK_ZONE_SNAT,
		  "conntrack" },
	};

	for (size_t i = 0; spec->divert_only && i < sizeof(idle) / sizeof(*idle); i++)
		if (idle[i].given)
			return report_refuse(why,
					     "--divert-only and --%s: diverting goes by "
					     "socket and takes no new connections",
					     idle[i].option);
	return 0;
}

/* Who opens a connection is known of this host's own alone. */
static int check_local(const struct intercept *spec, struct failure *why)
{
	const struct {
		unsigned count;
		const char *option;
	} narrowing[] = {
		{ spec->uid.count, "uid" },	    { spec->gid.count, "gid" },
		{ spec->cgroup.count, "cgroup" },   { spec->not_uid.count, "not-uid" },
		{ spec->not_gid.count, "not-gid" }, { spec->not_cgroup.count, "not-cgroup" },
	};

	for (size_t i = 0; !spec->local && i < sizeof(narrowing) / sizeof(*narrowing); i++)
		if (narrowing[i].count)
			return report_refuse(why,
					     "--%s: only connections that this host itself "
					     "opens have a known owner; it needs --local",
					     narrowing[i].option);
	return 0;
}

static int compare_ids(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sort_ids(struct intercept_ids *ids)
{
	qsort(ids->at, ids->count, sizeof(*ids->at), compare_ids);
}

static int compare_devices(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int compare_marks(const void *a, const void *b)
{
	const struct mark *x = a, *y = b;

	if (x->mask != y->mask)
		return x->mask < y->mask ? -1 : 1;
	return x->value < y->value ? -1 : x->value > y->value;
}

const char *intercept_zone_unfit(const struct intercept *spec)
{
	return spec->no_listener == NO_LISTENER_PASS ? "--no-listener pass"
	       : spec->not_marks		     ? "--not-mark"
						     : NULL;
}

/* With marks the user may know better: those that are set at priority raw are seen in time. */
static int check_zone(const struct intercept *spec, struct failure *why)
{
	if (spec->no_listener != NO_LISTENER_PASS ||
	    (spec->conntrack != CONNTRACK_ZONE && spec->conntrack != CONNTRACK_ZONE_SNAT))
		return 0;
	return report_refuse(why, "--conntrack zone and --no-listener pass: which connections "
				  "pass is not known when their zone is chosen");
}

int intercept_validate(struct intercept *spec, bool ipv4_only, bool ipv6_only, struct failure *why)
{
	for (int id = 0; id < INTERCEPT_LISTS; id++)
		if (!intercept_lists[id].is_ports)
			endpoint_cidr_merge(intercept_cidrs(spec, id));
	qsort(spec->device, spec->devices, sizeof(*spec->device), compare_devices);
	qsort(spec->not_mark, spec->not_marks, sizeof(*spec->not_mark), compare_marks);
	sort_ids(&spec->uid);
	sort_ids(&spec->gid);
	sort_ids(&spec->not_uid);
	sort_ids(&spec->not_gid);
	if (check_divert_only(spec, why) || check_local(spec, why) ||
	    check_families(spec, ipv4_only, ipv6_only, why) || check_listener(spec, why) ||
	    check_zone(spec, why))
		return -1;
	return check_numbers(spec, why);
}

/* --- digests of lists ------------------------------------------------------------------------- */

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

static uint64_t fnv(uint64_t hash, const void *data, size_t size)
{
	for (const uint8_t *byte = data; size--; byte++)
		hash = (hash ^ *byte) * FNV_PRIME;
	return hash;
}

static struct intercept_digest digest_ports(const struct port_list *list)
{
	struct intercept_digest digest = { list->count, FNV_OFFSET };

	for (size_t i = 0; i < list->count; i++) {
		const uint8_t bytes[] = { list->at[i].first >> 8, list->at[i].first & 0xff,
					  list->at[i].last >> 8, list->at[i].last & 0xff };

		digest.hash = fnv(digest.hash, bytes, sizeof(bytes));
	}
	return digest;
}

static struct intercept_digest digest_cidrs(const struct cidr_list *list)
{
	struct intercept_digest digest = { list->count, FNV_OFFSET };

	for (size_t i = 0; i < list->count; i++) {
		const struct cidr *c = &list->at[i];

		digest.hash = fnv(digest.hash, &c->length, 1);
		digest.hash = fnv(digest.hash, &c->addr, c->family == AF_INET ? 4 : 16);
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

/* --- canonical text --------------------------------------------------------------------------- */

/* Text that grows in a bounded buffer; what does not fit is cut. */
struct text {
	char *at;
	size_t size, used;
};

static void put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *text, const char *format, ...)
{
	va_list ap;
	int length;

	va_start(ap, format);
	length = vsnprintf(text->at + text->used, text->size - text->used, format, ap);
	va_end(ap);
	if (length > 0)
		text->used += (size_t)length;
	if (text->used >= text->size)
		text->used = text->size - 1;
}

static const char *word(const char *words, int index, char buf[16])
{
	for (; index && (words = strchr(words, '|')); index--)
		words++;
	snprintf(buf, 16, "%.*s", words ? (int)strcspn(words, "|") : 0, words ? words : "");
	return buf;
}

static int word_index(const char *words, const char *value)
{
	char buf[16];

	for (int i = 0; *word(words, i, buf); i++)
		if (!strcmp(buf, value))
			return i;
	return -1;
}

static void put_listeners(struct text *text, const struct intercept *spec)
{
	char buf[ENDPOINT_TEXT_MAX];

	if (endpoint_is_set(&spec->to4))
		put(text, " to4=%s", endpoint_format(&spec->to4, buf));
	if (endpoint_is_set(&spec->to6))
		put(text, " to6=%s", endpoint_format(&spec->to6, buf));
}

static void put_flags(struct text *text, const struct intercept *spec)
{
	char buf[16];

	if (spec->divert_only)
		put(text, " divert-only=yes");
	if (spec->include_own)
		put(text, " include-own=yes");
	if (spec->local)
		put(text, " local=yes");
	put(text, " no-listener=%s", word(INTERCEPT_NO_LISTENER_WORDS, spec->no_listener, buf));
	put(text, " midstream=%s", word(INTERCEPT_MIDSTREAM_WORDS, spec->midstream, buf));
	put(text, " conntrack=%s", word(INTERCEPT_CONNTRACK_WORDS, spec->conntrack, buf));
	put(text, " zone=%s", word(INTERCEPT_CONNTRACK_WORDS, spec->zone, buf));
}

static void put_numbers(struct text *text, const struct intercept *spec)
{
	char mark[QUANTITY_MARK_MAX];

	put(text, " mark=%s", quantity_format_mark(&spec->mark, mark));
	put(text, " upstream-mark=%s", quantity_format_mark(&spec->upstream_mark, mark));
	put(text, " table=%u pref=%u ct-zone=%u", spec->table, spec->pref, spec->ct_zone);
	for (unsigned i = 0; i < spec->devices; i++)
		put(text, " iif=%s", spec->device[i]);
	for (unsigned i = 0; i < spec->not_marks; i++)
		put(text, " not-mark=%s", quantity_format_mark(&spec->not_mark[i], mark));
}

static void put_ids(struct text *text, const char *key, const struct intercept_ids *ids)
{
	for (unsigned i = 0; i < ids->count; i++)
		put(text, " %s=%u", key, ids->at[i]);
}

static void put_groups(struct text *text, const char *key, const struct intercept_groups *groups)
{
	for (unsigned i = 0; i < groups->count; i++)
		put(text, " %s=%s", key, groups->at[i]);
}

static void put_owners(struct text *text, const struct intercept *spec)
{
	put_ids(text, "uid", &spec->uid);
	put_ids(text, "gid", &spec->gid);
	put_groups(text, "cgroup", &spec->cgroup);
	put_ids(text, "not-uid", &spec->not_uid);
	put_ids(text, "not-gid", &spec->not_gid);
	put_groups(text, "not-cgroup", &spec->not_cgroup);
}

const char *intercept_text(const struct intercept *spec, char buf[INTERCEPT_TEXT_MAX])
{
	struct text text = { buf, INTERCEPT_TEXT_MAX, 0 };

	put(&text, "v=%d name=%s family=%s%s proto=%s%s%s", TEXT_VERSION, spec->name,
	    spec->ipv4 ? "4" : "", spec->ipv6 ? "6" : "", spec->tcp ? "tcp" : "",
	    spec->tcp && spec->udp ? "+" : "", spec->udp ? "udp" : "");
	put_listeners(&text, spec);
	put_flags(&text, spec);
	put_numbers(&text, spec);
	put_owners(&text, spec);
	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		struct intercept_digest digest = intercept_digest_of(spec, id);

		if (digest.count)
			put(&text, " %s=%" PRIu64 ".%016" PRIx64, intercept_lists[id].name,
			    digest.count, digest.hash);
	}
	return buf;
}

/* --- as options ------------------------------------------------------------------------------- */

/* ` --name VALUE`, or ` --name` alone. */
static void add_option(struct shell_command *c, const char *name, const char *value)
{
	shell_add(c, "%s--%s", c->used ? " " : "", name);
	if (value)
		shell_word(c, value);
}

static void add_to(struct shell_command *c, const struct intercept *spec)
{
	const struct endpoint *four = &spec->to4, *six = &spec->to6;
	const struct endpoint *each[] = { four, six };
	char buf[ENDPOINT_TEXT_MAX];

	if (spec->ipv4 != spec->ipv6)
		shell_word(c, spec->ipv4 ? "-4" : "-6");
	snprintf(buf, sizeof(buf), endpoint_is_any(four) ? "*:%u" : "%u", four->port);
	if (four->port == six->port && ((endpoint_is_loopback(four) && endpoint_is_loopback(six)) ||
					(endpoint_is_any(four) && endpoint_is_any(six)))) {
		add_option(c, "to", buf);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (endpoint_is_set(each[i]))
			add_option(c, "to", endpoint_format(each[i], buf));
}

static void add_choice(struct shell_command *c, const char *option, const char *words, int value,
		       int usual)
{
	char buf[16];

	if (value != usual)
		add_option(c, option, word(words, value, buf));
}

static void add_mark(struct shell_command *c, const char *option, const struct mark *mark,
		     const struct mark *usual)
{
	char buf[QUANTITY_MARK_MAX];

	if (mark->value != usual->value || mark->mask != usual->mask)
		add_option(c, option, quantity_format_mark(mark, buf));
}

static void add_number_option(struct shell_command *c, const char *option, uint32_t value,
			      uint32_t usual)
{
	if (value != usual)
		shell_add(c, " --%s %u", option, value);
}

static void add_how(struct shell_command *c, const struct intercept *spec,
		    const struct intercept *usual)
{
	add_choice(c, "no-listener", INTERCEPT_NO_LISTENER_WORDS, spec->no_listener,
		   usual->no_listener);
	add_choice(c, "midstream", INTERCEPT_MIDSTREAM_WORDS, spec->midstream, usual->midstream);
	add_choice(c, "conntrack", INTERCEPT_CONNTRACK_WORDS, spec->conntrack, usual->conntrack);
	add_mark(c, "mark", &spec->mark, &usual->mark);
	add_mark(c, "upstream-mark", &spec->upstream_mark, &usual->upstream_mark);
	add_number_option(c, "table", spec->table, usual->table);
	add_number_option(c, "pref", spec->pref, usual->pref);
	add_number_option(c, "ct-zone", spec->ct_zone, usual->ct_zone);
}

static void add_owners(struct shell_command *c, const struct intercept *spec)
{
	char words[INTERCEPT_TEXT_MAX], *rest = words, *token;
	struct text owners = { words, sizeof(words), 0 };

	/* ` uid=1 cgroup=a` becomes ` --uid 1 --cgroup a`. */
	words[0] = '\0';
	put_owners(&owners, spec);
	while ((token = strsep(&rest, " "))) {
		char *value = strchr(token, '=');

		if (!value)
			continue;
		*value++ = '\0';
		add_option(c, token, value);
	}
}

static void add_lists(struct shell_command *c, const struct intercept *spec)
{
	char list[INTERCEPT_TEXT_MAX];

	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		if (!*intercept_list_text(spec, id, list, sizeof(list)))
			continue;
		add_option(c, intercept_lists[id].name, list);
		if (strstr(list, "..."))
			shell_give_up(c);
	}
}

const char *intercept_options(const struct intercept *spec, char *buf, size_t size)
{
	struct shell_command c = shell_command(buf, size);
	struct intercept usual;
	char mark[QUANTITY_MARK_MAX];

	intercept_init(&usual);
	if (strcmp(spec->name, usual.name))
		add_option(&c, "name", spec->name);
	add_to(&c, spec);
	for (unsigned i = 0; i < spec->devices; i++)
		add_option(&c, "iif", spec->device[i]);
	add_lists(&c, spec);
	for (unsigned i = 0; i < spec->not_marks; i++)
		add_option(&c, "not-mark", quantity_format_mark(&spec->not_mark[i], mark));
	if (spec->include_own)
		add_option(&c, "include-own", NULL);
	if (spec->local)
		add_option(&c, "local", NULL);
	add_owners(&c, spec);
	if (spec->udp)
		shell_add(&c, spec->tcp ? " -t -u" : " -u");
	if (spec->divert_only)
		add_option(&c, "divert-only", NULL);
	add_how(&c, spec, &usual);
	intercept_free(&usual);
	return buf;
}

const char *intercept_up_command(const struct intercept *spec, char buf[INTERCEPT_COMMAND_MAX])
{
	struct shell_command c = shell_command(buf, INTERCEPT_COMMAND_MAX);
	char options[INTERCEPT_COMMAND_MAX];

	if (*intercept_options(spec, options, sizeof(options)))
		shell_add(&c, "tproxy-setup up %s", options);
	return buf;
}

/* --- reading it back -------------------------------------------------------------------------- */

static int read_version(struct intercept *spec, const char *value, struct failure *why)
{
	uint64_t version;

	(void)spec;
	if (quantity_number(value, 1, UINT32_MAX, &version, why))
		return -1;
	if (version > TEXT_VERSION)
		return report_refuse(why, "made by a newer version of tproxy-setup (%s)", value);
	return 0;
}

static int read_family(struct intercept *spec, const char *value, struct failure *why)
{
	spec->ipv4 = strchr(value, '4');
	spec->ipv6 = strchr(value, '6');
	return spec->ipv4 || spec->ipv6 ? 0 : report_refuse(why, "no family");
}

static int read_listener(struct intercept *spec, sa_family_t family, const char *value,
			 struct failure *why)
{
	struct endpoint_list list = { 0 };
	int err = endpoint_parse_listener(value, ENDPOINT_BARE_ANY, &list, why);

	/* `*:80` stands for one family here: the key says which. */
	for (size_t i = 0; !err && i < list.count; i++)
		if (list.at[i].family == family)
			*(family == AF_INET ? &spec->to4 : &spec->to6) = list.at[i];
	endpoint_list_free(&list);
	return err;
}

static int read_to4(struct intercept *spec, const char *value, struct failure *why)
{
	return read_listener(spec, AF_INET, value, why);
}

static int read_to6(struct intercept *spec, const char *value, struct failure *why)
{
	return read_listener(spec, AF_INET6, value, why);
}

static int read_divert_only(struct intercept *spec, const char *value, struct failure *why)
{
	(void)why;
	spec->divert_only = !strcmp(value, "yes");
	return 0;
}

static int read_proto(struct intercept *spec, const char *value, struct failure *why)
{
	spec->tcp = strstr(value, "tcp");
	spec->udp = strstr(value, "udp");
	return spec->tcp || spec->udp ? 0 : report_refuse(why, "no protocol");
}

static int read_local(struct intercept *spec, const char *value, struct failure *why)
{
	(void)why;
	spec->local = !strcmp(value, "yes");
	return 0;
}

static int read_id(struct intercept_ids *ids, const char *value, struct failure *why)
{
	uint64_t number;

	return quantity_number(value, 0, UINT32_MAX - 1, &number, why)
		       ? -1
		       : add_number(ids, (uint32_t)number, why);
}

static int read_uid(struct intercept *spec, const char *value, struct failure *why)
{
	return read_id(&spec->uid, value, why);
}

static int read_gid(struct intercept *spec, const char *value, struct failure *why)
{
	return read_id(&spec->gid, value, why);
}

static int read_not_uid(struct intercept *spec, const char *value, struct failure *why)
{
	return read_id(&spec->not_uid, value, why);
}

static int read_not_gid(struct intercept *spec, const char *value, struct failure *why)
{
	return read_id(&spec->not_gid, value, why);
}

/* The group may be gone by now. */
static int read_cgroup(struct intercept *spec, const char *value, struct failure *why)
{
	return add_path(&spec->cgroup, value, why);
}

static int read_not_cgroup(struct intercept *spec, const char *value, struct failure *why)
{
	return add_path(&spec->not_cgroup, value, why);
}

static int read_include_own(struct intercept *spec, const char *value, struct failure *why)
{
	(void)why;
	spec->include_own = !strcmp(value, "yes");
	return 0;
}

static int read_word(int *out, const char *words, const char *value, struct failure *why)
{
	int index = word_index(words, value);

	if (index < 0)
		return report_refuse(why, "%s is none of %s", value, words);
	*out = index;
	return 0;
}

static int read_no_listener(struct intercept *spec, const char *value, struct failure *why)
{
	return read_word(&spec->no_listener, INTERCEPT_NO_LISTENER_WORDS, value, why);
}

static int read_midstream(struct intercept *spec, const char *value, struct failure *why)
{
	return read_word(&spec->midstream, INTERCEPT_MIDSTREAM_WORDS, value, why);
}

static int read_conntrack(struct intercept *spec, const char *value, struct failure *why)
{
	return read_word(&spec->conntrack, INTERCEPT_CONNTRACK_WORDS, value, why);
}

static int read_zone(struct intercept *spec, const char *value, struct failure *why)
{
	return read_word(&spec->zone, INTERCEPT_CONNTRACK_WORDS, value, why);
}

static int read_mark(struct intercept *spec, const char *value, struct failure *why)
{
	return quantity_mark(value, &spec->mark, why);
}

static int read_upstream_mark(struct intercept *spec, const char *value, struct failure *why)
{
	return quantity_mark(value, &spec->upstream_mark, why);
}

static int read_number(uint32_t *out, const char *value, uint64_t max, struct failure *why)
{
	uint64_t number;

	if (quantity_number(value, 1, max, &number, why))
		return -1;
	*out = (uint32_t)number;
	return 0;
}

static int read_table(struct intercept *spec, const char *value, struct failure *why)
{
	return read_number(&spec->table, value, UINT32_MAX, why);
}

static int read_pref(struct intercept *spec, const char *value, struct failure *why)
{
	return read_number(&spec->pref, value, MAIN_PREFERENCE - 1, why);
}

static int read_ct_zone(struct intercept *spec, const char *value, struct failure *why)
{
	return read_number(&spec->ct_zone, value, UINT16_MAX, why);
}

static const struct {
	const char *key;
	int (*read)(struct intercept *spec, const char *value, struct failure *why);
} keys[] = {
	{ "v", read_version },
	{ "name", intercept_set_name },
	{ "family", read_family },
	{ "proto", read_proto },
	{ "local", read_local },
	{ "uid", read_uid },
	{ "gid", read_gid },
	{ "not-uid", read_not_uid },
	{ "not-gid", read_not_gid },
	{ "cgroup", read_cgroup },
	{ "not-cgroup", read_not_cgroup },
	{ "to4", read_to4 },
	{ "to6", read_to6 },
	{ "divert-only", read_divert_only },
	{ "include-own", read_include_own },
	{ "no-listener", read_no_listener },
	{ "midstream", read_midstream },
	{ "conntrack", read_conntrack },
	{ "zone", read_zone },
	{ "mark", read_mark },
	{ "upstream-mark", read_upstream_mark },
	{ "table", read_table },
	{ "pref", read_pref },
	{ "ct-zone", read_ct_zone },
	{ "iif", intercept_add_device },
	{ "not-mark", intercept_add_not_mark },
};

static int read_digest(struct intercept_digest *out, const char *value, struct failure *why)
{
	int end = 0;

	if (sscanf(value, "%10" SCNu64 ".%16" SCNx64 "%n", &out->count, &out->hash, &end) == 2 &&
	    !value[end])
		return 0;
	return report_refuse(why, "%s is no digest of a list", value);
}

static int read_key(struct intercept *spec, const char *key, const char *value, struct failure *why)
{
	for (int id = 0; id < INTERCEPT_LISTS; id++)
		if (!strcmp(key, intercept_lists[id].name))
			return read_digest(&spec->digest[id], value, why);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (!strcmp(key, keys[i].key))
			return keys[i].read(spec, value, why);
	return report_refuse(why, "`%s` is not known to this version of tproxy-setup", key);
}

int intercept_parse(const char *text, struct intercept *spec, struct failure *why)
{
	char copy[INTERCEPT_TEXT_MAX], *rest = copy, *token;

	intercept_init(spec);
	if (strlen(text) >= sizeof(copy))
		return report_refuse(why, "specification longer than %zu", sizeof(copy));
	if (strncmp(text, "v=", 2))
		return report_refuse(why, "no specification: does not begin with v=");
	strcpy(copy, text);
	while ((token = strsep(&rest, " "))) {
		char *value = strchr(token, '=');

		if (!value)
			return report_refuse(why, "`%s` without =", token);
		*value++ = '\0';
		if (read_key(spec, token, value, why))
			return -1;
	}
	return check_numbers(spec, why);
}

/* --- two specifications ----------------------------------------------------------------------- */

static bool holds_word(const char *text, const char *token, size_t length)
{
	for (; *text; text += strcspn(text, " "), text += *text == ' ')
		if (strcspn(text, " ") == length && !strncmp(text, token, length))
			return true;
	return false;
}

/* The words of `in` that `other` does not have, with prefix in front of each. */
static unsigned put_missing(struct text *out, const char *in, const char *other, char prefix)
{
	unsigned count = 0;

	for (; *in; in += strcspn(in, " "), in += *in == ' ') {
		size_t length = strcspn(in, " ");

		if (holds_word(other, in, length))
			continue;
		put(out, "%s%c%.*s", out->used ? " " : "", prefix, (int)length, in);
		count++;
	}
	return count;
}

unsigned intercept_diff(const struct intercept *a, const struct intercept *b, char *buf,
			size_t size)
{
	char texts[2][INTERCEPT_TEXT_MAX];
	struct text out = { buf, size, 0 };
	unsigned count;

	buf[0] = '\0';
	intercept_text(a, texts[0]);
	intercept_text(b, texts[1]);
	count = put_missing(&out, texts[0], texts[1], '-');
	return count + put_missing(&out, texts[1], texts[0], '+');
}

bool intercept_wants(const struct intercept *spec, sa_family_t family)
{
	return family == AF_INET ? spec->ipv4 : spec->ipv6;
}
