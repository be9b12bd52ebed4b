/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options - one table says everything about a program's options.
 *
 * The table gives getopt_long's tables, --help, which options exclude each other, and every usage
 * error. A setter writes the parsed value into the program's own configuration struct; there is no
 * switch.
 */
#ifndef TPROXY_BASE_OPTIONS_H
#define TPROXY_BASE_OPTIONS_H

#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most rows that a table may have. */
#define OPTIONS_MAX 128

struct option_spec;

/*
 * Parses arg (NULL for a flag) into *field, which is the option's place in the configuration.
 * Returns 0, or -1 with *why->detail; the caller puts `--name arg` in front of it.
 */
typedef int option_setter(void *field, const char *arg, const struct option_spec *self,
			  struct failure *why);

struct option_spec {
	const char *name;   /* long name without dashes; NULL ends the table */
	char letter;	    /* short option, or 0 */
	const char *arg;    /* `PORT`, or the words of a choice (`reject|drop`); NULL: a flag */
	const char *help;   /* what it does (its default in parentheses); \n breaks the line */
	option_setter *set; /* NULL: a heading; then help is its text and name is "" */
	size_t offset;	    /* of the field in the configuration */
	unsigned commands;  /* bits of the commands that take it (1 << index); 0: all of them */
};

/* Rows of the table: an option whose value goes to config.member; the same for some commands only;
 * a heading; the end. */
#define OPTION(name, letter, arg, help, set, config, member) \
	OPTION_OF(0, name, letter, arg, help, set, config, member)
#define OPTION_OF(commands, name, letter, arg, help, set, config, member)        \
	{                                                                        \
		name, letter, arg, help, set, offsetof(config, member), commands \
	}
#define OPTION_HEADING(text)                  \
	{                                     \
		"", 0, NULL, text, NULL, 0, 0 \
	}
#define OPTION_END                              \
	{                                       \
		NULL, 0, NULL, NULL, NULL, 0, 0 \
	}

/* Two options that cannot be given together, by long name; an entry with NULL ends the list. */
struct option_conflict {
	const char *one, *other;
};

struct option_command {
	const char *name; /* NULL ends the list */
	const char *help;
};

struct options_program {
	const char *name;		       /* `tproxy-setup` */
	const char *summary;		       /* its one job, in one line */
	const char *usage;		       /* the lines after `Usage:`, separated by \n */
	const struct option_command *commands; /* NULL when the program has none */
	int default_command; /* index of the command used when none is given, or -1 */
	const struct option_spec *options;
	const struct option_conflict *conflicts; /* may be NULL */
	const char *epilogue;	      /* end of --help: examples, what to read next; may be NULL */
	const char *(*sandbox)(void); /* the sandbox's parts here, for --version; may be NULL */
};

/* What the command line held besides option values. Points into argv. */
struct options_rest {
	int command;	 /* index into commands, -1 when the program has none */
	char **operands; /* before `--` */
	int count;
	char **wrapped; /* after `--`, NULL-terminated; NULL when there was no `--` */
	uint64_t given[OPTIONS_MAX /
		       64]; /* options seen, by index in the table; see options_given() */
};

/* Options that all programs share. ipv4/ipv6 and tcp/udp are as typed; options_wants_*() apply the
 * defaults. */
struct options_common {
	bool ipv4, ipv6, tcp, udp, json;
};

/* The same for some commands only: `family` has the bits of those that take -4 and -6, `output` of
 * those that take JSON. */
#define OPTIONS_COMMON_OF(family, output, config, member)                                         \
	OPTION_HEADING("Common:"),                                                                \
		OPTION_OF(family, "ipv4", '4', NULL, "IPv4 only (both)", option_flag, config,     \
			  member.ipv4),                                                           \
		OPTION_OF(family, "ipv6", '6', NULL, "IPv6 only (both)", option_flag, config,     \
			  member.ipv6),                                                           \
		OPTION_OF(output, "json", 'j', NULL, "records as JSON, one object per line",      \
			  option_flag, config, member.json),                                      \
		OPTION("quiet", 'q', NULL, "no notices on stderr", option_quiet, config, member), \
		OPTION("verbose", 'v', NULL, "more on stderr; may be repeated", option_verbose,   \
		       config, member),                                                           \
		OPTION("help", 0, NULL, "print this help and exit", option_help, config, member), \
		OPTION("version", 0, NULL, "print the version and exit", option_help, config,     \
		       member)
#define OPTIONS_COMMON(config, member) OPTIONS_COMMON_OF(0, 0, config, member)

/* -t for programs that only know TCP, -t and -u for those that also know UDP. */
#define OPTIONS_TCP(config, member) \
	OPTION("tcp", 't', NULL, "TCP (the default)", option_flag, config, member.tcp)
#define OPTIONS_TCP_UDP(config, member) OPTIONS_TCP_UDP_OF(0, config, member)
#define OPTIONS_TCP_UDP_OF(commands, config, member)                                            \
	OPTION_OF(commands, "tcp", 't', NULL, "TCP (the default)", option_flag, config,         \
		  member.tcp),                                                                  \
		OPTION_OF(commands, "udp", 'u', NULL, "UDP; with -t both", option_flag, config, \
			  member.udp)

/* Setters for common types; the field's type is given in each comment. */
option_setter option_flag;     /* bool: true */
option_setter option_text;     /* const char *: borrowed from argv */
option_setter option_choice;   /* int: index of the word among self->arg's `a|b|c` */
option_setter option_count;    /* uint64_t: 1 and above; 0 is refused */
option_setter option_number;   /* uint32_t: any */
option_setter option_duration; /* uint64_t: milliseconds */
option_setter option_mark;     /* struct mark */
option_setter option_cidrs;    /* struct cidr_list: comma list, accumulates */
option_setter option_ports;    /* struct port_list: accumulates */
option_setter option_quiet, option_verbose, option_help;

/* What options_parse() returns when the program should go on. */
#define OPTIONS_GO_ON (-1)

/*
 * Parse the command line. Returns OPTIONS_GO_ON, or the status to exit with at once: STATUS_DONE
 * after --help or --version (printed), STATUS_USAGE after a message that names the offending word.
 */
int options_parse(const struct options_program *program, int argc, char **argv, void *config,
		  struct options_rest *rest);

/* Options from a file, like those on the command line of one command. */
struct options_file {
	const char *path;
	int command;	       /* index into commands */
	int count;	       /* number of words */
	char **words;	       /* like argv: [0] is not an option, NULL ends them */
	const unsigned *lines; /* the line of each word */
};

/*
 * Read them into config, and note in *rest which were given; options from the command line are
 * kept. Neither operands nor --help are allowed. Returns like options_parse(); messages begin with
 * file and line, and from now on messages of options_misuse() with the file.
 */
int options_parse_file(const struct options_program *program, const struct options_file *file,
		       void *config, struct options_rest *rest);

/* Was the option with that long name on the command line? */
bool options_given(const struct options_program *program, const struct options_rest *rest,
		   const char *name);

/* Print a usage error (with the pointer to --help) and return STATUS_USAGE. */
int options_misuse(const struct options_program *program, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Does the user want this family or protocol, with defaults applied (both families; TCP)? */
bool options_wants_family(const struct options_common *common, int family);
bool options_wants_tcp(const struct options_common *common);
bool options_wants_udp(const struct options_common *common);

#endif
