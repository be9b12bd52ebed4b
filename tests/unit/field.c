/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every entry of the field table keeps what it says: it is typed, written, read back, shown and
 * compared, and changes that of the rules that it claims to. */
#include "intercept/field.h"
#include "check.h"
#include "intercept/nft_text.h"
#include "intercept/spec_check.h"
#include "intercept/spec_text.h"
#include <stdlib.h>

/* A value other than those of the specification below, as it is typed and as its difference is
 * shown. */
static const struct sample {
	const char *name, *typed, *diff;
} samples[] = {
	{ "name", "web", "name web (was default)" },
	{ "to", "3130", "to 3130 (was 3129)" },
	{ "iif", "eth*", "iif eth* (was all)" },
	{ "port", "80,8000-8100", "port 80,8000-8100 (was all)" },
	{ "not-port", "443", "not-port 443 (was none)" },
	{ "src", "10.0.0.0/8,2001:db8::/32", "src 10.0.0.0/8,2001:db8::/32 (was all)" },
	{ "dst", "10.0.0.0/8,2001:db8::/32", "dst 10.0.0.0/8,2001:db8::/32 (was all)" },
	{ "not-src", "10.0.0.0/8", "not-src 10.0.0.0/8 (was none)" },
	{ "not-dst", "10.0.0.0/8", "not-dst 10.0.0.0/8 (was none)" },
	{ "not-mark", "0x30/0xf0", "not-mark 0x30/0xf0 (was none)" },
	{ "include-own", NULL, "include-own yes (was no)" },
	{ "uid", "1000", "uid 1000 (was all)" },
	{ "gid", "1000", "gid 1000 (was all)" },
	{ "cgroup", NULL, NULL }, /* must exist: tests/setup-matrix.bats */
	{ "not-uid", "1000", "not-uid 1000 (was none)" },
	{ "not-gid", "1000", "not-gid 1000 (was none)" },
	{ "not-cgroup", NULL, NULL },
	{ "no-listener", "drop", "no-listener drop (was reject)" },
	{ "midstream", "pass", "midstream pass (was reset)" },
	{ "conntrack", "zone", "conntrack zone (was auto)" },
	{ "mark", "0x3/0xff", "mark 0x3/0xff (was 0x1/0xff)" },
	{ "upstream-mark", "0x4/0xff", "upstream-mark 0x4/0xff (was 0x2/0xff)" },
	{ "table", "101", "table 101 (was 100)" },
	{ "pref", "101", "pref 101 (was 100)" },
	{ "ct-zone", "8", "ct-zone 8 (was 7)" },
};

static struct failure why;

/* One with every kind of rule. */
static struct intercept rich(void)
{
	struct intercept spec;

	intercept_init(&spec);
	CHECK(intercept_set_to(&spec, "3129", &why) == 0);
	spec.udp = spec.local = true;
	spec.zone = CONNTRACK_ZONE;
	return spec;
}

static void type(struct intercept *spec, const struct field *f, const char *value)
{
	struct option_spec self = {
		f->name, f->letter, f->arg, f->help, f->kind->set, f->offset, 0
	};

	if (!strcmp(f->name, "to"))
		spec->to4 = spec->to6 = (struct endpoint){ 0 };
	CHECK(f->kind->set((char *)spec + f->offset, value, &self, &why) == 0);
}

/* --- what changes in the rules ---------------------------------------------------------------- */

/* The lines of a chain, or (for `set`, `map` and `counter`) of all of them, are added to *hash. */
static unsigned part_of(const char *line)
{
	static const struct {
		const char *begins;
		unsigned part;
	} parts[] = {
		{ "\tset ", CHANGES_SETS },
		{ "\tcounter ", CHANGES_SETS },
		{ "\tchain prerouting ", CHANGES_PREROUTING },
		{ "\tchain divert ", CHANGES_DIVERT },
		{ "\tchain other ", CHANGES_DIVERT },
		{ "\tchain take ", CHANGES_TAKE },
		{ "\tchain deliver ", CHANGES_DELIVER },
		{ "\tchain local ", CHANGES_LOCAL },
		{ "\tchain mine ", CHANGES_LOCAL },
		{ "\tchain looped ", CHANGES_LOCAL },
		{ "\tchain zone-", CHANGES_ZONE },
		{ "\tchain ask", CHANGES_ASTRAY },
		{ "\tchain answer ", CHANGES_ASTRAY },
		{ "\tchain astray ", CHANGES_ASTRAY },
		{ "\tchain refused ", CHANGES_ASTRAY },
		{ "\tchain spec ", 0 },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (!strncmp(line, parts[i].begins, strlen(parts[i].begins)))
			return parts[i].part;
	return UINT32_MAX;
}

/* All of one part, without the table's name. */
static void gather(const char *text, unsigned wanted, char *out)
{
	unsigned part = 0;

	*out = '\0';
	for (const char *line = text; *line;) {
		size_t length = strcspn(line, "\n") + 1;

		if (line[0] == '\t' && line[1] != '\t' && line[1] != '}')
			part = part_of(line);
		if (part == UINT32_MAX) {
			fprintf(stderr, "of no part: %.*s", (int)length, line);
			exit(1);
		}
		if (part == wanted && line[0] == '\t')
			strncat(out, line, length);
		line += length;
	}
}

static unsigned changed_parts(const struct intercept *a, const struct intercept *b)
{
	char *x = nft_text_install(a, &why), *y = nft_text_install(b, &why);
	char *p = malloc(strlen(x) + 1), *q = malloc(strlen(y) + 1);
	unsigned changed = 0;

	for (unsigned part = CHANGES_SETS; part < CHANGES_ALL; part <<= 1) {
		gather(x, part, p);
		gather(y, part, q);
		if (strcmp(p, q) != 0)
			changed |= part;
	}
	if (a->mark.value != b->mark.value || a->table != b->table || a->pref != b->pref ||
	    a->ipv4 != b->ipv4 || a->ipv6 != b->ipv6)
		changed |= CHANGES_ROUTING;
	free(x);
	free(y);
	free(p);
	free(q);
	return changed;
}

/* --- each entry ------------------------------------------------------------------------------- */

static void check_words(const struct field *f, const struct intercept *spec)
{
	char once[INTERCEPT_TEXT_MAX], again[INTERCEPT_TEXT_MAX], options[INTERCEPT_TEXT_MAX];
	char word[64];
	struct intercept back;

	spec_text(spec, once);
	CHECK(spec_text_parse(once, &back, &why) == 0);
	/* Lists are not in the text. */
	for (int id = 0; id < INTERCEPT_LISTS; id++)
		if (intercept_digest_of(spec, id).count)
			goto out;
	CHECK(field_equal(f, spec, &back));
	CHECK_TEXT(spec_text(&back, again), once);
out:
	snprintf(word, sizeof(word), "--%s", f->name);
	CHECK(strstr(spec_text_options(spec, options, sizeof(options)), word) != NULL);
	intercept_free(&back);
}

static void check_changes(const struct field *f, const struct intercept *before,
			  const struct intercept *after)
{
	unsigned changed = changed_parts(before, after);

	check_count++;
	if (changed == f->changes)
		return;
	check_failed++;
	fprintf(stderr, "%s: changes 0x%x, not 0x%x\n", f->name, changed, f->changes);
}

static void check_sample(const struct sample *sample)
{
	const struct field *f = field_find(sample->name);
	struct intercept before = rich(), after = rich();
	char diff[512];

	CHECK(f != NULL);
	if (!f || !sample->diff)
		return;
	type(&after, f, sample->typed);
	CHECK(spec_check(&after, false, false, &why) == 0);
	CHECK(!field_equal(f, &before, &after));
	CHECK(spec_text_diff(&before, &after, diff, sizeof(diff)) == 1);
	CHECK_TEXT(diff, sample->diff);
	check_words(f, &after);
	check_changes(f, &before, &after);
	intercept_free(&before);
	intercept_free(&after);
}

/* Those that are no sample: typed by another option, or not on a specification like that. */
static void check_rest(void)
{
	struct intercept before = rich(), after = rich();
	char diff[512];

	after.local = false;
	after.udp = false;
	after.ipv6 = false;
	after.to6 = (struct endpoint){ 0 };
	after.zone = CONNTRACK_OFF;
	CHECK(spec_text_diff(&before, &after, diff, sizeof(diff)) == 5);
	CHECK_TEXT(diff, "family IPv4 (was IPv4 and IPv6), to 127.0.0.1:3129 (was 3129), "
			 "local no (was yes), proto tcp (was tcp+udp), zone off (was zone)");
}

/* One thing at a time of the same. */
static void check_rest_changes(void)
{
	struct intercept before = rich(), after = rich();

	after.local = false;
	check_changes(field_find("local"), &before, &after);
	after = rich();
	after.tcp = false;
	check_changes(field_find("proto"), &before, &after);
	after = rich();
	after.ipv6 = false;
	after.to6 = (struct endpoint){ 0 };
	check_changes(field_find("family"), &before, &after);
	after = rich();
	after.zone = CONNTRACK_OFF;
	check_changes(field_find("zone"), &before, &after);
	after = rich();
	after.to4 = after.to6 = (struct endpoint){ 0 };
	after.local = after.udp = false;
	after.divert_only = true;
	after.zone = CONNTRACK_OFF;
	check_changes(field_find("divert-only"), &before, &after);
}

static void check_all_sampled(void)
{
	static const char *const others[] = { "family", "to4",	       "to6", "proto",
					      "local",	"divert-only", "zone" };

	for (size_t i = 0; i < field_count; i++) {
		bool known = false;

		for (size_t j = 0; j < sizeof(samples) / sizeof(*samples); j++)
			known |= !strcmp(field_table[i].name, samples[j].name);
		for (size_t j = 0; j < sizeof(others) / sizeof(*others); j++)
			known |= !strcmp(field_table[i].name, others[j]);
		CHECK(known);
	}
}

/* What an older version wrote: its words in another order. */
static void check_older(void)
{
	static const char older[] =
		"v=1 name=web family=46 proto=tcp+udp to4=127.0.0.1:3129 to6=[::1]:3129 local=yes "
		"no-listener=reject midstream=pass conntrack=zone zone=zone mark=0x1/0xff "
		"upstream-mark=0x2/0xff table=100 pref=100 ct-zone=7 iif=eth* not-mark=0x30/0xf0 "
		"uid=5";
	struct intercept spec, same = rich();
	char one[INTERCEPT_TEXT_MAX], other[INTERCEPT_TEXT_MAX];

	CHECK(spec_text_parse(older, &spec, &why) == 0);
	type(&same, field_find("name"), "web");
	type(&same, field_find("midstream"), "pass");
	type(&same, field_find("conntrack"), "zone");
	type(&same, field_find("iif"), "eth*");
	type(&same, field_find("not-mark"), "0x30/0xf0");
	type(&same, field_find("uid"), "5");
	CHECK_TEXT(spec_text(&spec, one), spec_text(&same, other));
}

int main(void)
{
	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++)
		check_sample(&samples[i]);
	check_rest();
	check_rest_changes();
	check_all_sampled();
	check_older();
	return check_done();
}
