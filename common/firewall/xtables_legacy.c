/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/xtables_legacy.h"

#include "firewall/xtables.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The same structure exists twice in the kernel's interface, with different addresses. */
struct family {
	const char *name, *list;
	int domain, level, get_info, get_entries;
	size_t entry_size;
};
static const struct family families[] = {
	{ "ip", "/proc/net/ip_tables_names", AF_INET, SOL_IP, IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES,
	  sizeof(struct ipt_entry) },
	{ "ip6", "/proc/net/ip6_tables_names", AF_INET6, SOL_IPV6, IP6T_SO_GET_INFO,
	  IP6T_SO_GET_ENTRIES, sizeof(struct ip6t_entry) },
};

/* A sound table, and how far it has been read. */
struct legacy {
	const struct family *family;
	const struct xtables_legacy_table *table;
	char chain[XT_EXTENSION_MAXNAMELEN];
	unsigned rule;
};

/* --- entries ---------------------------------------------------------------------------------- */

/* Target and next offset of an entry: at different offsets for IPv6. */
static size_t target_offset(const struct legacy *l, size_t offset)
{
	const void *entry = l->table->entries + offset;

	return l->family->domain == AF_INET ? ((const struct ipt_entry *)entry)->target_offset
					    : ((const struct ip6t_entry *)entry)->target_offset;
}

static size_t next_offset(const struct legacy *l, size_t offset)
{
	const void *entry = l->table->entries + offset;

	return l->family->domain == AF_INET ? ((const struct ipt_entry *)entry)->next_offset
					    : ((const struct ip6t_entry *)entry)->next_offset;
}

static const struct xt_entry_target *target_of(const struct legacy *l, size_t offset)
{
	return (const void *)(l->table->entries + offset + target_offset(l, offset));
}

/* The entry's first match; its target if it has none. */
static const struct xt_entry_match *first_match(const struct legacy *l, size_t offset)
{
	return (const void *)(l->table->entries + offset + l->family->entry_size);
}

static const struct xt_entry_match *next_match(const struct xt_entry_match *m)
{
	return (const void *)((const char *)m + m->u.match_size);
}

/* --- soundness: the code below only looks at entries that passed these checks
 * ------------------- */

static bool is_text(const char *at, size_t size)
{
	return memchr(at, '\0', size);
}

static bool is_aligned(size_t offset)
{
	return offset == XT_ALIGN(offset);
}

static bool matches_are_sound(const struct legacy *l, size_t offset)
{
	size_t end = target_offset(l, offset), at = l->family->entry_size;

	while (at < end) {
		const struct xt_entry_match *m = (const void *)(l->table->entries + offset + at);

		if (end - at < sizeof(*m) || m->u.match_size < sizeof(*m) ||
		    m->u.match_size > end - at || !is_aligned(m->u.match_size) ||
		    !is_text(m->u.user.name, sizeof(m->u.user.name)))
			return false;
		at += m->u.match_size;
	}
	return at == end;
}

/* A verdict (no name) is a number; an ERROR target contains a chain's name. */
static bool target_is_sound(const struct xt_entry_target *t, size_t room)
{
	size_t size = room < sizeof(*t) ? 0 : t->u.target_size, rest;

	if (size < sizeof(*t) || size > room || !is_text(t->u.user.name, sizeof(t->u.user.name)))
		return false;
	rest = size - sizeof(*t);
	if (!*t->u.user.name)
		return rest >= sizeof(int);
	return strcmp(t->u.user.name, XT_ERROR_TARGET) != 0 || is_text((const char *)t->data, rest);
}

static bool entry_is_sound(const struct legacy *l, size_t offset)
{
	size_t left = l->table->size - offset, target, next;

	if (left < l->family->entry_size)
		return false;
	target = target_offset(l, offset);
	next = next_offset(l, offset);
	return target >= l->family->entry_size && target <= next && next <= left &&
	       is_aligned(target) && is_aligned(next) &&
	       target_is_sound(target_of(l, offset), next - target) && matches_are_sound(l, offset);
}

static bool is_entry(const struct legacy *l, size_t wanted)
{
	size_t at = 0;

	while (at < wanted && at < l->table->size)
		at += next_offset(l, at);
	return at == wanted && at < l->table->size;
}

/* A chain's policy is a verdict. */
static bool hooks_are_sound(const struct legacy *l)
{
	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++)
		if (l->table->valid_hooks >> i & 1 &&
		    (!is_entry(l, l->table->hook_entry[i]) ||
		     !is_entry(l, l->table->underflow[i]) ||
		     *target_of(l, l->table->underflow[i])->u.user.name))
			return false;
	return true;
}

/* Prepare to read a table. False: it is not sound. */
static bool begin(struct legacy *l, const struct xtables_legacy_table *table)
{
	*l = (struct legacy){ .family = &families[table->domain == AF_INET6], .table = table };
	for (size_t at = 0; at < table->size; at += next_offset(l, at))
		if (!entry_is_sound(l, at))
			return false;
	return hooks_are_sound(l);
}

/* --- rules ------------------------------------------------------------------------------------ */

static void add_address(json_t *out, const struct family *f, const char *field, const void *address,
			const void *mask, bool inverted)
{
	size_t size = f->domain == AF_INET ? 4 : 16;
	char text[INET6_ADDRSTRLEN];
	int length = 0;

	for (size_t i = 0; i < size; i++)
		length += __builtin_popcount(((const unsigned char *)mask)[i]);
	if (!length)
		return;
	inet_ntop(f->domain, address, text, sizeof(text));
	xtables_append(out, xtables_match(inverted, xtables_payload(f->name, field),
					  json_pack("{s:{s:s,s:i}}", "prefix", "addr", text, "len",
						    length)));
}

static void add_interface(json_t *out, const char *key, const char *name, bool inverted)
{
	char pattern[IFNAMSIZ + 1];
	size_t length = strnlen(name, IFNAMSIZ);

	if (!length)
		return;
	snprintf(pattern, sizeof(pattern), "%.*s", IFNAMSIZ, name);
	if (pattern[length - 1] == '+')
		pattern[length - 1] = '*';
	xtables_append(out, xtables_match(inverted, xtables_meta(key), json_string(pattern)));
}

static void add_protocol(json_t *out, unsigned protocol, bool inverted)
{
	if (protocol)
		xtables_append(out, xtables_match(inverted, xtables_meta("l4proto"),
						  protocol == IPPROTO_TCP ? json_string("tcp")
						  : protocol == IPPROTO_UDP
							  ? json_string("udp")
							  : json_sprintf("%u", protocol)));
}

/* The common beginning of both families' entries. */
struct head {
	const void *source, *source_mask, *destination, *destination_mask;
	const char *iif, *oif;
	unsigned protocol, inverted; /* bits IPT_INV_*, equal to IP6T_INV_* */
};

static struct head head_of(const struct legacy *l, size_t offset)
{
	const void *entry = l->table->entries + offset;

	if (l->family->domain == AF_INET) {
		const struct ipt_ip *ip = &((const struct ipt_entry *)entry)->ip;

		return (struct head){ &ip->src,	   &ip->smsk,	 &ip->dst,  &ip->dmsk,
				      ip->iniface, ip->outiface, ip->proto, ip->invflags };
	}

	const struct ip6t_ip6 *ip = &((const struct ip6t_entry *)entry)->ipv6;

	return (struct head){ &ip->src,	   &ip->smsk,	 &ip->dst,  &ip->dmsk,
			      ip->iniface, ip->outiface, ip->proto, ip->invflags };
}

static void add_head(json_t *out, const struct legacy *l, size_t offset)
{
	struct head h = head_of(l, offset);

	add_address(out, l->family, "saddr", h.source, h.source_mask, h.inverted & IPT_INV_SRCIP);
	add_address(out, l->family, "daddr", h.destination, h.destination_mask,
		    h.inverted & IPT_INV_DSTIP);
	add_interface(out, "iifname", h.iif, h.inverted & IPT_INV_VIA_IN);
	add_interface(out, "oifname", h.oif, h.inverted & IPT_INV_VIA_OUT);
	add_protocol(out, h.protocol, h.inverted & IPT_INV_PROTO);
}

/* A user chain begins with an entry whose target is called ERROR and contains the chain's name; one
 * more ends the table. */
static const char *chain_name(const struct legacy *l, size_t offset)
{
	static const char *const hooks[] = { "PREROUTING", "INPUT", "FORWARD", "OUTPUT",
					     "POSTROUTING" };
	const struct xt_entry_target *target = target_of(l, offset);

	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++)
		if (l->table->valid_hooks >> i & 1 && l->table->hook_entry[i] == offset)
			return hooks[i];
	if (strcmp(target->u.user.name, XT_ERROR_TARGET) ||
	    offset + next_offset(l, offset) == l->table->size)
		return NULL;
	return (const char *)target->data;
}

static void add_jump(json_t *out, const struct legacy *l, size_t offset, bool jump)
{
	/* A jump goes to the entry after the chain's name. */
	for (size_t at = 0; at < l->table->size; at += next_offset(l, at)) {
		const char *name = chain_name(l, at);

		if (name && at + next_offset(l, at) == offset)
			xtables_append(out, json_pack("{s:{s:s}}", jump ? "jump" : "goto", "target",
						      name));
	}
}

static int verdict_of(const struct xt_entry_target *target)
{
	return ((const struct xt_standard_target *)target)->verdict;
}

static void add_verdict(json_t *out, const struct legacy *l, int verdict, bool jump)
{
	if (verdict >= 0)
		add_jump(out, l, (size_t)verdict, jump);
	else
		xtables_append(out, json_pack("{s:n}", verdict == XT_RETURN	   ? "return"
						       : verdict == -NF_ACCEPT - 1 ? "accept"
										   : "drop"));
}

static bool is_goto(const struct legacy *l, size_t offset)
{
	const void *entry = l->table->entries + offset;

	return l->family->domain == AF_INET
		       ? ((const struct ipt_entry *)entry)->ip.flags & IPT_F_GOTO
		       : ((const struct ip6t_entry *)entry)->ipv6.flags & IP6T_F_GOTO;
}

static json_t *read_statements(const struct legacy *l, size_t offset)
{
	const struct xt_entry_target *target = target_of(l, offset);
	json_t *out = json_array();

	add_head(out, l, offset);
	for (const struct xt_entry_match *m = first_match(l, offset); (const void *)m != target;
	     m = next_match(m))
		xtables_decode("match", m->u.user.name, m->data, m->u.match_size - sizeof(*m), out);
	if (!*target->u.user.name)
		add_verdict(out, l, verdict_of(target), !is_goto(l, offset));
	else
		xtables_decode("target", target->u.user.name, target->data,
			       target->u.target_size - sizeof(*target), out);
	return out;
}

/* --- chains ----------------------------------------------------------------------------------- */

static int priority_of(const char *table, unsigned hook)
{
	if (!strcmp(table, "raw"))
		return -300;
	if (!strcmp(table, "mangle"))
		return -150;
	if (!strcmp(table, "nat"))
		return hook == NF_INET_PRE_ROUTING || hook == NF_INET_LOCAL_OUT ? -100 : 100;
	return !strcmp(table, "security") ? 50 : 0;
}

static void add_hook(json_t *chain, const struct legacy *l, unsigned hook)
{
	static const char *const hooks[] = { "prerouting", "input", "forward", "output",
					     "postrouting" };
	int policy = verdict_of(target_of(l, l->table->underflow[hook]));
	bool nat = !strcmp(l->table->name, "nat");

	json_object_set_new(chain, "hook", json_string(hooks[hook]));
	json_object_set_new(chain, "type", json_string(nat ? "nat" : "filter"));
	json_object_set_new(chain, "policy",
			    json_string(policy == -NF_ACCEPT - 1 ? "accept" : "drop"));
	json_object_set_new(chain, "prio", json_integer(priority_of(l->table->name, hook)));
}

static void add_chain(const struct legacy *l, json_t *objects, const char *name, size_t offset)
{
	json_t *chain = json_pack("{s:s,s:s,s:s,s:b}", "family", l->family->name, "table",
				  l->table->name, "name", name, "legacy", 1);

	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++)
		if (l->table->valid_hooks >> i & 1 && l->table->hook_entry[i] == offset)
			add_hook(chain, l, i);
	json_array_append_new(objects, json_pack("{s:o}", "chain", chain));
}

static bool is_policy(const struct legacy *l, size_t offset)
{
	for (unsigned i = 0; i < NF_INET_NUMHOOKS; i++)
		if (l->table->valid_hooks >> i & 1 && l->table->underflow[i] == offset)
			return true;
	return false;
}

/* Neither the head nor the end of a chain. */
static bool is_rule(const struct legacy *l, size_t offset)
{
	return strcmp(target_of(l, offset)->u.user.name, XT_ERROR_TARGET) && !is_policy(l, offset);
}

static void begin_chain(struct legacy *l, const char *name)
{
	snprintf(l->chain, sizeof(l->chain), "%s", name);
	l->rule = 0;
}

/* Add the entry to the array of nft objects. */
static void add_entry(struct legacy *l, size_t offset, json_t *objects)
{
	const char *name = chain_name(l, offset);
	json_t *text;

	if (name) {
		add_chain(l, objects, name, offset);
		begin_chain(l, name);
	}
	if (!is_rule(l, offset))
		return;
	text = json_sprintf("rule %u", ++l->rule);
	json_array_append_new(objects, json_pack("{s:{s:s,s:s,s:s,s:b,s:o,s:o}}", "rule", "family",
						 l->family->name, "table", l->table->name, "chain",
						 l->chain, "legacy", 1, "text", text, "expr",
						 read_statements(l, offset)));
}

void xtables_legacy_add_table(const struct xtables_legacy_table *table, json_t *objects)
{
	struct legacy l;

	if (!begin(&l, table))
		return;
	for (size_t at = 0; at < table->size; at += next_offset(&l, at))
		add_entry(&l, at, objects);
}

/* --- uses of extensions ----------------------------------------------------------------------- */

/* Who receives them. */
struct telling {
	xtables_legacy_visitor *visit;
	void *context;
};

/* A verdict has no name. */
static int tell_extension(const struct telling *t, struct xtables_legacy_use *use, const char *name)
{
	use->extension = *name ? name : "standard";
	return t->visit(use, t->context);
}

static bool has_source(const struct legacy *l, size_t offset)
{
	const unsigned char *mask = head_of(l, offset).source_mask;

	for (size_t i = 0; i < (l->family->domain == AF_INET ? 4 : 16); i++)
		if (mask[i])
			return true;
	return false;
}

static int tell_entry(struct legacy *l, size_t offset, const struct telling *t)
{
	const struct xt_entry_target *target = target_of(l, offset);
	const char *name = chain_name(l, offset);
	struct xtables_legacy_use use = {
		l->family->name, l->table->name, l->chain, 0, NULL, false
	};
	int result = 0;

	if (name)
		begin_chain(l, name);
	if (!is_rule(l, offset))
		return 0;
	use.rule = ++l->rule;
	use.has_source = has_source(l, offset);
	for (const struct xt_entry_match *m = first_match(l, offset);
	     !result && (const void *)m != target; m = next_match(m))
		result = tell_extension(t, &use, m->u.user.name);
	return result ? result : tell_extension(t, &use, target->u.user.name);
}

int xtables_legacy_each_use_of(const struct xtables_legacy_table *table,
			       xtables_legacy_visitor *visit, void *context)
{
	const struct telling telling = { visit, context };
	struct legacy l;
	int result = 0;

	if (!begin(&l, table))
		return 0;
	for (size_t at = 0; !result && at < table->size; at += next_offset(&l, at))
		result = tell_entry(&l, at, &telling);
	return result;
}

/* --- the kernel's tables ---------------------------------------------------------------------- */

/* The entries of a table; NULL if they cannot be read. The caller frees them. struct ipt_getinfo
 * and struct ip6t_getinfo are the same, and so is the head of the entries. */
static struct ipt_get_entries *fetch(const struct family *family, const char *name, int fd,
				     struct xtables_legacy_table *table)
{
	struct ipt_getinfo info = { 0 };
	struct ipt_get_entries *got;
	socklen_t size = sizeof(info);

	snprintf(info.name, sizeof(info.name), "%s", name);
	if (getsockopt(fd, family->level, family->get_info, &info, &size))
		return NULL;
	size = (socklen_t)(sizeof(*got) + info.size);
	got = calloc(1, size);
	if (!got)
		return NULL;
	snprintf(got->name, sizeof(got->name), "%s", name);
	got->size = info.size;
	/* EAGAIN: it changed in between; the next read sees it. */
	if (getsockopt(fd, family->level, family->get_entries, got, &size)) {
		free(got);
		return NULL;
	}
	*table = (struct xtables_legacy_table){ .domain = family->domain,
						.name = name,
						.valid_hooks = info.valid_hooks,
						.entries = (const char *)got->entrytable,
						.size = info.size };
	memcpy(table->hook_entry, info.hook_entry, sizeof(table->hook_entry));
	memcpy(table->underflow, info.underflow, sizeof(table->underflow));
	return got;
}

/* Called for each table; a non-zero return ends the visit. */
typedef int table_reader(const struct xtables_legacy_table *table, void *context);

/* #syscalls collect: socket(AF_INET, SOCK_RAW, IPPROTO_RAW), socket(AF_INET6, SOCK_RAW, IPPROTO_RAW)
 * #syscalls collect: getsockopt, openat(O_RDONLY), fstat, read, lseek, close */
static int read_family(const struct family *family, table_reader *read, void *context)
{
	FILE *in = fopen(family->list, "re");
	int fd = in ? socket(family->domain, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW) : -1, result = 0;
	char name[XT_TABLE_MAXNAMELEN];

	while (fd >= 0 && !result && fgets(name, sizeof(name), in)) {
		struct xtables_legacy_table table;
		struct ipt_get_entries *got;

		name[strcspn(name, "\n")] = '\0';
		got = fetch(family, name, fd, &table);
		result = got ? read(&table, context) : 0;
		free(got);
	}
	if (fd >= 0)
		close(fd);
	if (in)
		fclose(in);
	return result;
}

static int read_all(table_reader *read, void *context)
{
	int result = 0;

	for (size_t i = 0; !result && i < sizeof(families) / sizeof(*families); i++)
		result = read_family(&families[i], read, context);
	return result;
}

static int add_table(const struct xtables_legacy_table *table, void *context)
{
	xtables_legacy_add_table(table, context);
	return 0;
}

void xtables_legacy_add(json_t *objects)
{
	read_all(add_table, objects);
}

static int tell_table(const struct xtables_legacy_table *table, void *context)
{
	const struct telling *t = context;

	return xtables_legacy_each_use_of(table, t->visit, t->context);
}

int xtables_legacy_each_use(xtables_legacy_visitor *visit, void *context)
{
	struct telling telling = { visit, context };

	return read_all(tell_table, &telling);
}

/* Add the names from one family's list, each once. */
static int list_names(FILE *in, char *buf, size_t size)
{
	char name[XT_TABLE_MAXNAMELEN];
	int count = 0;

	while (fgets(name, sizeof(name), in)) {
		size_t used = strlen(buf);

		name[strcspn(name, "\n")] = '\0';
		count++;
		if (!strstr(buf, name))
			snprintf(buf + used, size - used, "%s%s", used ? ", " : "", name);
	}
	return count;
}

int xtables_legacy_names(char *buf, size_t size)
{
	int count = 0;

	*buf = '\0';
	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++) {
		FILE *in = fopen(families[i].list, "re");

		if (in) {
			count += list_names(in, buf, size);
			fclose(in);
		} else if (errno != ENOENT) {
			return -1;
		}
	}
	return count;
}
