/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of a specification, whole, against the text in tests/golden: what a change of the code
 * does to the rules is seen in the change of those files.
 *
 *	nft_text [--write] FILE...
 *
 * The first line of a file is a comment with the options of `tproxy-setup plan`; `--ending` asks
 * for the transaction with which `down` begins instead. --write puts there what the code says now.
 */
#include "intercept/nft_text.h"
#include "check.h"
#include "intercept/field.h"
#include "intercept/spec_check.h"
#include <stdlib.h>

#define FILE_MAX (1 << 20)
#define START	 "# tproxy-setup plan "

static struct failure why;

struct flags {
	bool ipv4, ipv6, tcp, udp;
};

static bool take_flag(struct flags *flags, const char *word)
{
	if (!strcmp(word, "-4"))
		flags->ipv4 = true;
	else if (!strcmp(word, "-6"))
		flags->ipv6 = true;
	else if (!strcmp(word, "-t"))
		flags->tcp = true;
	else if (!strcmp(word, "-u"))
		flags->udp = true;
	else
		return false;
	return true;
}

static void take_option(struct intercept *spec, const char *name, char **rest)
{
	const struct field *f = field_find(name);
	char *value = f && f->arg ? strsep(rest, " ") : NULL;
	struct option_spec self = { .name = name, .arg = f ? f->arg : NULL };
	/* A control group that must not be there: as it is read back. */
	bool stored = f && strstr(name, "cgroup");

	if (!strcmp(name, "confirm-within"))
		spec->confirm_ms = strtoul(strsep(rest, " "), NULL, 10) * 1000;
	else
		CHECK(f &&
		      (stored ? f->kind->read(spec, f, value, &why)
			      : f->kind->set((char *)spec + f->offset, value, &self, &why)) == 0);
}

static struct intercept parse(char *options, bool *ending)
{
	struct intercept spec;
	struct flags flags = { 0 };
	char *word;

	*ending = false;
	intercept_init(&spec);
	while ((word = strsep(&options, " "))) {
		if (!strcmp(word, "--ending"))
			*ending = true;
		else if (!take_flag(&flags, word))
			take_option(&spec, word + 2, &options);
	}
	spec.udp = flags.udp;
	spec.tcp = flags.tcp || !flags.udp;
	spec.zone = spec.conntrack == CONNTRACK_ZONE ? CONNTRACK_ZONE : CONNTRACK_OFF;
	CHECK(spec_check(&spec, flags.ipv4, flags.ipv6, &why) == 0);
	return spec;
}

static char *read_file(const char *path)
{
	char *text = calloc(1, FILE_MAX);
	FILE *in = fopen(path, "r");

	CHECK(in && fread(text, 1, FILE_MAX - 1, in) > 0);
	if (in)
		fclose(in);
	return text;
}

static void write_file(const char *path, const char *first, const char *rules)
{
	FILE *out = fopen(path, "w");

	CHECK(out && fprintf(out, "%s\n%s", first, rules) > 0 && !fclose(out));
}

/* The first line that differs, with its number: more than a person wants to see is in `git
 * diff`. */
static void compare(const char *path, const char *expected, const char *rules)
{
	unsigned line = 2;

	check_count++;
	while (*rules && strcspn(expected, "\n") == strcspn(rules, "\n") &&
	       !strncmp(expected, rules, strcspn(rules, "\n"))) {
		expected += strcspn(expected, "\n") + !!*expected;
		rules += strcspn(rules, "\n") + 1;
		line++;
	}
	if (!*rules && !*expected)
		return;
	check_failed++;
	fprintf(stderr, "%s:%u: got      '%.*s'\n%s:%u: expected '%.*s'\n", path, line,
		(int)strcspn(rules, "\n"), rules, path, line, (int)strcspn(expected, "\n"),
		expected);
}

static void check_file(const char *path, bool write)
{
	char *text = read_file(path), *expected = text, *first = strsep(&expected, "\n");
	char *options = strdup(first + strlen(START)), *rules;
	struct intercept spec;
	bool ending;

	CHECK(!strncmp(first, START, strlen(START)));
	spec = parse(options, &ending);
	rules = ending ? nft_text_ending(&spec, 60000, &why) : nft_text_install(&spec, &why);
	CHECK(rules != NULL);
	if (!rules)
		rules = strdup("");
	if (write)
		write_file(path, first, rules);
	else
		compare(path, expected ? expected : "", rules);
	intercept_free(&spec);
	free(rules);
	free(options);
	free(text);
}

int main(int argc, char **argv)
{
	bool write = argc > 1 && !strcmp(argv[1], "--write");

	for (int i = 1 + write; i < argc; i++)
		check_file(argv[i], write);
	return check_done();
}
