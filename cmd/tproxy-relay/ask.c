/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/ask.h"

#include "base/record_parse.h"
#include "base/record_table.h"
#include "base/report.h"
#include "net/relay_client.h"
#include "tproxy-relay/arguments.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const enum record_field connection_columns[] = {
	RECORD_STATE,	 RECORD_CLIENT,	    RECORD_ORIGDST,
	RECORD_BYTES_UP, RECORD_BYTES_DOWN, RECORD_IDLE_MS,
};
#define CONNECTION_MORE                                                                     \
	(RECORD_BIT(RECORD_ID) | RECORD_BIT(RECORD_PROTO) | RECORD_BIT(RECORD_ORIGDST_BY) | \
	 RECORD_BIT(RECORD_LISTENER) | RECORD_BIT(RECORD_COOKIE) |                          \
	 RECORD_BIT(RECORD_UPSTREAM_COOKIE) | RECORD_BIT(RECORD_UPSTREAM_LOCAL) |           \
	 RECORD_BIT(RECORD_UPSTREAM) | RECORD_BIT(RECORD_SOURCE_KEPT) |                     \
	 RECORD_BIT(RECORD_PACKETS_UP) | RECORD_BIT(RECORD_PACKETS_DOWN) |                  \
	 RECORD_BIT(RECORD_DURATION_MS) | RECORD_BIT(RECORD_UNIQUE_ID))
static const enum record_field counter_columns[] = { RECORD_CHECK, RECORD_COUNT };

/* Indexed by the values of --ask. */
static const struct question {
	const char *command;
	const enum record_field *columns;
	size_t count;
	uint64_t more;
} questions[] = {
	{ "connections", connection_columns,
	  sizeof(connection_columns) / sizeof(*connection_columns), CONNECTION_MORE },
	{ "counters", counter_columns, 2, 0 },
	{ "drain", counter_columns, 2, 0 },
	{ "lame-duck", counter_columns, 2, 0 },
};

/* ---- whom ---- */

struct search {
	char names[4][RELAY_CLIENT_NAME_MAX];
	size_t found;
};

static int note_relay(const struct relay_client_listener *at, void *context)
{
	struct search *s = context;

	if (s->found < sizeof(s->names) / sizeof(*s->names))
		snprintf(s->names[s->found], sizeof(s->names[0]), "%s", at->name);
	s->found++;
	return 0;
}

/* Find the only relay that runs. */
static int find_only(char name[RELAY_CLIENT_NAME_MAX])
{
	struct search s = { .found = 0 };
	struct failure why = { 0 };

	if (relay_client_each(note_relay, &s, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (!s.found) {
		report_error("no relay can be asked in this network namespace");
		return STATUS_NO;
	}
	if (s.found > 1)
		return options_misuse(&arguments_program,
				      "--ask: %zu relays run here: which one? %s, %s%s", s.found,
				      s.names[0], s.names[1], s.found > 2 ? ", ..." : "");
	memcpy(name, s.names[0], sizeof(s.names[0]));
	return OPTIONS_GO_ON;
}

static int find_relay(const struct options_rest *rest, char name[RELAY_CLIENT_NAME_MAX],
		      const char **who)
{
	const char *operand = rest->count ? rest->operands[0] : NULL;
	uint64_t pid;

	*who = name;
	if (!operand)
		return find_only(name);
	if (operand[0] == '@' || strchr(operand, '/')) {
		*who = operand;
		return OPTIONS_GO_ON;
	}
	if (quantity_number(operand, 1, INT32_MAX, &pid, NULL) < 0)
		return options_misuse(&arguments_program,
				      "--ask: '%s' is no pid, @NAME or path of a relay", operand);
	snprintf(name, RELAY_CLIENT_NAME_MAX, "@tproxy-relay/%d", (int)pid);
	return OPTIONS_GO_ON;
}

/* ---- what ---- */

/* --ask excludes all options that configure a relay. */
static int check_options(const struct options_rest *rest)
{
	static const char *const allowed[] = { "ask",  "columns", "no-header",
					       "json", "quiet",	  "verbose" };

	for (const struct option_spec *o = arguments_program.options; o->name; o++) {
		bool fits = !o->name[0] || !options_given(&arguments_program, rest, o->name);

		for (size_t i = 0; !fits && i < sizeof(allowed) / sizeof(*allowed); i++)
			fits = strcmp(o->name, allowed[i]) == 0;
		if (!fits)
			return options_misuse(&arguments_program,
					      "--%s and --ask contradict each other", o->name);
	}
	if (rest->wrapped)
		return options_misuse(&arguments_program, "--: runs no command");
	if (rest->count > 1)
		return options_misuse(&arguments_program, "--ask: one relay at a time, not %s",
				      rest->operands[1]);
	return OPTIONS_GO_ON;
}

/* The record of the answering relay does not go into a table, nor to a user who named the relay. */
static int print(const struct record *r, const struct relay_client_peer *peer, void *context,
		 struct failure *why)
{
	struct record_table *table = context;

	if (strcmp(record_get_text(r, RECORD_TYPE), "relay") != 0 || table->json)
		record_table_put(table, r);
	return 0;
}

static int ask(const struct config *config, const char *who)
{
	const struct question *q = &questions[config->ask];
	const struct record_style style = { config->columns, config->no_header,
					    config->common.json };
	struct record_table table;
	struct failure why = { 0 };
	int result;

	if (record_table_init(&table, &style, q->columns, q->count, q->more, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	record_table_fit(&table);
	result = relay_client_ask(who, q->command, print, &table, &why);
	record_table_end(&table);
	if (result == 0)
		return report_close_stdout(STATUS_DONE);
	report_close_stdout(STATUS_DONE);
	return report_failure(&why, why.err == ECONNREFUSED || why.err == ENOENT ? STATUS_NO
										 : STATUS_REFUSED);
}

int ask_run(const struct config *config, const struct options_rest *rest)
{
	char name[RELAY_CLIENT_NAME_MAX];
	const char *who;
	int status = check_options(rest);

	if (status == OPTIONS_GO_ON)
		status = find_relay(rest, name, &who);
	return status == OPTIONS_GO_ON ? ask(config, who) : status;
}
