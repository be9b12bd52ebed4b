/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/status.h"

#include "base/plain.h"
#include "base/record.h"
#include "base/screen.h"
#include "firewall/drift.h"
#include "intercept/field.h"
#include "intercept/names.h"
#include "net/listening.h"
#include "net/sockowner.h"
#include "tproxy-setup/spec_json.h"
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A list in a line is truncated to this length. */
#define LIST_SHOWN 48

#define LINE_MAX_SIZE 1024

struct status {
	const struct status_question *question;
	struct record_table table;
	bool well; /* so far */
};

/* --- a line for each instance ----------------------------------------------------------------- */

struct line {
	char text[LINE_MAX_SIZE];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *l, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(l->text + l->used, sizeof(l->text) - l->used, format, arguments);
	va_end(arguments);
	l->used += length > 0 ? (size_t)length : 0;
	if (l->used >= sizeof(l->text))
		l->used = sizeof(l->text) - 1;
}

static void put_list(struct line *l, const struct intercept *spec, enum intercept_list_id id,
		     const char *words)
{
	char text[LIST_SHOWN];

	if (intercept_digest_of(spec, id).count)
		put(l, " %s%s%s", words, *words ? " " : "",
		    intercept_list_text(spec, id, text, sizeof(text)));
}

/* Print a field with its name, if it has a value. */
static void put_field(struct line *l, const struct intercept *spec, const char *name,
		      const char *words)
{
	static const struct intercept nothing;
	const struct field *field = field_find(name);
	char text[FIELD_VALUE_MAX];

	if (field && !field_equal(field, spec, &nothing))
		put(l, " %s %.*s", words, LIST_SHOWN, field_show(field, spec, text));
}

static void put_local(struct line *l, const struct intercept *spec)
{
	put(l, ", and of this host");
	put_field(l, spec, "uid", "uid");
	put_field(l, spec, "gid", "gid");
	put_field(l, spec, "cgroup", "cgroup");
	put_field(l, spec, "not-uid", "not uid");
	put_field(l, spec, "not-gid", "not gid");
	put_field(l, spec, "not-cgroup", "not cgroup");
}

static void put_predicate(struct line *l, const struct intercept *spec)
{
	put(l, "%s%s%s%s", spec->divert_only ? "divert-only " : "", spec->tcp ? "tcp" : "",
	    spec->tcp && spec->udp ? "+" : "", spec->udp ? "udp" : "");
	if (!intercept_digest_of(spec, LIST_PORT).count && !spec->divert_only)
		put(l, " all ports");
	put_list(l, spec, LIST_PORT, "");
	put_list(l, spec, LIST_NOT_PORT, "not");
	/* Addresses show the family themselves. */
	if ((!spec->ipv4 || !spec->ipv6) && !intercept_digest_of(spec, LIST_SRC).count &&
	    !intercept_digest_of(spec, LIST_DST).count)
		put(l, " %s", spec->ipv4 ? "IPv4" : "IPv6");
	put_list(l, spec, LIST_SRC, "from");
	put_list(l, spec, LIST_NOT_SRC, "not from");
	put_list(l, spec, LIST_DST, "to");
	put_list(l, spec, LIST_NOT_DST, "not to");
	put_field(l, spec, "iif", "via");
	put_field(l, spec, "not-mark", "not mark");
	if (intercept_takes_own(spec))
		put_local(l, spec);
	else if (spec->local)
		put(l, ", and answers of this host's loopback addresses");
}

/* The listening processes, each once. */
struct listeners {
	struct line *line;
	struct sockowner_list *owners;
	pid_t shown;
	unsigned count;
};

static void put_owner(struct listeners *who, const struct sockdiag_socket *s)
{
	const struct sockowner *owner = who->owners ? sockowner_find(who->owners, s->inode) : NULL;
	char name[4 * SOCKOWNER_NAME_MAX];

	if (owner && owner->pid == who->shown)
		return;
	if (owner) {
		plain_copy(name, sizeof(name), owner->name);
		put(who->line, " %s(%d)", name, (int)owner->pid);
		who->shown = owner->pid;
	} else if (!who->count) {
		put(who->line, " a process of uid %u", (unsigned)s->uid);
	}
	who->count++;
}

/* Describe what nobody serves. */
static void put_gap(const struct listeners *who, const struct drift_part *part)
{
	char text[ENDPOINT_TEXT_MAX];
	const char *udp = part->protocol == IPPROTO_UDP ? " (UDP)" : "";

	if (!part->found.count && who->count)
		put(who->line, ", nobody at %s%s", endpoint_format(&part->at, text), udp);
	else if (part->found.nontransparent)
		put(who->line, ", not transparent at %s%s", endpoint_format(&part->at, text), udp);
}

static void put_listeners(struct line *l, const struct drift *d)
{
	struct listeners who = { .line = l, .owners = d->owners };

	for (size_t i = 0; i < d->parts; i++)
		if (d->part[i].found.count)
			put_owner(&who, &d->part[i].found.first);
	if (!who.count)
		put(l, " nobody listens");
	for (size_t i = 0; i < d->parts; i++)
		if (d->part[i].is_listener)
			put_gap(&who, &d->part[i]);
}

/* On loopback show the port only, whatever the families. */
static const char *listener_text(const struct intercept *spec, char buf[FIELD_VALUE_MAX])
{
	const struct endpoint *e = endpoint_is_set(&spec->to4) ? &spec->to4 : &spec->to6;

	if (endpoint_is_set(&spec->to4) && endpoint_is_set(&spec->to6))
		return field_show(field_find("to"), spec, buf);
	endpoint_format(e, buf);
	if (!strncmp(buf, "127.0.0.1:", 10) || !strncmp(buf, "[::1]:", 6))
		snprintf(buf, FIELD_VALUE_MAX, "%u", e->port);
	return buf;
}

static const char *state_word(const struct drift *d)
{
	return !d->view.rules.present ? "missing"
	       : d->view.rules.ending ? "ending"
	       : d->intact	      ? "intact"
				      : "changed";
}

/* And in what. */
static void put_state(struct line *l, const struct drift *d)
{
	const char *separator = ": ";
	const struct nft_state *rules = &d->view.rules;

	if (rules->ending) { /* no part is unexpectedly missing */
		put(l, "ending: `down` has begun, and drains");
		return;
	}
	put(l, "%s", state_word(d));
	if (rules->lease == LEASE_PENDING)
		put(l, ", ends in %llu s unless confirmed",
		    (unsigned long long)rules->lease_seconds);
	for (size_t i = 0; i < d->parts && rules->present; i++) {
		if (d->part[i].state == DRIFT_PRESENT || d->part[i].is_listener)
			continue;
		put(l, "%s%s %s", separator, d->part[i].check, drift_word(d->part[i].state));
		separator = ", ";
	}
}

static uint64_t counted(const struct drift *d, const char *name)
{
	const struct nft_state *rules = &d->view.rules;

	for (unsigned i = 0; i < rules->counters; i++)
		if (!strcmp(rules->counter[i].name, name))
			return rules->counter[i].packets;
	return 0;
}

/* On a terminal the second half goes to a line of its own if both do not fit, and the state is
 * coloured. */
static void print_line(const struct drift *d, const char *name, const struct line *what,
		       const struct line *state, const char *count)
{
	unsigned columns = isatty(STDOUT_FILENO) ? screen_columns(STDOUT_FILENO) : 0;
	size_t length = strlen(name) + what->used + state->used + strlen(count) + 6;
	const char *colour = !record_table_in_colour() ? NULL
			     : !d->intact	       ? "31"
			     : !d->served	       ? "33"
						       : "32";

	printf("%s  %s", name, what->text);
	if (columns && length > columns)
		printf("\n%*s", (int)strlen(name) + 2, "");
	else if (what->used)
		printf("  ");
	printf(colour ? "\033[%sm%s\033[0m" : "%.0s%s", colour ? colour : "", state->text);
	printf("%s%s\n", *count ? "  " : "", count);
}

static void print_instance(const struct drift *d, const char *name)
{
	const struct intercept *spec = &d->view.rules.spec;
	struct line what = { .used = 0 }, state = { .used = 0 };
	bool divert = d->view.rules.readable && spec->divert_only;
	const char *word = divert ? "diverted" : "intercepted";
	char to[FIELD_VALUE_MAX], count[48] = "";

	if (d->view.rules.readable) {
		put_predicate(&what, spec);
		if (!divert) {
			put(&what, " -> %s", listener_text(spec, to));
			put_listeners(&what, d);
		}
	}
	put_state(&state, d);
	if (d->view.rules.present)
		snprintf(count, sizeof(count), "%llu %s", (unsigned long long)counted(d, word),
			 word);
	print_line(d, name, &what, &state, count);
}

/* --- a record for each part ------------------------------------------------------------------- */

static void put_part(struct status *s, const char *name, const struct drift *d,
		     const struct drift_part *part)
{
	struct record r;

	record_begin(&r, "part");
	record_text(&r, RECORD_INSTANCE, name);
	record_text(&r, RECORD_CHECK, part->check);
	record_text(&r, RECORD_STATE, drift_word(part->state));
	record_text(&r, RECORD_EVIDENCE, part->evidence);
	if (part->state != DRIFT_PRESENT && !part->is_listener)
		record_text(&r, RECORD_FIX, d->fix);
	record_table_put(&s->table, &r);
}

static void put_counter(struct status *s, const char *name, const struct nft_counter *counter)
{
	struct record r;

	record_begin(&r, "counter");
	record_text(&r, RECORD_INSTANCE, name);
	record_text(&r, RECORD_CHECK, counter->name);
	record_number(&r, RECORD_COUNT, counter->packets);
	record_number(&r, RECORD_BYTES, counter->bytes);
	record_table_put(&s->table, &r);
}

static void put_parts(struct status *s, const struct drift *d, const char *name)
{
	for (size_t i = 0; i < d->parts; i++)
		put_part(s, name, d, &d->part[i]);
	for (unsigned i = 0; i < d->view.rules.counters; i++)
		put_counter(s, name, &d->view.rules.counter[i]);
}

/* Nothing is to be repaired of an instance that `down` is about to remove. */
static bool needs_fix(const struct drift *d)
{
	return !d->intact && !d->view.rules.ending;
}

/* --- as JSON ---------------------------------------------------------------------------------- */

/* Before its parts: the instance, with the whole specification. */
static int put_json(const struct drift *d, const char *name, struct failure *why)
{
	json_t *object = json_pack("{s:i,s:s,s:s,s:s,s:b,s:I}", "v", RECORD_SCHEMA, "type",
				   "instance", "instance", name, "state", state_word(d), "served",
				   d->served, "count", (json_int_t)counted(d, "intercepted"));
	char *text = NULL;

	if (object && needs_fix(d))
		json_object_set_new(object, "fix", json_string(d->fix));
	if (object && d->view.rules.readable)
		json_object_set_new(object, "spec", spec_json(&d->view.rules.spec));
	if (object)
		text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	if (!text)
		return report_fail(why, ENOMEM, "json_dumps", "instance %s", name);
	printf("%s\n", text);
	free(text);
	return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

static int show(struct status *s, struct instance *kernel, const char *name, struct failure *why)
{
	const struct status_question *q = s->question;
	struct drift d;
	int err = drift_look(kernel, name, q->asked, &d, why);

	if (!err && q->style->json)
		err = put_json(&d, name, why);
	if (!err && (q->style->json || q->parts))
		put_parts(s, &d, name);
	else if (!err && d.view.rules.present)
		print_instance(&d, name);
	fflush(stdout);
	if (!err && needs_fix(&d) && (q->asked || d.view.rules.present))
		report_notice("%s: to fix it: %s", name, d.fix);
	s->well &= d.intact && d.served;
	drift_free(&d);
	return err;
}

static bool is_among(const struct names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (!strcmp(names->at[i], name))
			return true;
	return false;
}

static int show_all(struct status *s, struct instance *kernel, const struct names *names,
		    struct failure *why)
{
	const char *name = s->question->name;
	char text[512];
	int err = 0;

	if (name ? !is_among(names, name) : !names->count) {
		s->well = false;
		names_text(names, text, sizeof(text));
		report_notice("%s%s%s", name ? name : "", name ? ": not installed; " : "", text);
	}
	/* For an instance that is not installed, the parts show what is left of it. */
	if (name || !names->count)
		return show(s, kernel, name ? name : "default", why);
	for (size_t i = 0; i < names->count && !err; i++)
		err = show(s, kernel, names->at[i], why);
	return err;
}

int status_print(struct instance *kernel, const struct status_question *q, struct failure *why)
{
	static const enum record_field columns[] = { RECORD_INSTANCE, RECORD_CHECK, RECORD_STATE,
						     RECORD_COUNT, RECORD_EVIDENCE };
	struct status s = { .question = q, .well = true };
	struct names names = { 0 };
	int err;

	if (record_table_init(&s.table, q->style, columns, sizeof(columns) / sizeof(*columns),
			      RECORD_BIT(RECORD_BYTES) | RECORD_BIT(RECORD_FIX), why))
		return report_failure(why, STATUS_USAGE);
	record_table_fit(&s.table);
	err = names_read(kernel, &names, why);
	if (!err)
		err = show_all(&s, kernel, &names, why);
	record_table_end(&s.table);
	names_free(&names);
	return err ? -1 : s.well ? STATUS_DONE : STATUS_NO;
}
