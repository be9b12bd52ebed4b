/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/options.h"
#include "base/endpoint.h"
#include "base/quantity.h"
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct config {
	struct options_common common;
	struct mark mark;
	struct port_list ports;
	uint64_t max, drain;
	int policy;
	bool own, other;
};

static const struct option_command commands[] = { { "up", "install" },
						  { "down", "remove" },
						  { 0 } };

static const struct option_spec specs[] = {
	OPTION("mark", 0, "MARK", "the mark", option_mark, struct config, mark),
	OPTION("port", 'p', "LIST", "ports\nsecond line", option_ports, struct config, ports),
	OPTION("max", 'c', "N", "limit", option_count, struct config, max),
	OPTION("policy", 0, "reject|drop|pass", "policy", option_choice, struct config, policy),
	OPTION_OF(1 << 1, "drain", 0, "T", "only down", option_duration, struct config, drain),
	OPTION("own", 0, NULL, "own", option_flag, struct config, own),
	OPTION("other", 0, NULL, "other", option_flag, struct config, other),
	OPTIONS_COMMON(struct config, common),
	OPTIONS_TCP_UDP(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = { { "own", "other" }, { 0 } };

static const struct options_program program = {
	.name = "prog",
	.summary = "Does one thing.",
	.usage = "prog up\nprog down",
	.commands = commands,
	.default_command = -1,
	.options = specs,
	.conflicts = conflicts,
};

static char output[8192];

/* Run options_parse() on a blank-separated command line; what it prints lands in output. */
static int parse(const char *line, struct config *config, struct options_rest *rest)
{
	static char copy[512], *argv[32];
	int argc = 0, fds[2], out = dup(1), err = dup(2), status;
	ssize_t n;

	memset(config, 0, sizeof(*config));
	argv[argc++] = (char *)"prog";
	strcpy(copy, line);
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
		argv[argc++] = p;
	argv[argc] = NULL;
	CHECK(pipe(fds) == 0);
	dup2(fds[1], 2);
	close(fds[1]);
	status = options_parse(&program, argc, argv, config, rest);
	dup2(err, 2);
	dup2(out, 1);
	close(err);
	close(out);
	n = read(fds[0], output, sizeof(output) - 1);
	output[n < 0 ? 0 : n] = '\0';
	close(fds[0]);
	return status;
}

static void misuse(const char *line, const char *message)
{
	struct options_rest rest;
	struct config config;
	char expected[512];

	CHECK(parse(line, &config, &rest) == STATUS_USAGE);
	snprintf(expected, sizeof(expected), "prog: %s\n", message);
	CHECK_TEXT(output, expected);
	endpoint_ports_free(&config.ports);
}

static void test_misuse(void)
{
	misuse("up --mark 0x300/0xff", "--mark 0x300/0xff: value has bits outside its mask");
	misuse("up -p 0", "--port 0: '0' is not a port from 1 to 65535");
	misuse("up -c 0", "--max 0: must be from 1 to 4294967295");
	misuse("up --policy maybe", "--policy maybe: must be one of reject|drop|pass");
	misuse("up --policy dro", "--policy dro: must be one of reject|drop|pass");
	misuse("up --nonsense", "--nonsense: no such option (or an ambiguous abbreviation); "
				"see 'prog --help'");
	misuse("up -Z", "-Z: no such option; see 'prog --help'");
	misuse("up --mark", "--mark: needs an argument: MARK; see 'prog --help'");
	misuse("up -p", "-p: needs an argument: LIST; see 'prog --help'");
	misuse("up --own=1", "--own=1: takes no argument; see 'prog --help'");
	misuse("sideways", "sideways: no such command; there are up, down; see 'prog --help'");
	misuse("", "which command? up, down; see 'prog --help'");
	misuse("up --drain 5", "--drain: not an option of 'prog up'; see 'prog --help'");
	misuse("up --own --other", "--own and --other contradict each other; see 'prog --help'");
}

static void test_values(void)
{
	struct options_rest rest;
	struct config c;

	CHECK(parse("-p80 down a --port=443,444 b --drain 2m -46 --max 7 --policy pass -- x --own",
		    &c, &rest) == OPTIONS_GO_ON);
	CHECK(rest.command == 1 && rest.count == 2);
	CHECK_TEXT(rest.operands[0], "a");
	CHECK_TEXT(rest.operands[1], "b");
	CHECK(rest.wrapped && !strcmp(rest.wrapped[0], "x") && !strcmp(rest.wrapped[1], "--own"));
	CHECK(rest.wrapped && !rest.wrapped[2]);
	CHECK(c.ports.count == 2 && c.drain == 120000 && c.max == 7 && c.policy == 2 && !c.own);
	CHECK(options_given(&program, &rest, "port") && !options_given(&program, &rest, "own"));
	CHECK(options_wants_family(&c.common, AF_INET) &&
	      options_wants_family(&c.common, AF_INET6));
	endpoint_ports_free(&c.ports);
	CHECK(parse("up -6 -u", &c, &rest) == OPTIONS_GO_ON && !rest.wrapped);
	CHECK(!options_wants_family(&c.common, AF_INET) &&
	      options_wants_family(&c.common, AF_INET6));
	CHECK(options_wants_udp(&c.common) && !options_wants_tcp(&c.common));
	CHECK(parse("up", &c, &rest) == OPTIONS_GO_ON);
	CHECK(options_wants_tcp(&c.common) && !options_wants_udp(&c.common));
}

int main(void)
{
	report_init("prog");
	test_misuse();
	test_values();
	return check_done();
}
