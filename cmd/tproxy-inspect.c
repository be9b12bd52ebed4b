/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-inspect - show the endpoints of sockets: peer, original destination, flags, mark, owner;
 * explain what the kernel does with a packet.
 *
 * Reads the kernel's own lists and changes nothing. If an answer needs a missing privilege it says
 * so instead of giving a wrong answer.
 */
#include "net/netns.h"
#include "net/sockdiag.h"
#include "tproxy-inspect/explain.h"
#include "tproxy-inspect/export.h"
#include "tproxy-inspect/fd.h"
#include "tproxy-inspect/kill.h"
#include "tproxy-inspect/origdst.h"
#include "tproxy-inspect/pairs.h"
#include "tproxy-inspect/sockets.h"
#include "tproxy-inspect/watch.h"
#include <stdio.h>
#include <string.h>

enum command {
	COMMAND_SOCKETS,
	COMMAND_FD,
	COMMAND_ORIGDST,
	COMMAND_PAIRS,
	COMMAND_WATCH,
	COMMAND_EXPLAIN,
	COMMAND_KILL,
	COMMAND_EXPORT
};
#define SOCKETS (1 << COMMAND_SOCKETS)
#define PAIRS	(1 << COMMAND_PAIRS)
#define WATCH	(1 << COMMAND_WATCH)
#define EXPLAIN (1 << COMMAND_EXPLAIN)
#define KILL	(1 << COMMAND_KILL)
#define EXPORT	(1 << COMMAND_EXPORT)
#define ALL	(SOCKETS | WATCH | KILL)
#define FILTER	(SOCKETS | PAIRS | WATCH | KILL)

static const struct option_command commands[] = {
	{ "sockets", "sockets with both endpoints, transparent flag, mark, owner" },
	{ "fd", "everything about one socket: FD (inherited) or PID:FD" },
	{ "origdst", "original destination of the connection whose socket here\n"
		     "has the ends LOCAL and PEER; - reads pairs from stdin" },
	{ "pairs", "the two halves of each relayed connection, joined" },
	{ "watch", "connections as they open and close; on a terminal a live\nscreen" },
	{ "explain", "what the kernel does with a packet from CLIENT\n"
		     "(ADDRESS[:PORT]) to DESTINATION (ADDRESS:PORT), and the fix" },
	{ "kill", "reset the connections that match, both halves of relayed\nones" },
	{ "export", "metrics and health of instances and relays, over HTTP" },
	{ 0 },
};

#define SELECT(name, letter, arg, help, set, member) \
	OPTION_OF(FILTER, name, letter, arg, help, set, struct config, member)

static const struct option_spec options[] = {
	OPTION_HEADING("Which sockets (sockets, pairs, watch, kill):"),
	OPTION_OF(ALL, "all", 'a', NULL, "also sockets that are not transparent", option_flag,
		  struct config, filter.all),
	SELECT("transparent", 0, NULL, "transparent ones only (the default)", option_flag,
	       filter.transparent),
	SELECT("state", 0, "LIST", "in one of these states, as ss(8) names them (any)",
	       filter_set_states, filter.states),
	SELECT("local", 0, "CIDR[:PORTS]", "with this local address; *:PORTS for any address",
	       match_option, filter.local),
	SELECT("peer", 0, "CIDR[:PORTS]", "with this peer address", match_option, filter.peer),
	SELECT("mark", 0, "MARK", "with this mark (CAP_NET_ADMIN)", filter_set_mark, filter),
	SELECT("pid", 0, "PID", "held by this process", option_count, filter.pid),
	SELECT("prog", 0, "NAME", "held by a process of this name", option_text, filter.prog),
	OPTION("netns", 0, "NAME|PID", "in this network namespace", option_text, struct config,
	       netns),
	OPTIONS_TCP_UDP(struct config, common),
	OPTION_OF(PAIRS, "stuck", 0, NULL, "only those that one side holds up", option_flag,
		  struct config, stuck),
	OPTION_OF(WATCH, "until", 0, "EXPR",
		  "end with the first record that meets all terms of EXPR,\n"
		  "FIELD=VALUE (!= < <= > >=) separated by blanks",
		  option_text, struct config, until),
	OPTION_OF(WATCH, "timeout", 0, "T",
		  "end after that time, with status 1 if --until did not come", option_duration,
		  struct config, timeout),
	OPTION_OF(EXPLAIN, "iif", 0, "IF",
		  "the packet arrives there (the interface towards the client)", option_text,
		  struct config, iif),
	OPTION_OF(EXPLAIN, "live", 0, "T",
		  "watch real packets of it for that time, and say where they\n"
		  "depart; CLIENT and DESTINATION may be any, their ports, too",
		  option_duration, struct config, live),
	OPTION_OF(KILL, "dry-run", 0, NULL, "show what would be reset, and reset nothing",
		  option_flag, struct config, dry_run),
	OPTION_HEADING("Service (export):"),
	OPTION_OF(
		EXPORT, "listen", 0, "ENDPOINT",
		"where /metrics and /healthz are served; a bare PORT is\nloopback of both families",
		option_text, struct config, listen),
	OPTION_OF(EXPORT, "doctor-interval", 0, "T",
		  "have tproxy-setup doctor look at each instance at most\nthat often (1m); 0 "
		  "never",
		  option_duration, struct config, doctor_interval),
	OPTION_OF(EXPORT, "user", 0, "NAME[:GROUP]",
		  "answer requests as this user (as root: tproxy, else\nnobody), without "
		  "capabilities",
		  privilege_option_user, struct config, user),
	OPTION_OF(EXPORT, "no-sandbox", 0, NULL, "answer them without seccomp and Landlock",
		  option_flag, struct config, no_sandbox),
	OPTION_HEADING("Output:"),
	RECORD_TABLE_OPTIONS(struct config, style),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "all", "transparent" },
	{ "no-header", "json" },
	{ "columns", "json" },
	{ 0 },
};

static const struct options_program program = {
	.name = "tproxy-inspect",
	.summary = "Show sockets with peer, original destination, flags, mark and owner.",
	.usage = "tproxy-inspect [sockets] [OPTION...]\n"
		 "tproxy-inspect fd [OPTION...] FD | PID:FD\n"
		 "tproxy-inspect origdst [OPTION...] LOCAL PEER | -\n"
		 "tproxy-inspect pairs [OPTION...]\n"
		 "tproxy-inspect watch [OPTION...]\n"
		 "tproxy-inspect explain [OPTION...] CLIENT DESTINATION\n"
		 "tproxy-inspect kill [OPTION...]\n"
		 "tproxy-inspect export --listen ENDPOINT [OPTION...]",
	.commands = commands,
	.default_command = COMMAND_SOCKETS,
	.options = options,
	.conflicts = conflicts,
	.epilogue = "Columns and fields are explained in tproxy-tools(7), all else in "
		    "tproxy-inspect(1).",
};

/* The operands of a command. */
static const struct {
	int (*run)(const struct config *config, char **operands);
	int least, most;
	const char *needs; /* with other operands: what it should have been */
} runs[] = {
	[COMMAND_SOCKETS] = { sockets_run, 0, 0, NULL },
	[COMMAND_FD] = { fd_run, 1, 1, "fd: which one? FD or PID:FD" },
	[COMMAND_PAIRS] = { pairs_run, 0, 0, "pairs: takes no operand" },
	[COMMAND_WATCH] = { watch_run, 0, 0, "watch: takes no operand" },
	[COMMAND_EXPLAIN] = { explain_run, 2, 2,
			      "explain: needs CLIENT and DESTINATION: 192.0.2.2 198.51.100.2:80" },
	[COMMAND_KILL] = { kill_run, 0, 0, "kill: takes no operand; options say which sockets" },
	[COMMAND_EXPORT] = { export_run, 0, 0, "export: takes no operand" },
	[COMMAND_ORIGDST] = { origdst_run, 1, 2, "origdst: needs LOCAL and PEER, or -" },
};

static int check_operands(const struct options_rest *rest)
{
	int count = rest->count;

	if (rest->wrapped)
		return options_misuse(&program, "--: no command is run here");
	if (rest->command == COMMAND_SOCKETS && count)
		return options_misuse(&program, "%s: no such command", rest->operands[0]);
	if (count < runs[rest->command].least || count > runs[rest->command].most ||
	    (rest->command == COMMAND_ORIGDST && (count == 1) == !!strcmp(rest->operands[0], "-")))
		return options_misuse(&program, "%s", runs[rest->command].needs);
	if (rest->command == COMMAND_EXPORT && !options_given(&program, rest, "listen"))
		return options_misuse(&program, "export: where? --listen PORT or ADDRESS:PORT");
	return OPTIONS_GO_ON;
}

int main(int argc, char **argv)
{
	struct config config = { .doctor_interval = 60 * 1000 };
	struct options_rest rest;
	struct failure why = { 0 };
	int status;

	report_init(program.name);
	status = options_parse(&program, argc, argv, &config, &rest);
	if (status == OPTIONS_GO_ON)
		status = check_operands(&rest);
	if (status != OPTIONS_GO_ON)
		return status;
	config.style.json = config.common.json;
	filter_settle(&config.filter, &config.common);
	/* (A descriptor is fetched first: entering may lose the rights over its process.) */
	if (config.netns && rest.command != COMMAND_FD && netns_enter(config.netns, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	status = runs[rest.command].run(&config, rest.operands);
	filter_free(&config.filter);
	return report_close_stdout(status);
}
