/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/field.h"

#include "base/quantity.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *place(const struct intercept *spec, const struct field *f)
{
	return (char *)spec + f->offset;
}

/* --- kinds: one value ------------------------------------------------------------------------- */

static bool write_flag(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
		       size_t size)
{
	snprintf(buf, size, "yes");
	return !n && *(const bool *)place(spec, f);
}

static int read_flag(struct intercept *spec, const struct field *f, const char *value,
		     struct failure *why)
{
	*(bool *)place(spec, f) = !strcmp(value, "yes");
	return 0;
}

static const struct field_kind kind_flag = {
	.none = "no",
	.set = option_flag,
	.write = write_flag,
	.read = read_flag,
};

/* One of the words in arg, separated by |. */
static const char *word(const char *words, int index, char buf[16])
{
	for (; index && (words = strchr(words, '|')); index--)
		words++;
	snprintf(buf, 16, "%.*s", words ? (int)strcspn(words, "|") : 0, words ? words : "");
	return buf;
}

static bool write_choice(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
			 size_t size)
{
	char text[16];

	snprintf(buf, size, "%s", word(f->arg, *(const int *)place(spec, f), text));
	return !n;
}

static int read_choice(struct intercept *spec, const struct field *f, const char *value,
		       struct failure *why)
{
	char text[16];

	for (int i = 0; *word(f->arg, i, text); i++) {
		if (strcmp(text, value) != 0)
			continue;
		*(int *)place(spec, f) = i;
		return 0;
	}
	return report_refuse(why, "%s is not one of %s", value, f->arg);
}

static const struct field_kind kind_choice = {
	.set = option_choice,
	.write = write_choice,
	.read = read_choice,
};

/* A choice made by the program: stored and shown, not typed. */
static const struct field_kind kind_decision = {
	.write = write_choice,
	.read = read_choice,
};

static bool write_number(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
			 size_t size)
{
	snprintf(buf, size, "%" PRIu32, *(const uint32_t *)place(spec, f));
	return !n;
}

static int read_number(struct intercept *spec, const struct field *f, const char *value,
		       struct failure *why)
{
	uint64_t number;

	if (quantity_number(value, 1, f->most, &number, why))
		return -1;
	*(uint32_t *)place(spec, f) = (uint32_t)number;
	return 0;
}

static const struct field_kind kind_number = {
	.set = option_number,
	.write = write_number,
	.read = read_number,
};

static bool write_mark(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
		       size_t size)
{
	char text[QUANTITY_MARK_MAX];

	snprintf(buf, size, "%s", quantity_format_mark(place(spec, f), text));
	return !n;
}

static int read_mark(struct intercept *spec, const struct field *f, const char *value,
		     struct failure *why)
{
	return quantity_mark(value, place(spec, f), why);
}

static const struct field_kind kind_mark = {
	.set = option_mark,
	.write = write_mark,
	.read = read_mark,
};

/* --- kinds: several values -------------------------------------------------------------------- */

static int type_not_mark(void *spec, const char *arg, const struct option_spec *self,
			 struct failure *why)
{
	return intercept_add_not_mark(spec, arg, why);
}

static bool write_not_mark(const struct intercept *spec, const struct field *f, unsigned n,
			   char *buf, size_t size)
{
	char text[QUANTITY_MARK_MAX];

	if (n < spec->not_marks)
		snprintf(buf, size, "%s", quantity_format_mark(&spec->not_mark[n], text));
	return n < spec->not_marks;
}

static int read_not_mark(struct intercept *spec, const struct field *f, const char *value,
			 struct failure *why)
{
	return intercept_add_not_mark(spec, value, why);
}

static int compare_marks(const void *a, const void *b)
{
	const struct mark *x = a, *y = b;

	if (x->mask != y->mask)
		return x->mask < y->mask ? -1 : 1;
	return x->value < y->value ? -1 : x->value > y->value;
}

static void settle_not_marks(void *place)
{
	struct intercept *spec = place;

	qsort(spec->not_mark, spec->not_marks, sizeof(*spec->not_mark), compare_marks);
}

static const struct field_kind kind_not_marks = {
	.set = type_not_mark,
	.write = write_not_mark,
	.read = read_not_mark,
	.settle = settle_not_marks,
};

static int type_device(void *spec, const char *arg, const struct option_spec *self,
		       struct failure *why)
{
	return intercept_add_device(spec, arg, why);
}

static bool write_device(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
			 size_t size)
{
	if (n < spec->devices)
		snprintf(buf, size, "%s", spec->device[n]);
	return n < spec->devices;
}

static int read_device(struct intercept *spec, const struct field *f, const char *value,
		       struct failure *why)
{
	return intercept_add_device(spec, value, why);
}

static int compare_devices(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void settle_devices(void *place)
{
	struct intercept *spec = place;

	qsort(spec->device, spec->devices, sizeof(*spec->device), compare_devices);
}

static const struct field_kind kind_devices = {
	.set = type_device,
	.write = write_device,
	.read = read_device,
	.settle = settle_devices,
};

static int type_user(void *ids, const char *arg, const struct option_spec *self,
		     struct failure *why)
{
	return intercept_add_id(ids, false, arg, why);
}

static int type_group(void *ids, const char *arg, const struct option_spec *self,
		      struct failure *why)
{
	return intercept_add_id(ids, true, arg, why);
}

static bool write_id(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
		     size_t size)
{
	const struct intercept_ids *ids = place(spec, f);

	if (n < ids->count)
		snprintf(buf, size, "%" PRIu32, ids->at[n]);
	return n < ids->count;
}

/* Stored by number, whatever its name was. */
static int read_id(struct intercept *spec, const struct field *f, const char *value,
		   struct failure *why)
{
	if (!isdigit((unsigned char)*value))
		return report_refuse(why, "%s is not a number", value);
	return intercept_add_id(place(spec, f), false, value, why);
}

static int compare_ids(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void settle_ids(void *place)
{
	struct intercept_ids *ids = place;

	qsort(ids->at, ids->count, sizeof(*ids->at), compare_ids);
}

static const struct field_kind kind_users = {
	.set = type_user,
	.write = write_id,
	.read = read_id,
	.settle = settle_ids,
};

static const struct field_kind kind_groups = {
	.set = type_group,
	.write = write_id,
	.read = read_id,
	.settle = settle_ids,
};

static int type_cgroup(void *groups, const char *arg, const struct option_spec *self,
		       struct failure *why)
{
	return intercept_add_group(groups, arg, why);
}

static bool write_cgroup(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
			 size_t size)
{
	const struct intercept_groups *groups = place(spec, f);

	if (n < groups->count)
		snprintf(buf, size, "%s", groups->at[n]);
	return n < groups->count;
}

/* The group may no longer exist. */
static int read_cgroup(struct intercept *spec, const struct field *f, const char *value,
		       struct failure *why)
{
	return intercept_add_group_path(place(spec, f), value, why);
}

static const struct field_kind kind_cgroups = {
	.set = type_cgroup,
	.write = write_cgroup,
	.read = read_cgroup,
};

/* --- kinds: long lists, which are stored as digests ------------------------------------------- */

static bool write_list(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
		       size_t size)
{
	struct intercept_digest digest = intercept_digest_of(spec, f->most);

	snprintf(buf, size, "%" PRIu64 ".%016" PRIx64, digest.count, digest.hash);
	return !n && digest.count;
}

static int read_list(struct intercept *spec, const struct field *f, const char *value,
		     struct failure *why)
{
	struct intercept_digest *digest = &spec->digest[f->most];
	int end = 0;

	if (sscanf(value, "%10" SCNu64 ".%16" SCNx64 "%n", &digest->count, &digest->hash, &end) ==
		    2 &&
	    !value[end])
		return 0;
	return report_refuse(why, "%s is not a digest of a list", value);
}

static void show_list(const struct intercept *spec, const struct field *f, char *buf, size_t size)
{
	intercept_list_text(spec, f->most, buf, size);
}

static const struct field_kind kind_ports = {
	.set = option_ports,
	.write = write_list,
	.read = read_list,
	.show = show_list,
};

static const struct field_kind kind_cidrs = {
	.set = option_cidrs,
	.write = write_list,
	.read = read_list,
	.show = show_list,
	.settle = (void (*)(void *))endpoint_cidr_merge,
};

/* --- kinds of their own ----------------------------------------------------------------------- */

static int type_name(void *spec, const char *arg, const struct option_spec *self,
		     struct failure *why)
{
	return intercept_set_name(spec, arg, why);
}

static bool write_name(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
		       size_t size)
{
	snprintf(buf, size, "%s", spec->name);
	return !n;
}

static int read_name(struct intercept *spec, const struct field *f, const char *value,
		     struct failure *why)
{
	return intercept_set_name(spec, value, why);
}

static const struct field_kind kind_name = {
	.set = type_name,
	.write = write_name,
	.read = read_name,
};

static bool write_family(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
			 size_t size)
{
	snprintf(buf, size, "%s%s", spec->ipv4 ? "4" : "", spec->ipv6 ? "6" : "");
	return !n;
}

static int read_family(struct intercept *spec, const struct field *f, const char *value,
		       struct failure *why)
{
	spec->ipv4 = strchr(value, '4');
	spec->ipv6 = strchr(value, '6');
	return spec->ipv4 || spec->ipv6 ? 0 : report_refuse(why, "no family");
}

static void show_family(const struct intercept *spec, const struct field *f, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s", spec->ipv4 ? "IPv4" : "",
		 spec->ipv4 && spec->ipv6 ? " and " : "", spec->ipv6 ? "IPv6" : "");
}

static void type_family(const struct intercept *spec, struct shell_command *c)
{
	if (spec->ipv4 != spec->ipv6)
		shell_word(c, spec->ipv4 ? "-4" : "-6");
}

static const struct field_kind kind_family = {
	.write = write_family,
	.read = read_family,
	.show = show_family,
	.type = type_family,
};

static bool write_protocol(const struct intercept *spec, const struct field *f, unsigned n,
			   char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s", spec->tcp ? "tcp" : "", spec->tcp && spec->udp ? "+" : "",
		 spec->udp ? "udp" : "");
	return !n;
}

static int read_protocol(struct intercept *spec, const struct field *f, const char *value,
			 struct failure *why)
{
	spec->tcp = strstr(value, "tcp");
	spec->udp = strstr(value, "udp");
	return spec->tcp || spec->udp ? 0 : report_refuse(why, "no protocol");
}

static void type_protocol(const struct intercept *spec, struct shell_command *c)
{
	if (spec->udp)
		shell_add(c, spec->tcp ? " -t -u" : " -u");
}

static const struct field_kind kind_protocol = {
	.write = write_protocol,
	.read = read_protocol,
	.type = type_protocol,
};

static bool write_listener(const struct intercept *spec, const struct field *f, unsigned n,
			   char *buf, size_t size)
{
	const struct endpoint *at = place(spec, f);
	char text[ENDPOINT_TEXT_MAX];

	snprintf(buf, size, "%s", endpoint_format(at, text));
	return !n && endpoint_is_set(at);
}

/* `*:80` means one family here: the entry says which. */
static int read_listener(struct intercept *spec, const struct field *f, const char *value,
			 struct failure *why)
{
	struct endpoint *at = place(spec, f);
	struct endpoint_list list = { 0 };
	int err = endpoint_parse_listener(value, ENDPOINT_BARE_ANY, &list, why);

	for (size_t i = 0; !err && i < list.count; i++)
		if (list.at[i].family == (at == &spec->to4 ? AF_INET : AF_INET6))
			*at = list.at[i];
	endpoint_list_free(&list);
	return err;
}

static const struct field_kind kind_listener = {
	.write = write_listener,
	.read = read_listener,
};

static int type_to(void *spec, const char *arg, const struct option_spec *self, struct failure *why)
{
	return intercept_set_to(spec, arg, why);
}

/* The word for the listeners of both families, if there is one: a bare port for loopback, or
 * `*:80`. */
static bool is_common(const struct intercept *spec, char buf[ENDPOINT_TEXT_MAX])
{
	const struct endpoint *four = &spec->to4, *six = &spec->to6;

	snprintf(buf, ENDPOINT_TEXT_MAX, endpoint_is_any(four) ? "*:%u" : "%u", four->port);
	return four->port == six->port &&
	       ((endpoint_is_loopback(four) && endpoint_is_loopback(six)) ||
		(endpoint_is_any(four) && endpoint_is_any(six)));
}

static bool write_to(const struct intercept *spec, const struct field *f, unsigned n, char *buf,
		     size_t size)
{
	const struct endpoint *each[] = { &spec->to4, &spec->to6 };
	char text[ENDPOINT_TEXT_MAX];

	if (is_common(spec, text)) {
		snprintf(buf, size, "%s", text);
		return !n;
	}
	n += !endpoint_is_set(each[0]);
	if (n > 1 || !endpoint_is_set(each[n]))
		return false;
	snprintf(buf, size, "%s", endpoint_format(each[n], text));
	return true;
}

static const struct field_kind kind_to = {
	.set = type_to,
	.write = write_to,
	.none = "none",
};

/* --- the table -------------------------------------------------------------------------------- */

#define FIELD(name, letter, arg, help, kind, member, ...)                                  \
	{                                                                                  \
		name, letter, arg, help, &kind_##kind, offsetof(struct intercept, member), \
			__VA_ARGS__                                                        \
	}

/* For the whole specification: its kind uses no field of the struct. */
#define FIELD_OF_ALL(name, letter, arg, help, kind, ...)              \
	{                                                             \
		name, letter, arg, help, &kind_##kind, 0, __VA_ARGS__ \
	}

/* What changes with the lists of intercepted packets and of exceptions. */
#define WANTED	 (CHANGES_PREROUTING | CHANGES_LOCAL | CHANGES_ZONE)
#define RULES	 (CHANGES_ALL & ~CHANGES_ROUTING)
#define EXCLUDED (CHANGES_TAKE | CHANGES_LOCAL | CHANGES_ZONE)

const struct field field_table[] = {
	FIELD_OF_ALL("name", 'n', "NAME", "instance; there can be several (default)", name,
		     FIELD_IDENTITY, 0),
	FIELD_OF_ALL("family", 0, NULL, NULL, family, 0, CHANGES_ALL),
	FIELD_OF_ALL("to", 'T', "[ADDR:]PORT",
		     "the listener (a bare PORT: on loopback of each family);\n"
		     "needed unless --divert-only",
		     to, FIELD_NEW | FIELD_UNSTORED, CHANGES_DELIVER),
	FIELD("to4", 0, NULL, NULL, listener, to4, FIELD_PART, CHANGES_DELIVER),
	FIELD("to6", 0, NULL, NULL, listener, to6, FIELD_PART, CHANGES_DELIVER),
	FIELD_OF_ALL("iif", 'i', "IF", "only packets that come in on it; repeatable; eth* (all)",
		     devices, FIELD_NEW, CHANGES_PREROUTING | CHANGES_ZONE | CHANGES_ASTRAY),
	FIELD("port", 'p', "LIST", "destination ports, like 80,443,8000-8100 (all)", ports, port,
	      FIELD_NEW, CHANGES_SETS | WANTED | CHANGES_ASTRAY, LIST_PORT),
	FIELD("not-port", 0, "LIST", "not these destination ports", ports, not_port, FIELD_NEW,
	      CHANGES_SETS | EXCLUDED | CHANGES_ASTRAY, LIST_NOT_PORT),
	FIELD("src", 0, "CIDR,...", "only these clients (all)", cidrs, src, FIELD_NEW,
	      CHANGES_SETS | WANTED | CHANGES_ASTRAY, LIST_SRC),
	FIELD("dst", 0, "CIDR,...", "only these destinations (all)", cidrs, dst, FIELD_NEW,
	      CHANGES_SETS | WANTED | CHANGES_ASTRAY, LIST_DST),
	FIELD("not-src", 0, "CIDR,...", "not these clients", cidrs, not_src, FIELD_NEW,
	      CHANGES_SETS | EXCLUDED | CHANGES_ASTRAY, LIST_NOT_SRC),
	FIELD("not-dst", 0, "CIDR,...", "not these destinations", cidrs, not_dst, FIELD_NEW,
	      CHANGES_SETS | EXCLUDED | CHANGES_ASTRAY, LIST_NOT_DST),
	FIELD_OF_ALL("not-mark", 0, "MARK", "not packets with this mark; repeatable", not_marks,
		     FIELD_NEW, EXCLUDED),
	FIELD("include-own", 0, NULL, "also packets addressed to this host (left alone)", flag,
	      include_own, FIELD_NEW, EXCLUDED),
	FIELD("local", 0, NULL,
	      "also connections that this host opens; with --divert-only,\n"
	      "answers of servers on its loopback addresses",
	      flag, local, FIELD_NEW, CHANGES_SETS | WANTED | CHANGES_DIVERT),
	FIELD("uid", 0, "USER", "with --local: only this user's; repeatable", users, uid,
	      FIELD_OWNER, CHANGES_LOCAL),
	FIELD("gid", 0, "GROUP", "with --local: only this group's; repeatable", groups, gid,
	      FIELD_OWNER, CHANGES_LOCAL),
	FIELD("cgroup", 0, "PATH", "with --local: only this control group's; repeatable", cgroups,
	      cgroup, FIELD_OWNER, CHANGES_LOCAL),
	FIELD("not-uid", 0, "USER", "not this user's", users, not_uid, FIELD_OWNER, CHANGES_LOCAL),
	FIELD("not-gid", 0, "GROUP", "not this group's", groups, not_gid, FIELD_OWNER,
	      CHANGES_LOCAL),
	FIELD("not-cgroup", 0, "PATH", "not this control group's", cgroups, not_cgroup, FIELD_OWNER,
	      CHANGES_LOCAL),
	FIELD_OF_ALL("proto", 0, NULL, NULL, protocol, 0, RULES),
	FIELD("divert-only", 0, NULL, "only deliver packets to established transparent sockets",
	      flag, divert_only, 0, RULES),
	FIELD("no-listener", 0, INTERCEPT_NO_LISTENER_WORDS,
	      "what to do when nobody listens (reject)", choice, no_listener, FIELD_NEW | FIELD_HOW,
	      CHANGES_DELIVER),
	FIELD("midstream", 0, INTERCEPT_MIDSTREAM_WORDS,
	      "packets without a socket here: of flows older than `up`,\n"
	      "or of a relay that died (reset)",
	      choice, midstream, FIELD_NEW | FIELD_HOW, CHANGES_SETS | CHANGES_TAKE),
	FIELD("conntrack", 0, INTERCEPT_CONNTRACK_WORDS,
	      "keep the two legs apart in conntrack (auto)", choice, conntrack, FIELD_HOW, 0),
	FIELD("zone", 0, INTERCEPT_CONNTRACK_WORDS, NULL, decision, zone, 0,
	      CHANGES_SETS | CHANGES_PREROUTING | CHANGES_TAKE | CHANGES_ZONE | CHANGES_ASTRAY),
	FIELD("mark", 0, "VALUE[/MASK]", "mark of intercepted packets (0x1/0xff)", mark, mark,
	      FIELD_HOW,
	      CHANGES_ROUTING | CHANGES_PREROUTING | CHANGES_DIVERT | CHANGES_DELIVER |
		      CHANGES_LOCAL),
	FIELD("upstream-mark", 0, "VALUE[/MASK]", "mark of the relay's own connections (0x2/0xff)",
	      mark, upstream_mark, FIELD_HOW, WANTED | CHANGES_DIVERT),
	FIELD("table", 0, "N", "routing table (100)", number, table, FIELD_HOW, CHANGES_ROUTING,
	      UINT32_MAX),
	FIELD("pref", 0, "N", "preference of the routing rule (100)", number, pref, FIELD_HOW,
	      CHANGES_ROUTING, INTERCEPT_PREF_MAX),
	FIELD("ct-zone", 0, "N", "the conntrack zone (7)", number, ct_zone, FIELD_HOW, CHANGES_ZONE,
	      UINT16_MAX),
};
const size_t field_count = sizeof(field_table) / sizeof(*field_table);

const char *field_show(const struct field *f, const struct intercept *spec,
		       char buf[FIELD_VALUE_MAX])
{
	size_t used = 0;

	buf[0] = '\0';
	if (f->kind->show) {
		f->kind->show(spec, f, buf, FIELD_VALUE_MAX);
		return buf;
	}
	for (unsigned n = 0; used + 2 < FIELD_VALUE_MAX; n++) {
		if (n)
			buf[used++] = ',';
		if (!f->kind->write(spec, f, n, buf + used, FIELD_VALUE_MAX - used)) {
			buf[used - !!n] = '\0';
			break;
		}
		used += strlen(buf + used);
	}
	return buf;
}

bool field_equal(const struct field *f, const struct intercept *a, const struct intercept *b)
{
	char x[FIELD_VALUE_MAX], y[FIELD_VALUE_MAX];
	bool more;

	for (unsigned n = 0;; n++) {
		more = f->kind->write(a, f, n, x, sizeof(x));
		if (f->kind->write(b, f, n, y, sizeof(y)) != more)
			return false;
		if (!more)
			return true;
		if (strcmp(x, y) != 0)
			return false;
	}
}

const struct field *field_find(const char *name)
{
	for (size_t i = 0; i < field_count; i++)
		if (!strcmp(field_table[i].name, name))
			return &field_table[i];
	return NULL;
}
