/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/options.h"

#include "base/endpoint.h"
#include "base/quantity.h"
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 30

int option_flag(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	*(bool *)field = true;
	return 0;
}

int option_text(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	if (!*arg)
		return report_refuse(why, "must not be empty");
	*(const char **)field = arg;
	return 0;
}

int option_choice(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	size_t length = strlen(arg);
	const char *word = self->arg;

	for (int index = 0;; index++) {
		size_t n = strcspn(word, "|");

		if (n == length && !memcmp(word, arg, n)) {
			*(int *)field = index;
			return 0;
		}
		if (!word[n])
			return report_refuse(why, "must be one of %s", self->arg);
		word += n + 1;
	}
}

int option_count(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	return quantity_number(arg, 1, UINT32_MAX, field, why);
}

int option_number(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	uint64_t n;

	if (quantity_number(arg, 0, UINT32_MAX, &n, why) < 0)
		return -1;
	*(uint32_t *)field = (uint32_t)n;
	return 0;
}

int option_duration(void *field, const char *arg, const struct option_spec *self,
		    struct failure *why)
{
	return quantity_duration(arg, field, why);
}

int option_mark(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	return quantity_mark(arg, field, why);
}

int option_ports(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	return endpoint_parse_ports(arg, field, why);
}

int option_cidrs(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	for (const char *p = arg;; p++) {
		size_t n = strcspn(p, ",");
		char one[ENDPOINT_TEXT_MAX];
		struct cidr cidr;

		snprintf(one, sizeof(one), "%.*s", (int)n, p);
		if (endpoint_parse_cidr(one, &cidr, why) < 0 ||
		    endpoint_cidr_add(field, &cidr, why) < 0)
			return -1;
		p += n;
		if (!*p)
			return 0;
	}
}

int option_quiet(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	report_set_verbosity(-1);
	return 0;
}

int option_verbose(void *field, const char *arg, const struct option_spec *self,
		   struct failure *why)
{
	report_set_verbosity(report_verbosity() < 0 ? 1 : report_verbosity() + 1);
	return 0;
}

/* --help and --version end the parsing; options_parse() knows them by their setter. */
int option_help(void *field, const char *arg, const struct option_spec *self, struct failure *why)
{
	return 0;
}

/* The left column of one option: `  -n, --name NAME`. Returns its width. */
static int print_option_name(const struct option_spec *o)
{
	int width = o->letter ? printf("  -%c, --%s", o->letter, o->name)
			      : printf("      --%s", o->name);

	return o->arg ? width + printf(" %s", o->arg) : width;
}

static void print_help_text(const char *text, int width)
{
	while (text) {
		const char *end = strchr(text, '\n');
		int length = end ? (int)(end - text) : (int)strlen(text);

		if (width >= HELP_COLUMN - 1) {
			putchar('\n');
			width = 0;
		}
		printf("%*s%.*s\n", HELP_COLUMN - width, "", length, text);
		width = 0;
		text = end ? end + 1 : NULL;
	}
}

/* Does this line of the usage belong to the command, whose name is the second word (in brackets if
 * it may be left out)? */
static bool is_usage_of(const char *line, const char *command)
{
	const char *word = line + strcspn(line, " ");
	size_t length = strlen(command);

	word += strspn(word, " [");
	return !strncmp(word, command, length) && strchr(" ]\n", word[length]);
}

/* The lines of the command; all if that is NULL. */
static void print_usage_lines(const char *usage, const char *command)
{
	const char *label = "Usage: ";

	while (usage) {
		const char *end = strchr(usage, '\n');

		if (!command || is_usage_of(usage, command)) {
			printf("%s%.*s\n", label, end ? (int)(end - usage) : (int)strlen(usage),
			       usage);
			label = "       ";
		}
		usage = end ? end + 1 : NULL;
	}
}

static bool takes(int command, const struct option_spec *o)
{
	return command < 0 || !o->commands || o->commands >> command & 1;
}

/* The options from here to the next heading: does the command take all of them, does it take
 * any? */
static bool takes_all(int command, const struct option_spec *o)
{
	while (o->set && takes(command, o))
		o++;
	return !o->set;
}

static bool takes_any(int command, const struct option_spec *o)
{
	while (o->set && !takes(command, o))
		o++;
	return o->set;
}

/* The options that the command takes, or all for -1. A section that is complete gets its own
 * heading, the rest of incomplete sections another one. */
static void print_options(const struct option_spec *options, int command)
{
	const char *last = NULL, *heading;

	for (const struct option_spec *o = options; o->name; o++) {
		if (o->set && takes(command, o))
			print_help_text(o->help, print_option_name(o));
		if (o->set || !takes_any(command, o + 1))
			continue;
		heading = takes_all(command, o + 1) ? o->help : "Options:";
		if (!last || strcmp(heading, last) != 0)
			printf("\n%s\n", heading);
		last = heading;
	}
}

/* What to read next; the examples before it are those of all commands. */
static const char *last_paragraph(const char *text)
{
	for (const char *next; (next = strstr(text, "\n\n"));)
		text = next + 2;
	return text;
}

static int print_command_help(const struct options_program *program, int command)
{
	const struct option_command *c = &program->commands[command];

	print_usage_lines(program->usage, c->name);
	printf("\n%s %s: %s\n", program->name, c->name, c->help);
	print_options(program->options, command);
	if (program->epilogue)
		printf("\n%s\n", last_paragraph(program->epilogue));
	return report_close_stdout(STATUS_DONE);
}

static int print_program_help(const struct options_program *program)
{
	print_usage_lines(program->usage, NULL);
	printf("\n%s\n", program->summary);
	if (program->commands)
		printf("\nCommands:\n");
	for (const struct option_command *c = program->commands; c && c->name; c++)
		print_help_text(c->help, printf("  %s", c->name));
	print_options(program->options, -1);
	if (program->epilogue)
		printf("\n%s\n", program->epilogue);
	return report_close_stdout(STATUS_DONE);
}

/* The help of the command that precedes --help, or of the program. */
static int print_help(const struct options_program *program, const struct options_rest *rest)
{
	const struct option_command *c = program->commands;

	for (int i = 0; c && rest->count && c[i].name; i++)
		if (!strcmp(c[i].name, rest->operands[0]))
			return print_command_help(program, i);
	return print_program_help(program);
}

static int print_version(const struct options_program *program)
{
	printf("%s (tproxy-tools) %s\n", program->name, TPROXY_VERSION);
	if (program->sandbox)
		printf("sandbox: %s\n", program->sandbox());
	return report_close_stdout(STATUS_DONE);
}

/* The file whose options are or were being read; getopt_long() is reading the word before
 * optind. */
static struct {
	const struct options_file *file;
	bool reading;
} source;

/* `FILE:LINE: `, `FILE: ` or nothing. */
static const char *place(char *buf, size_t size)
{
	buf[0] = '\0';
	if (source.file && source.reading)
		snprintf(buf, size, "%s:%u: ", source.file->path, source.file->lines[optind - 1]);
	else if (source.file)
		snprintf(buf, size, "%s: ", source.file->path);
	return buf;
}

int options_misuse(const struct options_program *program, const char *format, ...)
{
	char text[512], where[300];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	report_error("%s%s; see '%s --help'", place(where, sizeof(where)), text, program->name);
	return STATUS_USAGE;
}

static int option_index(const struct options_program *program, const char *name)
{
	for (int i = 0; program->options[i].name; i++)
		if (program->options[i].set && !strcmp(program->options[i].name, name))
			return i;
	return -1;
}

static bool is_given(const struct options_rest *rest, int index)
{
	return index >= 0 && (rest->given[index / 64] >> (index % 64) & 1);
}

bool options_given(const struct options_program *program, const struct options_rest *rest,
		   const char *name)
{
	return is_given(rest, option_index(program, name));
}

/* getopt_long's two tables, built from ours. */
struct getopt_tables {
	char letters[2 * OPTIONS_MAX + 3];
	struct option words[OPTIONS_MAX + 1];
};

/* The value that getopt_long() returns for the option at an index: above any letter. */
#define LONG_VALUE(index) (256 + (index))

static void fill_tables(struct getopt_tables *t, const struct option_spec *options)
{
	char *letter = t->letters;
	int count = 0;

	memset(t, 0, sizeof(*t));
	*letter++ = '-'; /* operands in place, wherever they are */
	*letter++ = ':'; /* tell a missing argument from an unknown option */
	for (int i = 0; i < OPTIONS_MAX && options[i].name; i++) {
		const struct option_spec *o = &options[i];

		if (!o->set)
			continue;
		t->words[count++] = (struct option){
			.name = o->name,
			.has_arg = o->arg ? required_argument : no_argument,
			.val = LONG_VALUE(i),
		};
		if (!o->letter)
			continue;
		*letter++ = o->letter;
		if (o->arg)
			*letter++ = ':';
	}
}

static int index_of_letter(const struct option_spec *options, int letter)
{
	for (int i = 0; options[i].name; i++)
		if (options[i].set && options[i].letter == letter)
			return i;
	return -1;
}

/* Run the option's setter; a failure is printed with the option in front. Returns OPTIONS_GO_ON or
 * the status to exit with. */
static int apply(const struct option_spec *o, void *config)
{
	struct failure why = { 0 };
	char where[300];

	if (o->set((char *)config + o->offset, optarg, o, &why) == 0)
		return OPTIONS_GO_ON;
	report_about(&why, "%s--%s%s%s", place(where, sizeof(where)), o->name, o->arg ? " " : "",
		     o->arg ? optarg : "");
	return report_failure(&why, STATUS_USAGE);
}

/* What getopt_long() rejected: the word before optind, unless it was one of several letters in one
 * word. */
static int reject(const struct options_program *program, int code, char **argv)
{
	const char *word = argv[optind - 1];
	int index = optopt >= 256 ? optopt - 256 : index_of_letter(program->options, optopt);

	if (code == ':')
		return options_misuse(program, "%s: needs an argument: %s", word,
				      index >= 0 ? program->options[index].arg : "ARG");
	if (optopt >= 256)
		return options_misuse(program, "%s: takes no argument", word);
	if (optopt)
		return options_misuse(program, "-%c: no such option", optopt);
	return options_misuse(program, "%s: no such option (or an ambiguous abbreviation)", word);
}

static int check_conflicts(const struct options_program *program, const struct options_rest *rest)
{
	for (const struct option_conflict *c = program->conflicts; c && c->one; c++)
		if (options_given(program, rest, c->one) && options_given(program, rest, c->other))
			return options_misuse(program, "--%s and --%s contradict each other",
					      c->one, c->other);
	return OPTIONS_GO_ON;
}

static int check_command_takes(const struct options_program *program,
			       const struct options_rest *rest)
{
	for (int i = 0; rest->command >= 0 && program->options[i].name; i++) {
		const struct option_spec *o = &program->options[i];

		if (is_given(rest, i) && !takes(rest->command, o))
			return options_misuse(program, "--%s: not an option of '%s %s'", o->name,
					      program->name, program->commands[rest->command].name);
	}
	return OPTIONS_GO_ON;
}

/* `up, down, status`. */
static void list_commands(const struct options_program *program, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (const struct option_command *c = program->commands; c->name && used < size; c++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
					 c->name);
}

/* The first operand names the command. */
static int take_command(const struct options_program *program, struct options_rest *rest)
{
	char known[256];

	rest->command = -1;
	if (!program->commands)
		return OPTIONS_GO_ON;
	for (int i = 0; rest->count && program->commands[i].name; i++) {
		if (strcmp(program->commands[i].name, rest->operands[0]) != 0)
			continue;
		rest->command = i;
		rest->operands++;
		rest->count--;
		return OPTIONS_GO_ON;
	}
	rest->command = program->default_command;
	if (rest->command >= 0)
		return OPTIONS_GO_ON;
	list_commands(program, known, sizeof(known));
	if (rest->count)
		return options_misuse(program, "%s: no such command; there are %s",
				      rest->operands[0], known);
	return options_misuse(program, "which command? %s", known);
}

/* Cut argv at the first `--`; the rest is the wrapped command. Returns the new argc. */
static int cut_wrapped(int argc, char **argv, struct options_rest *rest)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") != 0)
			continue;
		rest->wrapped = &argv[i + 1];
		argv[i] = NULL;
		return i;
	}
	return argc;
}

/* Keep an operand of the command line; the others move to the front, never past the current
 * word. */
static int take_operand(const struct options_program *program, struct options_rest *rest)
{
	if (!rest->operands) /* of a file */
		return options_misuse(program, "`%s` is not an option", optarg);
	rest->operands[rest->count++] = optarg;
	return OPTIONS_GO_ON;
}

/* Handle what getopt_long() has returned. Returns OPTIONS_GO_ON, or the status to exit with. */
static int take(const struct options_program *program, int code, char **argv, void *config,
		struct options_rest *rest)
{
	const struct option_spec *o;
	int index, status;

	if (code == 1)
		return take_operand(program, rest);
	index = code >= 256 ? code - 256 : index_of_letter(program->options, code);
	if (code == '?' || code == ':' || index < 0)
		return reject(program, code == ':' ? ':' : '?', argv);
	o = &program->options[index];
	if (o->set == option_help && source.reading)
		return options_misuse(program, "--%s: not in a file", o->name);
	if (o->set == option_help)
		return strcmp(o->name, "version") ? print_help(program, rest)
						  : print_version(program);
	status = apply(o, config);
	if (status == OPTIONS_GO_ON)
		rest->given[index / 64] |= 1ULL << (index % 64);
	return status;
}

/* Handle the words of argv, until one is refused. */
static int take_words(const struct options_program *program, int argc, char **argv, void *config,
		      struct options_rest *rest)
{
	struct getopt_tables tables;
	int code, status = OPTIONS_GO_ON;

	fill_tables(&tables, program->options);
	opterr = 0;
	optind = 0; /* glibc: start over */
	while (status == OPTIONS_GO_ON &&
	       (code = getopt_long(argc, argv, tables.letters, tables.words, NULL)) != -1)
		status = take(program, code, argv, config, rest);
	return status;
}

int options_parse(const struct options_program *program, int argc, char **argv, void *config,
		  struct options_rest *rest)
{
	int status;

	memset(rest, 0, sizeof(*rest));
	rest->operands = &argv[1];
	argc = cut_wrapped(argc, argv, rest);
	status = take_words(program, argc, argv, config, rest);
	if (status == OPTIONS_GO_ON)
		status = take_command(program, rest);
	if (status == OPTIONS_GO_ON)
		status = check_command_takes(program, rest);
	if (status == OPTIONS_GO_ON)
		status = check_conflicts(program, rest);
	return status;
}

int options_parse_file(const struct options_program *program, const struct options_file *file,
		       void *config, struct options_rest *rest)
{
	struct options_rest here = { .command = file->command };
	int status;

	source.file = file;
	source.reading = true;
	status = take_words(program, file->count, file->words, config, &here);
	/* getopt_long() stops at -- without an error. */
	if (status == OPTIONS_GO_ON && optind < file->count)
		status = options_misuse(program, "`--` is not an option");
	source.reading = false;
	if (status == OPTIONS_GO_ON)
		status = check_command_takes(program, &here);
	if (status == OPTIONS_GO_ON)
		status = check_conflicts(program, &here);
	for (size_t i = 0; i < sizeof(here.given) / sizeof(*here.given); i++)
		rest->given[i] |= here.given[i];
	return status;
}

bool options_wants_family(const struct options_common *common, int family)
{
	if (common->ipv4 == common->ipv6)
		return true;
	return family == AF_INET ? common->ipv4 : common->ipv6;
}

bool options_wants_tcp(const struct options_common *common)
{
	return common->tcp || !common->udp;
}

bool options_wants_udp(const struct options_common *common)
{
	return common->udp;
}
