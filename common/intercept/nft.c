/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/nft.h"

#include "base/json_text.h"
#include "intercept/nft_scan.h"
#include "intercept/nft_text.h"
#include "intercept/spec_text.h"
#include "net/netlink.h"
#include "net/nft_message.h"
#include "net/rule_use.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TABLE	"tproxy-lock"
#define TABLES_ATTEMPTS 10 /* while the rules change */
#define LOCK_POLL_MS	20
#define LOCK_REFUSALS	3 /* in a row, without a holder: then EPERM is final */

struct nft {
	struct nft_ctx *nft;
	struct netlink *netlink; /* for what libnftables cannot do */
	bool locked;		 /* its socket owns the lock's table */
};

/* libnftables reads its tables of names, and has a socket of its own, whose buffers it enlarges.
 * #syscalls collect: openat(O_RDONLY), fstat, read, lseek, close, send, recvmsg
 * #syscalls collect: setsockopt(SOL_SOCKET, SO_SNDBUFFORCE), setsockopt(SOL_SOCKET, SO_RCVBUFFORCE)
 * #syscalls collect: getuid, geteuid, select, pselect6 */
static struct nft_ctx *open_context(struct failure *why)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);

	if (!nft || nft_ctx_buffer_output(nft) || nft_ctx_buffer_error(nft)) {
		if (nft)
			nft_ctx_free(nft);
		report_fail(why, ENOMEM, "nft_ctx_new", "libnftables");
		return NULL;
	}
	return nft;
}

/* Ask the kernel for the generation of its rule set: everybody with the right to use nf_tables may.
 * When libnftables is refused, it prints a line of its own to stderr. */
static int probe(struct netlink *channel, struct failure *why)
{
	uint32_t generation;
	int err = rule_use_generation(channel, &generation);

	if (!err)
		return 0;
	report_fail(why, -err, "nft", "rules of this network namespace");
	if (err != -EPERM)
		report_hint(why, "does this kernel have nf_tables?");
	return -1;
}

struct nft *nft_open(struct failure *why)
{
	struct nft *rules = calloc(1, sizeof(*rules));

	if (!rules) {
		report_fail(why, ENOMEM, "calloc", "libnftables");
		return NULL;
	}
	rules->netlink = netlink_open(NETLINK_NETFILTER, why);
	if (rules->netlink && !probe(rules->netlink, why))
		rules->nft = open_context(why);
	if (rules->nft)
		return rules;
	nft_close(rules);
	return NULL;
}

void nft_close(struct nft *rules)
{
	if (!rules)
		return;
	nft_unlock(rules);
	if (rules->nft)
		nft_ctx_free(rules->nft);
	netlink_close(rules->netlink);
	free(rules);
}

/* --- one command and libnftables' answer to it ------------------------------------------------ */

/* Errors from the kernel that this program distinguishes. libnftables reports them only as text. */
static int errno_in(const char *message)
{
	static const int known[] = { EPERM,	 ENOENT, EEXIST, EBUSY,	 EINVAL,
				     EOPNOTSUPP, ENOMEM, ERANGE, EMFILE, EAFNOSUPPORT,
				     ENOSPC,	 EINTR,	 ENOBUFS };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strstr(message, strerror(known[i])))
			return known[i];
	return 0;
}

/* The missing module of a kernel that does not know one of our expressions. */
static const char *missing_module(const char *rule)
{
	static const struct {
		const char *word, *module;
	} modules[] = {
		{ "tproxy", "nft_tproxy" }, { "socket", "nft_socket" },
		{ "fib", "nft_fib_inet" },  { "reject", "nft_reject_inet" },
		{ "ct ", "nft_ct" },
	};

	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules); i++)
		if (strstr(rule, modules[i].word))
			return modules[i].module;
	return NULL;
}

/* libnftables writes `FILE:LINE:COL: Error: REASON`, the offending line, and a line of carets. Make
 * one line of the first such group. */
static int condense(const char *text, const char *what, struct failure *why)
{
	const char *reason = strstr(text, "Error: "), *rule;
	int reason_length, rule_length = 0, err;
	char first[256];

	reason = reason ? reason + strlen("Error: ") : *text ? text : "unknown error";
	reason_length = (int)strcspn(reason, "\n");
	rule = reason + reason_length;
	rule += strspn(rule, "\n\t ");
	rule_length = (int)strcspn(rule, "\n");
	snprintf(first, sizeof(first), "%.*s", reason_length, reason);
	err = errno_in(first);
	report_fail(why, err, "nft", "%s", what);
	if (!err || rule_length)
		report_detail(why, "%s%s%.*s", err ? "" : first, !err && rule_length ? ": " : "",
			      rule_length > 120 ? 120 : rule_length, rule);
	if (err == ENOENT && rule_length && missing_module(rule))
		report_hint(why, "does this kernel have %s?", missing_module(rule));
	return -1;
}

static int command(struct nft_ctx *nft, const char *text, const char *what, struct failure *why)
{
	if (!nft_run_cmd_from_buffer(nft, text))
		return 0;
	nft_ctx_get_output_buffer(nft);
	return condense(nft_ctx_get_error_buffer(nft), what, why);
}

/* The last transaction under the lock also releases it, if it is held: whenever a transaction
 * deletes something, the kernel makes whoever closes its socket wait for all processors. */
static int last_command(struct nft *rules, const char *text, const char *what, struct failure *why)
{
	char *both;
	int err;

	if (!rules->locked)
		return command(rules->nft, text, what, why);
	if (asprintf(&both, "%sdelete table inet " LOCK_TABLE "\n", text) < 0)
		return report_fail(why, ENOMEM, "asprintf", "%s", what);
	err = command(rules->nft, both, what, why);
	rules->locked = err;
	free(both);
	return err;
}

int nft_check(struct nft *rules, const char *text, struct failure *why)
{
	int err;

	nft_ctx_set_dry_run(rules->nft, true);
	err = command(rules->nft, text, "checking the rules", why);
	nft_ctx_set_dry_run(rules->nft, false);
	return err;
}

int nft_load(struct nft *rules, const char *text, struct failure *why)
{
	return command(rules->nft, text, "loading the rules", why);
}

/* Run a listing; the result belongs to libnftables and is valid until the next command. */
static const char *listing(struct nft *rules, const char *text, unsigned flags, struct failure *why)
{
	int err;

	nft_ctx_output_set_flags(rules->nft, flags);
	err = command(rules->nft, text, text, why);
	nft_ctx_output_set_flags(rules->nft, 0);
	return err ? NULL : nft_ctx_get_output_buffer(rules->nft);
}

static json_t *listing_objects(struct nft *rules, const char *text, unsigned flags,
			       struct failure *why)
{
	const char *out = listing(rules, text, NFT_CTX_OUTPUT_JSON | flags, why);
	json_t *root, *list;

	if (!out)
		return NULL;
	root = json_loads(out, 0, NULL);
	list = json_incref(json_object_get(root, "nftables"));
	json_decref(root);
	if (json_is_array(list))
		return list;
	/* libnftables 1.0.6 writes broken JSON for a table with `flags owner`. Such a table is not
	 * ours, and nothing of it can be read. */
	json_decref(list);
	list = json_array();
	if (!list)
		report_fail(why, ENOMEM, "json_array", "%s", text);
	return list;
}

/* --- digests of what was read back ------------------------------------------------------------ */

/* One part as read back: its name and the digest of everything that does not change by itself. */
struct digest {
	char name[sizeof(((struct nft_part *)0)->name)];
	uint64_t hash;
	bool checksummed;
};

/* A table while it is being read. */
struct reading {
	struct nft_state *state;
	struct digest digest[NFT_PARTS_MAX];
	unsigned digests;
	char spec[INTERCEPT_TEXT_MAX];
	char checksums[NFT_PARTS_MAX * 80];
	bool odd_elements[INTERCEPT_LISTS];
};

/* Add an object to the digest of its part, rules in order. */
static void digest_add(struct reading *r, const char *kind, const char *name, uint64_t hash)
{
	char full[sizeof(r->digest->name)];
	struct digest *digest = r->digest;

	snprintf(full, sizeof(full), "%s%s%s", kind, *name ? "." : "", name);
	while (digest < r->digest + r->digests && strcmp(digest->name, full))
		digest++;
	if (digest == r->digest + NFT_PARTS_MAX)
		return;
	if (digest == r->digest + r->digests) {
		r->digests++;
		strcpy(digest->name, full);
	}
	digest->hash = (digest->hash ^ hash) * UINT64_C(0x100000001b3);
}

static uint64_t number_of(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void append(char *buf, size_t size, const char *text)
{
	size_t used = strlen(buf);

	snprintf(buf + used, size - used, "%s", text);
}

static void read_rule(struct reading *r, const struct nft_scan_object *rule)
{
	if (!strcmp(rule->name, NFT_TEXT_CHECKSUM)) {
		append(r->checksums, sizeof(r->checksums), rule->comment);
		return;
	}
	if (!strcmp(rule->name, NFT_TEXT_SPEC))
		append(r->spec, sizeof(r->spec), rule->comment);
	digest_add(r, "chain", rule->name, rule->digest);
}

static void read_chain(struct reading *r, const struct nft_scan_object *chain)
{
	if (!strcmp(chain->name, NFT_TEXT_ENDING))
		r->state->ending = true;
	else if (strcmp(chain->name, NFT_TEXT_CHECKSUM))
		digest_add(r, "chain", chain->name, chain->digest);
}

/* The sets of `down` come and go with it. */
static void read_set(struct reading *r, const struct nft_scan_object *set)
{
	if (strncmp(set->name, "fresh", 5))
		digest_add(r, "set", set->name, set->digest);
}

static void read_counter(struct reading *r, const struct nft_scan_object *counter)
{
	struct nft_state *state = r->state;

	if (state->counters < NFT_COUNTERS_MAX) {
		struct nft_counter *c = &state->counter[state->counters++];

		snprintf(c->name, sizeof(c->name), "%s", counter->name);
		c->packets = counter->packets;
		c->bytes = counter->bytes;
	}
	digest_add(r, "counters", "", counter->digest);
}

static void read_object(const struct nft_scan_object *object, void *context)
{
	static void (*const readers[])(struct reading * r, const struct nft_scan_object *object) = {
		[NFT_SCAN_CHAIN] = read_chain,
		[NFT_SCAN_SET] = read_set,
		[NFT_SCAN_COUNTER] = read_counter,
		[NFT_SCAN_RULE] = read_rule,
	};

	readers[object->kind](context, object);
}

static void forget(void *context)
{
	struct reading *r = context;

	r->digests = 0;
	memset(r->digest, 0, sizeof(r->digest));
	r->spec[0] = r->checksums[0] = '\0';
	r->state->ending = false;
	r->state->counters = 0;
}

/* --- sets' elements --------------------------------------------------------------------------- */

/* Which list a set of ours contains; INTERCEPT_LISTS for another set. is_alternate may be NULL. */
static int list_of_set(const char *name, bool *is_alternate)
{
	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		size_t length = strlen(intercept_lists[id].name);
		const char *rest = name + length;

		if (strncmp(name, intercept_lists[id].name, length))
			continue;
		if (!intercept_lists[id].is_ports && *rest != '4' && *rest != '6')
			continue;
		rest += !intercept_lists[id].is_ports;
		if (is_alternate)
			*is_alternate = *rest;
		if (!*rest || !strcmp(rest, NFT_TEXT_ALTERNATE))
			return id;
	}
	return INTERCEPT_LISTS;
}

static bool add_port(struct intercept *spec, int id, const json_t *element)
{
	const json_t *range = json_object_get(element, "range");
	json_int_t first = json_integer_value(range ? json_array_get(range, 0) : element);
	json_int_t last = range ? json_integer_value(json_array_get(range, 1)) : first;
	const struct port_range one = { (uint16_t)first, (uint16_t)last };

	return first >= 0 && first <= last && last <= UINT16_MAX &&
	       !endpoint_ports_add(intercept_ports(spec, (enum intercept_list_id)id), &one, NULL);
}

static bool add_cidr(struct intercept *spec, int id, const json_t *element)
{
	const json_t *prefix = json_object_get(element, "prefix");
	char text[ENDPOINT_TEXT_MAX];
	struct cidr cidr;

	if (prefix)
		snprintf(text, sizeof(text), "%s/%u", json_text(prefix, "addr"),
			 (unsigned)number_of(prefix, "len"));
	else
		snprintf(text, sizeof(text), "%s",
			 json_is_string(element) ? json_string_value(element) : "");
	return !endpoint_parse_cidr(text, &cidr, NULL) &&
	       !endpoint_cidr_add(intercept_cidrs(spec, (enum intercept_list_id)id), &cidr, NULL);
}

/* An element with a timeout is an object, a permanent one a bare word. */
static void read_lease(struct nft_state *state, const json_t *set)
{
	const json_t *first = json_array_get(json_object_get(set, "elem"), 0);
	const json_t *element = json_object_get(first, "elem");

	state->lease = !first ? LEASE_EXPIRED : element ? LEASE_PENDING : LEASE_CONFIRMED;
	state->lease_seconds = number_of(element, "expires");
}

static void read_elements(struct reading *r, const char *name, json_t *elements)
{
	int id = list_of_set(name, NULL);
	json_t *element;
	size_t i;

	json_array_foreach(elements, i, element)
		if (!(intercept_lists[id].is_ports ? add_port(&r->state->spec, id, element)
						   : add_cidr(&r->state->spec, id, element)))
			r->odd_elements[id] = true;
}

/* List one set with its elements. Uses numbers, so that no protocol name has to be looked up, and
 * none can change. A set that was deleted meanwhile has none. */
static int read_contents_of(struct nft *rules, struct reading *r, const char *table,
			    const char *name, struct failure *why)
{
	char text[NFT_TEXT_TABLE_MAX + 64];
	json_t *list, *object;
	size_t i;

	snprintf(text, sizeof(text), "list set inet " NFT_TEXT_PREFIX "%s %s", table, name);
	list = listing_objects(rules, text, NFT_CTX_OUTPUT_NUMERIC_ALL, why);
	if (!list)
		return why->err == ENOENT ? 0 : -1;
	json_array_foreach(list, i, object) {
		json_t *set = json_object_get(object, "set");

		if (!set)
			continue;
		if (!strcmp(name, NFT_TEXT_LEASE))
			read_lease(r->state, set);
		else
			read_elements(r, name, json_object_get(set, "elem"));
	}
	json_decref(list);
	return 0;
}

/* Read the sets that contain the user's lists; those that remember flows may be large, and
 * change. */
static int read_contents(struct nft *rules, struct reading *r, const char *table,
			 struct failure *why)
{
	for (unsigned i = 0; i < r->digests; i++) {
		const char *name = r->digest[i].name + strlen("set.");
		struct failure reason = { 0 };

		if (strncmp(r->digest[i].name, "set.", 4) ||
		    (strcmp(name, NFT_TEXT_LEASE) && list_of_set(name, NULL) == INTERCEPT_LISTS))
			continue;
		if (read_contents_of(rules, r, table, name, &reason)) {
			*why = reason;
			return -1;
		}
	}
	return 0;
}

/* --- comparing with the checksums --------------------------------------------------------- */

static struct nft_part *add_part(struct nft_state *state, const char *name,
				 enum nft_verdict verdict)
{
	struct nft_part *part = &state->part[state->parts];

	if (state->parts == NFT_PARTS_MAX)
		return NULL;
	snprintf(part->name, sizeof(part->name), "%s", name);
	if (strchr(part->name, '.'))
		*strchr(part->name, '.') = ':';
	part->verdict = verdict;
	state->parts++;
	return part;
}

/* One word of the checksums, `chain.divert=HASH`. */
static void compare_word(struct reading *r, char *token)
{
	char *hash = strchr(token, '=');

	if (!hash)
		return;
	*hash++ = '\0';
	for (unsigned i = 0; i < r->digests; i++) {
		struct digest *digest = &r->digest[i];

		if (strcmp(digest->name, token))
			continue;
		digest->checksummed = true;
		add_part(r->state, token,
			 digest->hash == strtoull(hash, NULL, 16) ? PART_PRESENT : PART_CHANGED);
		return;
	}
	add_part(r->state, token, PART_MISSING);
}

static void compare_checksums(struct reading *r)
{
	char *rest = r->checksums, *token;

	r->state->checksummed = *r->checksums;
	while ((token = strsep(&rest, " ")))
		if (*token)
			compare_word(r, token);
	/* A part that was missing when the checksums were taken was added by somebody else; without
	 * checksums, as after `plan | nft -f -`, that is unknown. */
	for (unsigned i = 0; i < r->digests; i++)
		if (!r->digest[i].checksummed)
			add_part(r->state, r->digest[i].name,
				 r->state->checksummed ? PART_CHANGED : PART_PRESENT);
}

static void compare_contents(struct reading *r)
{
	struct nft_state *state = r->state;

	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		struct intercept_digest found;

		if (intercept_lists[id].is_ports)
			endpoint_ports_merge(intercept_ports(&state->spec, id));
		else
			endpoint_cidr_merge(intercept_cidrs(&state->spec, id));
		found = intercept_digest_of(&state->spec, id);
		if (!r->odd_elements[id] && intercept_digest_equal(&found, &state->spec.digest[id]))
			continue;
		for (unsigned i = 0; i < state->parts; i++)
			if (!strncmp(state->part[i].name, "set:", 4) &&
			    list_of_set(state->part[i].name + 4, NULL) == id &&
			    state->part[i].verdict == PART_PRESENT)
				state->part[i].verdict = PART_CHANGED;
	}
}

/* --- reading back ----------------------------------------------------------------------------- */

/* Which names the lists' sets have: not part of the text, but determined by the sets found. */
static void read_alternates(struct reading *r)
{
	bool is_alternate = false;

	for (unsigned i = 0; i < r->digests; i++) {
		int id = strncmp(r->digest[i].name, "set.", 4)
				 ? INTERCEPT_LISTS
				 : list_of_set(r->digest[i].name + 4, &is_alternate);

		if (id < INTERCEPT_LISTS)
			r->state->spec.alternate[id] = is_alternate;
	}
}

/* A rule knows a control group by its number: a recreated group has a different one. */
static void add_groups(struct reading *r, const struct intercept_groups *groups)
{
	for (unsigned i = 0; i < groups->count; i++)
		digest_add(r, "chain", "local", intercept_group_number(groups->at[i]));
}

static int read_back(struct nft *rules, const char *name, struct reading *r, struct failure *why)
{
	char table[NFT_TEXT_TABLE_MAX];
	struct failure reason = { 0 };
	struct nft_scan_found found;

	intercept_init(&r->state->spec);
	snprintf(table, sizeof(table), NFT_TEXT_PREFIX "%s", name);
	if (nft_scan_table(rules->netlink, table, &found, read_object, forget, r, why))
		return -1;
	r->state->handle = found.handle;
	r->state->dormant = found.dormant;
	r->state->present = found.handle;
	if (r->state->present)
		r->state->readable = !spec_text_parse(r->spec, &r->state->spec, &reason);
	if (reason.err == ENOMEM)
		return report_fail(why, ENOMEM, "malloc", "specification of table %s", table);
	read_alternates(r);
	add_groups(r, &r->state->spec.cgroup);
	add_groups(r, &r->state->spec.not_cgroup);
	return 0;
}

int nft_read(struct nft *rules, const char *name, bool contents, struct nft_state *state,
	     struct failure *why)
{
	struct reading *r = calloc(1, sizeof(*r));
	int err;

	memset(state, 0, sizeof(*state));
	if (!r)
		return report_fail(why, ENOMEM, "calloc", "reading rules");
	r->state = state;
	err = read_back(rules, name, r, why);
	if (!err && contents)
		err = read_contents(rules, r, name, why);
	if (!err && state->present) {
		compare_checksums(r);
		if (contents)
			compare_contents(r);
	}
	free(r);
	return err;
}

void nft_state_free(struct nft_state *state)
{
	intercept_free(&state->spec);
}

unsigned nft_drift(const struct nft_state *state, char *buf, size_t size)
{
	unsigned count = 0;
	size_t used = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < state->parts; i++) {
		const struct nft_part *part = &state->part[i];

		if (part->verdict == PART_PRESENT)
			continue;
		used += (size_t)snprintf(buf + used, size - used, "%s%s %s", count++ ? ", " : "",
					 part->name,
					 part->verdict == PART_MISSING ? "missing" : "changed");
		if (used >= size)
			used = size - 1;
	}
	return count;
}

bool nft_intact(const struct nft_state *state)
{
	for (unsigned i = 0; i < state->parts; i++)
		if (state->part[i].verdict != PART_PRESENT)
			return false;
	return state->present && state->readable && state->checksummed && !state->ending &&
	       !state->dormant;
}

/* `chain.divert=0123456789abcdef ...` for all parts in their current state. */
static void write_checksums(const struct reading *r, char *buf, size_t size)
{
	char item[sizeof(r->digest->name) + 20];

	buf[0] = '\0';
	for (unsigned i = 0; i < r->digests; i++) {
		snprintf(item, sizeof(item), "%s%s=%016" PRIx64, i ? " " : "", r->digest[i].name,
			 r->digest[i].hash);
		append(buf, size, item);
	}
}

int nft_checksum(struct nft *rules, const struct intercept *spec, struct failure *why)
{
	struct nft_state state = { 0 };
	struct reading *r = calloc(1, sizeof(*r));
	char asked[INTERCEPT_TEXT_MAX], *text = NULL;
	int err = -1;

	if (!r)
		return report_fail(why, ENOMEM, "calloc", "sealing rules");
	r->state = &state;
	err = read_back(rules, spec->name, r, why);
	if (!err && (!state.readable || strcmp(r->spec, spec_text(spec, asked))))
		err = report_refuse(why, "what was installed does not read back as it was written; "
					 "is another program changing the rules?");
	if (!err) {
		write_checksums(r, r->checksums, sizeof(r->checksums));
		text = nft_text_notes(spec->name, NFT_TEXT_CHECKSUM, r->checksums, why);
		err = text ? last_command(rules, text, "sealing the rules", why) : -1;
	}
	free(text);
	nft_state_free(&state);
	free(r);
	return err;
}

/* --- ending and removing ---------------------------------------------------------------------- */

int nft_end_interception(struct nft *rules, const struct intercept *spec, uint64_t ms,
			 struct failure *why)
{
	char *text = nft_text_ending(spec, ms, why);
	int err = text ? command(rules->nft, text, "ending interception", why) : -1;

	free(text);
	return err;
}

int nft_finish(struct nft *rules, const char *name, const struct nft_text_flow *flow, size_t count,
	       struct failure *why)
{
	char *text = count ? nft_text_finish(name, flow, count, why) : NULL;
	int err = !count ? 0 : text ? command(rules->nft, text, "ending connections", why) : -1;

	free(text);
	return err;
}

int nft_confirm(struct nft *rules, const char *name, struct failure *why)
{
	char *text = nft_text_confirmation(name, why);
	int err = text ? command(rules->nft, text, "confirming", why) : -1;

	free(text);
	return err;
}

int nft_remove(struct nft *rules, const char *name, struct failure *why)
{
	char text[4 * NFT_TEXT_TABLE_MAX];

	snprintf(text, sizeof(text),
		 "table inet " NFT_TEXT_PREFIX "%s { chain " NFT_REMOVAL_CHAIN
		 " { }; }\ndelete table inet " NFT_TEXT_PREFIX "%s\n",
		 name, name);
	return last_command(rules, text, "removing the rules", why);
}

char *nft_save(struct nft *rules, const char *name, struct failure *why)
{
	char text[NFT_TEXT_TABLE_MAX + 32];
	const char *out;
	char *copy;

	snprintf(text, sizeof(text), "list table inet " NFT_TEXT_PREFIX "%s", name);
	out = listing(rules, text, 0, why);
	if (!out) {
		if (why->err == ENOENT)
			memset(why, 0, sizeof(*why));
		return NULL;
	}
	copy = strdup(out);
	if (!copy)
		report_fail(why, ENOMEM, "strdup", "saving rules");
	return copy;
}

int nft_restore(struct nft *rules, const char *name, const char *saved, struct failure *why)
{
	char *text;
	int err;

	if (asprintf(&text,
		     "table inet " NFT_TEXT_PREFIX "%s\ndelete table inet " NFT_TEXT_PREFIX
		     "%s\n%s",
		     name, name, saved ? saved : "") < 0)
		return report_fail(why, ENOMEM, "asprintf", "restoring rules");
	err = command(rules->nft, text, "restoring the rules", why);
	free(text);
	return err;
}

/* --- other tables ----------------------------------------------------------------------------- */

/* Names of tables, as reported by the kernel. */
struct tables {
	char (*at)[NFT_NAME_MAXLEN];
	size_t count;
	bool owned; /* one of them has an owner */
	bool failed;
};

static void read_table(struct nlmsghdr *message, void *context)
{
	struct tables *t = context;
	struct nlattr *a[NFTA_TABLE_MAX + 1];
	char(*grown)[NFT_NAME_MAXLEN];

	if (nlmsg_parse(message, sizeof(struct nfgenmsg), a, NFTA_TABLE_MAX, NULL) ||
	    !a[NFTA_TABLE_NAME])
		return;
	t->owned |= a[NFTA_TABLE_OWNER] != NULL;
	if (((struct nfgenmsg *)nlmsg_data(message))->nfgen_family != NFPROTO_INET)
		return;
	grown = realloc(t->at, (t->count + 1) * sizeof(*grown));
	if (!grown) {
		t->failed = true;
		return;
	}
	t->at = grown;
	nla_strlcpy(t->at[t->count++], a[NFTA_TABLE_NAME], NFT_NAME_MAXLEN);
}

/* All tables of family inet, and whether any table has an owner. The caller frees tables->at. */
static int read_tables(struct nft *rules, struct tables *t, struct failure *why)
{
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < TABLES_ATTEMPTS; i++) {
		free(t->at);
		*t = (struct tables){ 0 };
		err = netlink_ask(rules->netlink,
				  nft_message(NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_UNSPEC),
				  read_table, t);
	}
	if (t->failed)
		err = -ENOMEM;
	return err ? report_fail(why, -err, "nft", "list of tables") : 0;
}

int nft_each(struct nft *rules, nft_visitor *visit, void *context, struct failure *why)
{
	static const char prefix[] = NFT_TEXT_PREFIX;
	struct tables tables = { 0 };
	int result = read_tables(rules, &tables, why);

	for (size_t i = 0; !result && i < tables.count; i++) {
		const char *name = tables.at[i] + sizeof(prefix) - 1;

		/* A table whose name no instance can have belongs to somebody else. */
		if (!strncmp(tables.at[i], prefix, sizeof(prefix) - 1) &&
		    !intercept_check_name(name, NULL))
			result = visit(name, context);
	}
	free(tables.at);
	return result;
}

const char *nft_family_name(int family)
{
	return family == NFPROTO_IPV4	  ? "ip"
	       : family == NFPROTO_IPV6	  ? "ip6"
	       : family == NFPROTO_INET	  ? "inet"
	       : family == NFPROTO_ARP	  ? "arp"
	       : family == NFPROTO_BRIDGE ? "bridge"
					  : "netdev";
}

int nft_family_number(const char *name)
{
	static const int families[] = { NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET, NFPROTO_ARP,
					NFPROTO_BRIDGE };

	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
		if (!strcmp(nft_family_name(families[i]), name))
			return families[i];
	return NFPROTO_NETDEV;
}

/* `list chain inet filter input`; iptables-nft calls chains as its users like. */
static int put_list(char command[256], const char *kind, const char *family, const char *table,
		    const char *name, struct failure *why)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "/_-.";
	int length = snprintf(command, 256, "list %s %s %s %s", kind, family, table, name);

	if (length < 256 && !table[strspn(table, plain)] && !name[strspn(name, plain)])
		return 0;
	return report_refuse(why, "nft may take its name for something else");
}

json_t *nft_list_json(struct nft *rules, const char *kind, const char *family, const char *table,
		      const char *name, struct failure *why)
{
	char command[256];

	if (put_list(command, kind, family, table, name, why))
		return NULL;
	return listing_objects(rules, command, 0, why);
}

json_t *nft_chains_json(struct nft *rules, struct failure *why)
{
	return listing_objects(rules, "list chains", 0, why);
}

json_t *nft_flowtables_json(struct nft *rules, struct failure *why)
{
	return listing_objects(rules, "list flowtables", 0, why);
}

static char *copy_listing(struct nft *rules, const char *command, struct failure *why)
{
	const char *out = listing(
		rules, command,
		NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_TERSE | NFT_CTX_OUTPUT_STATELESS, why);
	char *copy = out ? strdup(out) : NULL;

	if (out && !copy)
		report_fail(why, ENOMEM, "strdup", "list of rules");
	return copy;
}

char *nft_list_text(struct nft *rules, const char *kind, const char *family, const char *table,
		    const char *name, struct failure *why)
{
	char command[256];

	if (put_list(command, kind, family, table, name, why))
		return NULL;
	return copy_listing(rules, command, why);
}

char *nft_dump_text(struct nft *rules, struct failure *why)
{
	return copy_listing(rules, "list ruleset", why);
}

/* Append the objects of a listing; one that fails (a chain deleted meanwhile) has none. */
static void extend_by(struct nft *rules, json_t *all, const char *command_text)
{
	json_t *some = listing_objects(rules, command_text, 0, NULL);

	if (some)
		json_array_extend(all, some);
	json_decref(some);
}

/* Returns what follows the word. (sscanf() would measure the whole text for each.) */
static const char *copy_word(const char *text, char *word, size_t size)
{
	size_t length = strcspn(text, " \n{");

	snprintf(word, size, "%.*s", (int)length, text);
	return text + length;
}

/* List each chain separately, so that no table object is created. */
static json_t *dump_by_chains(struct nft *rules, const char *text)
{
	json_t *all = json_array();
	char family[8] = "", table[96] = "", chain[256], command_text[256];

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, "table ", 6)) {
			line = copy_word(line + 6, family, sizeof(family));
			line = copy_word(line + 1, table, sizeof(table));
		}
		if (strncmp(line, "\tchain ", 7))
			continue;
		line = copy_word(line + 7, chain, sizeof(chain));
		if (!put_list(command_text, "chain", family, table, chain, NULL))
			extend_by(rules, all, command_text);
	}
	extend_by(rules, all, "list sets");
	extend_by(rules, all, "list maps");
	return all;
}

/* libnftables 1.0.6 uses freed memory, and writes broken JSON, when it prints a table with a flag
 * (`flags owner`). */
json_t *nft_dump_json(struct nft *rules, struct failure *why)
{
	struct tables tables = { 0 };
	json_t *all = NULL;
	char *text;

	if (read_tables(rules, &tables, why))
		return NULL;
	free(tables.at);
	if (!tables.owned)
		return listing_objects(rules, "list ruleset", NFT_CTX_OUTPUT_STATELESS, why);
	text = nft_dump_text(rules, why);
	if (text)
		all = dump_by_chains(rules, text);
	free(text);
	return all;
}

bool nft_has_chain(struct nft *rules, uint8_t family, const char *table, const char *chain)
{
	struct nl_msg *message = nft_message(NFT_MSG_GETCHAIN, 0, family);

	if (!message || nla_put_string(message, NFTA_CHAIN_TABLE, table) ||
	    nla_put_string(message, NFTA_CHAIN_NAME, chain)) {
		nlmsg_free(message);
		return false;
	}
	return !netlink_ask(rules->netlink, message, NULL, NULL);
}

/* --- the lock --------------------------------------------------------------------------------- */

enum lock_state { LOCK_FREE, LOCK_HELD, LOCK_STALE };

/* Who holds it: the only chain of its table is named after the process. */
static enum lock_state lock_look(struct nft *rules, long *pid)
{
	const char *out = listing(rules, "list table inet " LOCK_TABLE, 0, NULL), *chain;

	if (!out)
		return LOCK_FREE;
	chain = strstr(out, "chain pid-");
	*pid = chain ? strtol(chain + strlen("chain pid-"), NULL, 10) : 0;
	return strstr(out, "flags owner") ? LOCK_HELD : LOCK_STALE;
}

static int lock_try(struct nft *rules, struct failure *why)
{
	char text[160];

	snprintf(text, sizeof(text),
		 "create table inet " LOCK_TABLE " { flags owner; }\n"
		 "add chain inet " LOCK_TABLE " pid-%ld\n",
		 (long)getpid());
	return command(rules->nft, text, "taking the lock", why);
}

int nft_lock(struct nft *rules, uint64_t ms, struct failure *why)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_MS * 1000000L };
	unsigned refused = 0;
	long pid = 0;

	for (uint64_t waited = 0;; waited += LOCK_POLL_MS) {
		enum lock_state state;

		if (!lock_try(rules, why)) {
			rules->locked = true;
			return 0;
		}
		/* A lock of another process gives EPERM, one put back by a restored ruleset
		 * EEXIST. */
		if (why->err != EPERM && why->err != EEXIST)
			return -1;
		state = lock_look(rules, &pid);
		if (state == LOCK_STALE &&
		    command(rules->nft, "delete table inet " LOCK_TABLE, "stale lock", why))
			return -1;
		/* Refused although nobody holds it: the holder may have gone between the two
		 * questions; if that repeats, we lack a capability. */
		refused = state == LOCK_FREE && why->err == EPERM ? refused + 1 : 0;
		if (refused == LOCK_REFUSALS)
			return -1;
		if (waited >= ms)
			break;
		nanosleep(&pause, NULL);
	}
	report_fail(why, EBUSY, "lock", "nft table inet " LOCK_TABLE);
	return report_detail(
		why, "another tproxy-setup (pid %ld) is running in this network namespace", pid);
}

bool nft_is_locked(struct nft *rules)
{
	long pid;

	return !rules->locked && lock_look(rules, &pid) == LOCK_HELD;
}

/* The table would go away with the socket, but then the kernel makes close() wait for all
 * processors. */
void nft_unlock(struct nft *rules)
{
	if (rules->locked)
		command(rules->nft, "delete table inet " LOCK_TABLE, "releasing the lock", NULL);
	rules->locked = false;
}
