/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/firewall.h"

#include "base/json_text.h"
#include "firewall/census.h"
#include "firewall/rule_wire.h"
#include "firewall/xtables_legacy.h"
#include "firewall/xtables_nft.h"
#include "intercept/nft_text.h"
#include "net/netlink.h"
#include "net/nft_message.h"
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where rules are read from, on request. All as printed by nft, with handles, take as long as
 * everything else; so do not print more than a chain, if nft takes its name. */
struct source {
	struct nft *rules;
	char *text; /* of all rules; NULL: not yet */
	struct netlink *wire;
	bool some;	    /* rules, sets and maps are read when they are needed */
	unsigned listed;    /* chains that libnftables had to list */
	struct failure why; /* why one could not be */
	bool failed;
	struct census census;
};

/* Up to so many rules are read at once: asking for a chain takes as long as some of its rules do. */
#define FEW_RULES 50

/* After so many chains libnftables lists all: for each it asks for the table and its sets again. */
#define FEW_CHAINS 8

/* A transaction meanwhile interrupts a list. */
#define ATTEMPTS 5

/* A rule as the kernel told it, in the bytes of its chain. */
struct wire_rule {
	uint64_t handle;
	uint32_t at, size;
};

struct firewall_wire {
	uint8_t family; /* NFPROTO_INET, ... */
	struct wire_rule *rule;
	char *bytes;
	uint32_t used, room;
	bool changed; /* since then: libnftables lists other rules */
};

struct firewall {
	json_t *objects; /* array: table, chain, rule, set, map, flowtable */
	json_t *own;	 /* array: rules that were put into JSON here */
	json_t *nothing; /* a rule that has gone */
	struct source *source;
	struct firewall_chain *chain;
	const struct firewall_chain **by_name;
	size_t chains;
	bool reversed; /* the order of tied chains */
};

/* --- nft's listing ---------------------------------------------------------------------------- */

/* nft's listing that has the chain. */
static const char *text_of_chain(const struct firewall *f, const struct firewall_chain *chain)
{
	struct source *s = f->source;
	struct firewall_chain *c = (struct firewall_chain *)chain;

	if (!c->text)
		c->text = nft_list_text(s->rules, "chain", c->family, c->table, c->name, NULL);
	if (c->text)
		return c->text;
	if (!s->text)
		s->text = nft_dump_text(s->rules, NULL);
	return s->text ? s->text : "";
}

/* The line after `from` that begins, after its blanks, with `start`; NULL: none before `end`. */
static const char *line_with(const char *from, const char *end, const char *start)
{
	while (from && from < end) {
		const char *at = from + strspn(from, "\t ");

		if (!strncmp(at, start, strlen(start)))
			return at;
		from = strchr(from, '\n');
		from = from ? from + 1 : NULL;
	}
	return NULL;
}

/* Where that chain begins in nft's listing. */
static const char *find_chain(const char *text, const struct firewall_chain *c)
{
	char start[256];
	const char *all = text + strlen(text), *table;

	snprintf(start, sizeof(start), "table %s %s {", c->family, c->table);
	table = line_with(text, all, start);
	snprintf(start, sizeof(start), "chain %s {", c->name);
	return table ? line_with(table, all, start) : NULL;
}

/* --- index ------------------------------------------------------------------------------------ */

static bool is_ours(const json_t *object)
{
	const char *table = json_text(object, "table");

	return (!strncmp(table, NFT_TEXT_PREFIX, strlen(NFT_TEXT_PREFIX)) &&
		!intercept_check_name(table + strlen(NFT_TEXT_PREFIX), NULL)) ||
	       !strncmp(table, NFT_TEXT_TRACE_PREFIX, strlen(NFT_TEXT_TRACE_PREFIX));
}

static bool is_legacy(const json_t *object)
{
	return json_is_true(json_object_get(object, "legacy"));
}

/* The tables and base chains that iptables-nft creates, by its names. */
static bool looks_like_iptables(const json_t *chain)
{
	static const char *const tables[] = { "filter", "mangle", "nat", "raw", "security" };
	const char *family = json_text(chain, "family");

	if (strcmp(family, "ip") && strcmp(family, "ip6"))
		return false;
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		if (!strcmp(tables[i], json_text(chain, "table")))
			return true;
	return false;
}

/* Chains of type nat are run by the kernel's NAT, which has a place of its own at each hook
 * (nf_nat_register_fn() of net/netfilter/nf_nat_core.c); their priorities order them there. */
static long runs_at(const json_t *chain)
{
	const char *hook = json_text(chain, "hook");

	if (strcmp(json_text(chain, "type"), "nat"))
		return (long)json_integer_value(json_object_get(chain, "prio"));
	return !strcmp(hook, "prerouting") || !strcmp(hook, "output") ? NF_IP_PRI_NAT_DST
								      : NF_IP_PRI_NAT_SRC;
}

static int index_chain(struct firewall *f, const json_t *chain)
{
	struct firewall_chain *grown = realloc(f->chain, (f->chains + 1) * sizeof(*grown));

	if (!grown)
		return -1;
	f->chain = grown;
	f->chain[f->chains++] = (struct firewall_chain){
		.family = json_text(chain, "family"),
		.table = json_text(chain, "table"),
		.name = json_text(chain, "name"),
		.hook = json_text(chain, "hook"),
		.type = json_text(chain, "type"),
		.policy = json_text(chain, "policy"),
		.priority = (long)json_integer_value(json_object_get(chain, "prio")),
		.runs_at = runs_at(chain),
		.made = { is_legacy(chain) ? 0
					   : census_table_handle(&f->source->census,
								 json_text(chain, "family"),
								 json_text(chain, "table")),
			  (uint64_t)json_integer_value(json_object_get(chain, "handle")) },
		.read = !f->source->some || is_legacy(chain),
		.iptables = looks_like_iptables(chain),
		.legacy = is_legacy(chain),
	};
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	const struct firewall_chain *x = *(const struct firewall_chain *const *)a;
	const struct firewall_chain *y = *(const struct firewall_chain *const *)b;
	int order = strcmp(x->name, y->name);

	if (!order)
		order = strcmp(x->table, y->table);
	if (!order)
		order = strcmp(x->family, y->family);
	return order ? order : x->legacy - y->legacy;
}

/* Whenever the chains were sorted. */
static void index_names(struct firewall *f)
{
	for (size_t i = 0; i < f->chains; i++)
		f->by_name[i] = &f->chain[i];
	if (f->chains)
		qsort(f->by_name, f->chains, sizeof(*f->by_name), compare_names);
}

static struct firewall_chain *find(const struct firewall *f, const char *family, const char *table,
				   const char *name, bool legacy)
{
	const struct firewall_chain like = {
		.family = family, .table = table, .name = name, .legacy = legacy
	};
	const struct firewall_chain *sought = &like, **at;

	at = f->chains ? bsearch(&sought, f->by_name, f->chains, sizeof(*at), compare_names) : NULL;
	return at ? f->chain + (*at - f->chain) : NULL;
}

/* Make room for one more rule: the room doubles. */
static int grow(struct firewall_chain *c)
{
	size_t room = c->rules ? 2 * c->rules : 1;
	const json_t **rule;
	struct first_match *first;
	struct wire_rule *wire = NULL;

	if (c->rules & (c->rules - 1))
		return 0;
	rule = realloc(c->rule, room * sizeof(*rule));
	if (rule)
		c->rule = rule;
	first = realloc(c->first, room * sizeof(*first));
	if (first)
		c->first = first;
	if (c->wire)
		wire = realloc(c->wire->rule, room * sizeof(*wire));
	if (wire)
		c->wire->rule = wire;
	return rule && first && (wire || !c->wire) ? 0 : -1;
}

static int index_rule(struct firewall *f, const json_t *rule)
{
	struct firewall_chain *c = find(f, json_text(rule, "family"), json_text(rule, "table"),
					json_text(rule, "chain"), is_legacy(rule));

	if (!c)
		return 0;
	if (grow(c))
		return -1;
	c->first[c->rules] = first_match_of(rule);
	c->rule[c->rules++] = rule;
	return 0;
}

static bool is_nat(const struct firewall_chain *c)
{
	return !strcmp(c->type, "nat");
}

static bool same_table(const struct firewall_chain *a, const struct firewall_chain *b)
{
	return a->legacy == b->legacy && !strcmp(a->table, b->table) &&
	       !strcmp(a->family, b->family);
}

static int compare_place(const struct firewall_chain *a, const struct firewall_chain *b)
{
	if (a->runs_at != b->runs_at || !is_nat(a) || !is_nat(b))
		return (a->runs_at > b->runs_at) - (a->runs_at < b->runs_at);
	return (a->priority > b->priority) - (a->priority < b->priority);
}

bool firewall_is_tied(const struct firewall_chain *a, const struct firewall_chain *b)
{
	return !strcmp(a->hook, b->hook) && !compare_place(a, b) &&
	       (!same_table(a, b) || is_nat(a) != is_nat(b));
}

/* The newest first. NAT registers itself once, with the first chain of its type. */
static int compare_order(const void *a, const void *b)
{
	const struct firewall_chain *x = a, *y = b;
	int order = compare_place(x, y);

	if (order || is_nat(x) != is_nat(y))
		return order ? order : is_nat(x) - is_nat(y);
	for (int i = 0; i < 2; i++)
		if (x->made[i] != y->made[i])
			return x->made[i] > y->made[i] ? -1 : 1;
	return 0;
}

static int compare_reversed(const void *a, const void *b)
{
	return firewall_is_tied(a, b) ? -compare_order(a, b) : compare_order(a, b);
}

void firewall_reverse_ties(struct firewall *f)
{
	if (f->chains)
		qsort(f->chain, f->chains, sizeof(*f->chain), compare_reversed);
	f->reversed = true;
	index_names(f);
}

bool firewall_is_before(const struct firewall *f, const struct firewall_chain *c,
			const struct firewall_place *ours)
{
	if (c->runs_at != ours->priority)
		return c->runs_at < ours->priority;
	return (c->made[0] > ours->made) != f->reversed;
}

static const char *find_devices(const struct firewall *f, const struct firewall_chain *c)
{
	const char *text = text_of_chain(f, c);

	return line_with(find_chain(text, c), text + strlen(text), "type ");
}

static int index_all(struct firewall *f)
{
	json_t *object, *found;
	size_t i;
	int err = 0;

	json_array_foreach(f->objects, i, object) {
		found = json_object_get(object, "chain");
		if (found && !is_ours(found))
			err |= index_chain(f, found);
	}
	/* libnftables 1.0.6 omits the devices from its JSON. */
	for (size_t c = 0; c < f->chains; c++)
		if (!strcmp(f->chain[c].hook, "ingress") || !strcmp(f->chain[c].hook, "egress"))
			f->chain[c].devices = find_devices(f, &f->chain[c]);
	f->by_name = calloc(f->chains + 1, sizeof(*f->by_name));
	if (!f->by_name)
		return -1;
	if (f->chains)
		qsort(f->chain, f->chains, sizeof(*f->chain), compare_order);
	index_names(f);
	json_array_foreach(f->objects, i, object) {
		found = json_object_get(object, "rule");
		if (found && !is_ours(found))
			err |= index_rule(f, found);
	}
	return err;
}

/* --- rules as the kernel tells them ----------------------------------------------------------- */

/* A list of rules as it comes. */
struct wire_reading {
	struct firewall *f;
	struct firewall_chain *chain; /* of the last rule: those of a chain follow each other */
	bool failed;
};

static void free_wire(struct firewall_chain *c)
{
	if (c->wire) {
		free(c->wire->rule);
		free(c->wire->bytes);
	}
	free(c->wire);
	c->wire = NULL;
}

static struct firewall_chain *chain_of(struct wire_reading *r, int family, const char *table,
				       const char *name)
{
	struct firewall_chain *c = r->chain;
	const char *word = nft_family_name(family);

	if (!c || strcmp(c->name, name) || strcmp(c->table, table) || strcmp(c->family, word))
		c = find(r->f, word, table, name, false);
	r->chain = c;
	if (c && !c->wire && !c->read) {
		c->wire = calloc(1, sizeof(*c->wire));
		if (c->wire)
			c->wire->family = (uint8_t)family;
		r->failed |= !c->wire;
	}
	return c && c->wire && !c->read ? c : NULL;
}

/* Returns where the bytes are; NULL: no memory. */
static void *keep_bytes(struct firewall_wire *w, const struct nlattr *attribute)
{
	uint32_t size = NLA_ALIGN((uint32_t)nla_len(attribute));
	uint32_t room = w->room ? w->room : 4096;
	char *bytes;

	while (w->used + size > room)
		room *= 2;
	bytes = room > w->room ? realloc(w->bytes, room) : w->bytes;
	if (!bytes)
		return NULL;
	w->bytes = bytes;
	w->room = room;
	memcpy(bytes + w->used, nla_data(attribute), (size_t)nla_len(attribute));
	w->used += size;
	return bytes + w->used - size;
}

static int add_wire_rule(struct firewall_chain *c, uint64_t handle,
			 const struct nlattr *expressions)
{
	struct firewall_wire *w = c->wire;
	struct rule_wire rule = { .family = w->family, .size = nla_len(expressions) };
	uint32_t at = w->used;

	rule.data = keep_bytes(w, expressions);
	if (!rule.data || grow(c) || !w->rule)
		return -1;
	w->rule[c->rules] = (struct wire_rule){ handle, at, (uint32_t)rule.size };
	c->first[c->rules] = rule_wire_first(&rule);
	c->rule[c->rules++] = NULL;
	return 0;
}

static void read_wire_rule(struct nlmsghdr *message, void *context)
{
	struct nla_policy policy[NFTA_RULE_MAX + 1] = {
		[NFTA_RULE_TABLE] = { .type = NLA_STRING },
		[NFTA_RULE_CHAIN] = { .type = NLA_STRING },
		[NFTA_RULE_HANDLE] = { .type = NLA_U64 },
	};
	const struct nfgenmsg *header = nlmsg_data(message);
	struct nlattr *a[NFTA_RULE_MAX + 1];
	struct wire_reading *r = context;
	struct firewall_chain *c;

	if (nlmsg_parse(message, sizeof(*header), a, NFTA_RULE_MAX, policy) ||
	    !a[NFTA_RULE_TABLE] || !a[NFTA_RULE_CHAIN] || !a[NFTA_RULE_HANDLE]) {
		r->failed = true;
		return;
	}
	c = chain_of(r, header->nfgen_family, nla_get_string(a[NFTA_RULE_TABLE]),
		     nla_get_string(a[NFTA_RULE_CHAIN]));
	if (c && a[NFTA_RULE_EXPRESSIONS])
		r->failed |= add_wire_rule(c, be64toh(nla_get_u64(a[NFTA_RULE_HANDLE])),
					   a[NFTA_RULE_EXPRESSIONS]) != 0;
}

static struct nl_msg *list_request(const struct firewall_chain *only)
{
	if (!only)
		return nft_message_rules(NFPROTO_UNSPEC, NULL, NULL);
	return nft_message_rules((uint8_t)nft_family_number(only->family), only->table, only->name);
}

static void forget_wire(struct firewall *f, struct firewall_chain *only)
{
	for (size_t i = 0; i < f->chains; i++) {
		struct firewall_chain *c = &f->chain[i];

		if (c->wire && !c->read && (!only || c == only)) {
			free_wire(c);
			c->rules = 0;
		}
	}
}

/* Read the rules of that chain, or of all chains that are not read, from the kernel. */
static int read_wire(struct firewall *f, struct firewall_chain *only)
{
	struct wire_reading r = { .f = f };
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < ATTEMPTS; i++) {
		forget_wire(f, only);
		r = (struct wire_reading){ .f = f };
		err = netlink_ask(f->source->wire, list_request(only), read_wire_rule, &r);
	}
	if (!err && !r.failed)
		return 0;
	forget_wire(f, only);
	return -1;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The place for a rule that libnftables lists in a chain that the kernel told; NULL: none. */
static const json_t **place_of(struct firewall_chain *c, const json_t *rule, size_t *near)
{
	uint64_t handle = (uint64_t)json_integer_value(json_object_get(rule, "handle"));

	for (size_t i = 0; i < c->rules; i++) {
		size_t at = (*near + i) % c->rules;

		if (c->wire->rule[at].handle == handle) {
			*near = at + 1;
			return &c->rule[at];
		}
	}
	return NULL;
}

static int add_rule(struct firewall *f, const json_t *rule, size_t *near)
{
	struct firewall_chain *c = find(f, json_text(rule, "family"), json_text(rule, "table"),
					json_text(rule, "chain"), false);
	const json_t **place;

	if (!c || (c->read && !c->wire))
		return 0;
	if (!c->wire)
		return index_rule(f, rule);
	place = place_of(c, rule, near);
	if (!place)
		c->wire->changed = true;
	else if (!*place)
		*place = rule;
	return 0;
}

/* Take over the rules of these objects, which then live as long as the firewall, into the chains
 * that have none yet, or have them as the kernel told. */
static int add_rules(struct firewall *f, json_t *objects)
{
	json_t *object, *rule;
	size_t i, near = 0;
	int err = 0;

	xtables_nft_decode(objects);
	json_array_foreach(objects, i, object) {
		rule = json_object_get(object, "rule");
		if (rule && !is_ours(rule))
			err |= add_rule(f, rule, &near);
	}
	return err | json_array_extend(f->objects, objects);
}

static int read_rest(struct firewall *f, struct failure *why)
{
	json_t *all = nft_dump_json(f->source->rules, why);
	int err = all ? add_rules(f, all) : -1;

	for (size_t i = 0; i < f->chains; i++)
		f->chain[i].read = true;
	json_decref(all);
	return err;
}

/* The rule in JSON, owned by the firewall; NULL: it takes libnftables to read it. */
static json_t *put_into_json(struct firewall *f, const struct firewall_chain *c, size_t at)
{
	const struct wire_rule *w = &c->wire->rule[at];
	const struct rule_wire wire = { c->wire->family, c->wire->bytes + w->at, (int)w->size };
	json_t *statements = rule_wire_statements(&wire), *rule;

	rule = statements ? json_pack("{s:s,s:s,s:s,s:I,s:o}", "family", c->family, "table",
				      c->table, "chain", c->name, "handle", (json_int_t)w->handle,
				      "expr", statements)
			  : NULL;
	return rule && !json_array_append_new(f->own, rule) ? rule : NULL;
}

/* Rules of that chain that were deleted, or replaced by others, before libnftables listed it: who goes
 * on would judge by some of the old rules and some of the new ones. */
static void check_listed(struct firewall *f, struct firewall_chain *c)
{
	for (size_t i = 0; i < c->rules; i++)
		if (!c->rule[i]) {
			c->rule[i] = f->nothing;
			c->wire->changed = true;
		}
	if (c->wire->changed && !f->source->failed) {
		report_fail(&f->source->why, EAGAIN, "changed while it was read", "chain %s %s %s",
			    c->family, c->table, c->name);
		f->source->failed = true;
	}
}

/* By libnftables. */
static void list_chain(struct firewall *f, struct firewall_chain *c)
{
	json_t *some = NULL;

	if (f->source->listed++ < FEW_CHAINS)
		some = nft_list_json(f->source->rules, "chain", c->family, c->table, c->name, NULL);
	if (some ? add_rules(f, some) : read_rest(f, &f->source->why))
		f->source->failed = true;
	json_decref(some);
}

void firewall_need(const struct firewall *firewall, const struct firewall_chain *chain)
{
	struct firewall *f = (struct firewall *)firewall;
	struct firewall_chain *c = (struct firewall_chain *)chain;

	if (c->read)
		return;
	if (read_wire(f, c))
		list_chain(f, c);
	c->read = true;
}

const json_t *firewall_rule(const struct firewall *firewall, const struct firewall_chain *chain,
			    size_t at)
{
	struct firewall *f = (struct firewall *)firewall;
	struct firewall_chain *c = (struct firewall_chain *)chain;

	if (c->rule[at] || !c->wire)
		return c->rule[at];
	c->rule[at] = put_into_json(f, c, at);
	if (!c->rule[at]) {
		list_chain(f, c);
		check_listed(f, c);
	}
	return c->rule[at];
}

const json_t *firewall_rule_by_handle(const struct firewall *firewall,
				      const struct firewall_chain *chain, uint64_t handle)
{
	for (size_t i = 0; i < chain->rules; i++) {
		const json_t *own = json_object_get(chain->rule[i], "handle");
		uint64_t at = own	    ? (uint64_t)json_integer_value(own)
			      : chain->wire ? chain->wire->rule[i].handle
					    : 0;

		if (at == handle)
			return firewall_rule(firewall, chain, i);
	}
	return NULL;
}

const struct failure *firewall_unread(const struct firewall *f)
{
	return f->source->failed ? &f->source->why : NULL;
}

/* The chains, without rules, and flow tables. */
static json_t *list_without_rules(struct nft *rules, struct failure *why)
{
	json_t *chains = nft_chains_json(rules, why);
	json_t *flowtables = chains ? nft_flowtables_json(rules, why) : NULL;

	if (flowtables && !json_array_extend(chains, flowtables)) {
		json_decref(flowtables);
		return chains;
	}
	json_decref(flowtables);
	json_decref(chains);
	return NULL;
}

static int read_objects(struct firewall *f, struct failure *why)
{
	struct source *s = f->source;

	if (census_take(&s->census, why))
		return -1;
	s->some = s->census.rules > FEW_RULES;
	f->objects = s->some ? list_without_rules(s->rules, why) : nft_dump_json(s->rules, why);
	if (!f->objects)
		return -1;
	if (!s->some)
		xtables_nft_decode(f->objects);
	xtables_legacy_add(f->objects);
	return index_all(f) ? report_fail(why, ENOMEM, "malloc", "firewall") : 0;
}

/* One list of all rules, as the kernel tells them. */
static int read_all(struct firewall *f, struct failure *why)
{
	int err = 0;

	if (f->source->some && read_wire(f, NULL))
		err = read_rest(f, why);
	for (size_t i = 0; i < f->chains; i++)
		f->chain[i].read = true;
	return err;
}

static struct firewall *make(struct nft *rules, struct failure *why)
{
	struct firewall *f = calloc(1, sizeof(*f));

	if (f)
		f->source = calloc(1, sizeof(*f->source));
	if (!f || !f->source) {
		free(f);
		report_fail(why, ENOMEM, "calloc", "firewall");
		return NULL;
	}
	f->source->rules = rules;
	f->source->wire = netlink_open(NETLINK_NETFILTER, why);
	f->own = json_array();
	f->nothing = json_pack("{s:[]}", "expr");
	if (f->source->wire && f->own && f->nothing)
		return f;
	firewall_free(f);
	return NULL;
}

struct firewall *firewall_read_some(struct nft *rules, struct failure *why)
{
	struct firewall *f = make(rules, why);

	if (!f || !read_objects(f, why))
		return f;
	firewall_free(f);
	return NULL;
}

struct firewall *firewall_read(struct nft *rules, struct failure *why)
{
	struct firewall *f = firewall_read_some(rules, why);

	if (!f || !read_all(f, why))
		return f;
	firewall_free(f);
	return NULL;
}

void firewall_free(struct firewall *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->chains; i++) {
		free_wire(&f->chain[i]);
		free(f->chain[i].rule);
		free(f->chain[i].first);
		free(f->chain[i].text);
	}
	free(f->chain);
	free(f->by_name);
	census_free(&f->source->census);
	netlink_close(f->source->wire);
	free(f->source->text);
	free(f->source);
	json_decref(f->own);
	json_decref(f->nothing);
	json_decref(f->objects);
	free(f);
}

/* --- looking up ------------------------------------------------------------------------------- */

static bool meets(const struct firewall_chain *c, sa_family_t family)
{
	return !strcmp(c->family, "inet") || !strcmp(c->family, "netdev") ||
	       !strcmp(c->family, family == AF_INET ? "ip" : "ip6");
}

bool firewall_meet(const struct firewall_chain *a, const struct firewall_chain *b,
		   sa_family_t family)
{
	return meets(a, family) && meets(b, family);
}

bool firewall_chain_is_at(const struct firewall_chain *c, const char *iif, const char *oif)
{
	static const char between[] = "\", {}=";
	const char *device = strcmp(c->hook, "egress") ? iif : oif, *end;

	if (strcmp(c->hook, "ingress") && strcmp(c->hook, "egress"))
		return true;
	if (!device || !*device || !c->devices)
		return false;
	end = c->devices + strcspn(c->devices, "\n");
	for (const char *at = c->devices; at < end; at += strspn(at, between)) {
		size_t length = strcspn(at, "\", {}=\n");

		if (length == strlen(device) && !strncmp(at, device, length))
			return true;
		at += length;
	}
	return false;
}

/* One line for each queue that has a reader; its number comes first (seq_show() of
 * nfnetlink_queue.c). */
bool firewall_queue_is_read(unsigned number)
{
	FILE *in = fopen("/proc/net/netfilter/nfnetlink_queue", "re");
	char line[160];
	bool found = false;

	while (in && !found && fgets(line, sizeof(line), in))
		found = strtoul(line, NULL, 10) == number;
	if (in)
		fclose(in);
	return found;
}

const struct firewall_chain *firewall_at_hook(const struct firewall *f, const char *hook,
					      sa_family_t family, unsigned at)
{
	for (size_t i = 0; i < f->chains; i++)
		if (!strcmp(f->chain[i].hook, hook) && meets(&f->chain[i], family) && !at--) {
			firewall_need(f, &f->chain[i]);
			return &f->chain[i];
		}
	return NULL;
}

const struct firewall_chain *firewall_target(const struct firewall *f,
					     const struct firewall_chain *from, const char *name)
{
	const struct firewall_chain *chain = find(f, from->family, from->table, name, from->legacy);

	if (chain)
		firewall_need(f, chain);
	return chain;
}

static const json_t *find_elements(const struct firewall *f, const struct firewall_chain *chain,
				   const char *name)
{
	json_t *object;
	size_t i;

	json_array_foreach(f->objects, i, object) {
		json_t *set = json_object_get(object, "set");

		if (!set)
			set = json_object_get(object, "map");
		if (set && !strcmp(json_text(set, "name"), name) &&
		    !strcmp(json_text(set, "table"), chain->table) &&
		    !strcmp(json_text(set, "family"), chain->family)) {
			/* (An empty one is listed without.) */
			if (!json_object_get(set, "elem"))
				json_object_set_new(set, "elem", json_array());
			return json_object_get(set, "elem");
		}
	}
	return NULL;
}

const json_t *firewall_elements(const struct firewall *f, const struct firewall_chain *chain,
				const char *name)
{
	static const char *const kinds[] = { "set", "map" };
	const json_t *found = find_elements(f, chain, name);

	for (size_t i = 0; f->source->some && !found && i < 2; i++) {
		json_t *some = nft_list_json(f->source->rules, kinds[i], chain->family,
					     chain->table, name, NULL);

		if (some)
			json_array_extend(f->objects, some);
		json_decref(some);
		found = find_elements(f, chain, name);
	}
	return found;
}

const json_t *firewall_object(const struct firewall *f, const char *kind, size_t *at)
{
	for (; *at < json_array_size(f->objects); ++*at) {
		const json_t *found = json_object_get(json_array_get(f->objects, *at), kind);

		if (found) {
			++*at;
			return found;
		}
	}
	return NULL;
}

size_t firewall_chains(const struct firewall *f)
{
	return f->chains;
}

const struct firewall_chain *firewall_chain(const struct firewall *f, size_t at)
{
	return &f->chain[at];
}

/* --- describing ------------------------------------------------------------------------------- */

/* The rule with that handle in nft's listing. *length is its length without the handle. */
static const char *find_line(const char *text, const struct firewall_chain *c, const char *handle,
			     int *length)
{
	const char *chain = find_chain(text, c), *end, *at;

	end = chain ? strstr(chain, "\n\t}") : NULL;
	at = end ? strstr(chain, handle) : NULL;
	if (!at || at > end)
		return NULL;
	*length = (int)(at - chain);
	while (at > chain && at[-1] != '\n')
		at--;
	*length -= (int)(at - chain);
	*length -= (int)strspn(at, "\t ");
	return at + strspn(at, "\t ");
}

const char *firewall_describe(const struct firewall *f, const struct firewall_chain *c,
			      const json_t *rule, char *buf, size_t size)
{
	char handle[32], place[160];
	const char *line = NULL;
	int length = 0;

	snprintf(place, sizeof(place), "%s %s, chain %s",
		 c->legacy ? strcmp(c->family, "ip") ? "ip6tables-legacy" : "iptables-legacy"
			   : c->family,
		 c->table, c->name);
	if (!rule) {
		snprintf(buf, size, "%s: policy %s", place, c->policy);
		return buf;
	}
	if (*json_text(rule, "text")) {
		snprintf(buf, size, "%s: `%s`", place, json_text(rule, "text"));
		return buf;
	}
	snprintf(handle, sizeof(handle), " # handle %lld\n",
		 (long long)json_integer_value(json_object_get(rule, "handle")));
	line = find_line(text_of_chain(f, c), c, handle, &length);
	snprintf(buf, size, "%s: `%.*s` (%.*s)", place, length, line ? line : "",
		 (int)strlen(handle) - 4, handle + 3);
	return buf;
}
