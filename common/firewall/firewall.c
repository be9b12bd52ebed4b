/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/firewall.h"

#include "base/json_text.h"
#include "firewall/census.h"
#include "firewall/xtables_legacy.h"
#include "firewall/xtables_nft.h"
#include "intercept/nft_text.h"
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where rules are read from, on request. All as printed by nft, with handles, take as long as
 * everything else; so do not print more than a chain, if nft takes its name. */
struct source {
	struct nft *rules;
	char *text;	    /* of all rules; NULL: not yet */
	bool some;	    /* chains are read when they are needed */
	struct failure why; /* why one could not be */
	bool failed;
	struct census census;
};

/* Up to so many rules are read at once: asking for a chain takes as long as some of its rules do. */
#define FEW_RULES 50

struct firewall {
	json_t *objects; /* array: table, chain, rule, set, map, flowtable */
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

	if (c->rules & (c->rules - 1))
		return 0;
	rule = realloc(c->rule, room * sizeof(*rule));
	if (rule)
		c->rule = rule;
	first = realloc(c->first, room * sizeof(*first));
	if (first)
		c->first = first;
	return rule && first ? 0 : -1;
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

/* --- reading ---------------------------------------------------------------------------------- */

static bool is_read(const struct firewall *f, const json_t *rule)
{
	const struct firewall_chain *c = find(f, json_text(rule, "family"),
					      json_text(rule, "table"), json_text(rule, "chain"),
					      false);

	return !c || c->read;
}

/* Take over the rules of these objects, which then live as long as the firewall, into the chains
 * that have none yet. */
static int add_rules(struct firewall *f, json_t *objects)
{
	json_t *object, *rule;
	int err = 0;
	size_t i;

	xtables_nft_decode(objects);
	json_array_foreach(objects, i, object) {
		rule = json_object_get(object, "rule");
		if (rule && !is_ours(rule) && !is_read(f, rule))
			err |= index_rule(f, rule);
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

void firewall_need(const struct firewall *firewall, const struct firewall_chain *chain)
{
	struct firewall *f = (struct firewall *)firewall;
	struct firewall_chain *c = (struct firewall_chain *)chain;
	json_t *some;

	if (c->read)
		return;
	some = nft_list_json(f->source->rules, "chain", c->family, c->table, c->name, NULL);
	if (some ? add_rules(f, some) : read_rest(f, &f->source->why))
		f->source->failed = true;
	c->read = true;
	json_decref(some);
}

const struct failure *firewall_unread(const struct firewall *f)
{
	return f->source->failed ? &f->source->why : NULL;
}

static int read_objects(struct firewall *f, struct failure *why)
{
	struct source *s = f->source;

	if (census_take(&s->census, why))
		return -1;
	s->some = s->some && s->census.rules > FEW_RULES;
	f->objects = s->some ? nft_chains_json(s->rules, why) : nft_dump_json(s->rules, why);
	if (!f->objects)
		return -1;
	if (!s->some)
		xtables_nft_decode(f->objects);
	xtables_legacy_add(f->objects);
	return index_all(f) ? report_fail(why, ENOMEM, "malloc", "firewall") : 0;
}

static struct firewall *read_from(struct nft *rules, bool some, struct failure *why)
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
	f->source->some = some;
	if (!read_objects(f, why))
		return f;
	firewall_free(f);
	return NULL;
}

struct firewall *firewall_read(struct nft *rules, struct failure *why)
{
	return read_from(rules, false, why);
}

struct firewall *firewall_read_some(struct nft *rules, struct failure *why)
{
	return read_from(rules, true, why);
}

void firewall_free(struct firewall *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->chains; i++) {
		free(f->chain[i].rule);
		free(f->chain[i].first);
		free(f->chain[i].text);
	}
	free(f->chain);
	free(f->by_name);
	census_free(&f->source->census);
	free(f->source->text);
	free(f->source);
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
