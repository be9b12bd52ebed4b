/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/origdst.h"

#include "tproxy-inspect/origin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum record_field origdst_columns[] = { RECORD_LOCAL, RECORD_PEER, RECORD_ORIGDST,
						     RECORD_ORIGDST_BY };

static int parse_pair(const char *local, const char *peer, struct origin_question *q,
		      struct failure *why)
{
	if (endpoint_parse(local, &q->local, why) < 0)
		return report_about(why, "%s", local);
	if (endpoint_parse(peer, &q->peer, why) < 0)
		return report_about(why, "%s", peer);
	if (q->local.family == q->peer.family)
		return 0;
	report_refuse(why, "of different address families");
	return report_about(why, "%s %s", local, peer);
}

/* Ask and print. One record comes for every question, so that pipelines keep their lines. */
static int answer_one(struct origin *o, struct record_table *table, struct origin_question *q)
{
	struct failure why = { 0 };
	struct record r;
	int found = origin_find(o, q, &why);

	record_begin(&r, "origdst");
	record_text(&r, RECORD_PROTO, "tcp");
	record_endpoint(&r, RECORD_LOCAL, &q->local);
	record_endpoint(&r, RECORD_PEER, &q->peer);
	if (found == 1) {
		record_endpoint(&r, RECORD_ORIGDST, &q->origdst);
		record_text(&r, RECORD_ORIGDST_BY, transparent_origin_name(q->origin));
	}
	record_table_put(table, &r);
	fflush(stdout); /* somebody may be waiting for this answer before asking the next */
	if (found < 0)
		return report_failure(&why, STATUS_REFUSED);
	return found ? STATUS_DONE : STATUS_NO;
}

static int answer_pair(struct origin *o, struct record_table *table, char **pair)
{
	struct failure why = { 0 };
	struct origin_question q;
	int status;

	if (parse_pair(pair[0], pair[1], &q, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	status = answer_one(o, table, &q);
	if (status == STATUS_NO)
		report_notice("%s %s: no such connection here", pair[0], pair[1]);
	return status;
}

static int answer_line(struct origin *o, struct record_table *table, char *line, unsigned number)
{
	static const char blanks[] = " \t\r\n";
	char *rest = NULL, *local = strtok_r(line, blanks, &rest);
	char *peer = strtok_r(NULL, blanks, &rest);
	struct failure why = { 0 };
	struct origin_question q;

	if (!local)
		return STATUS_DONE;
	if (!peer)
		report_refuse(&why, "needs two endpoints, LOCAL and PEER");
	if (!peer || parse_pair(local, peer, &q, &why) < 0) {
		char text[512];

		report_error("line %u: %s", number, report_text(&why, text, sizeof(text)));
		return STATUS_USAGE;
	}
	return answer_one(o, table, &q);
}

/* The status of many answers is the gravest. */
static int answer_stdin(struct origin *o, struct record_table *table)
{
	char *line = NULL;
	size_t room = 0;
	int worst = STATUS_DONE;

	for (unsigned number = 1; getline(&line, &room, stdin) >= 0; number++) {
		int status = answer_line(o, table, line, number);

		if (status > worst)
			worst = status;
	}
	free(line);
	return worst;
}

int origdst_run(const struct config *config, char **operands)
{
	bool from_stdin = !strcmp(operands[0], "-");
	struct record_table table;
	struct failure why = { 0 };
	struct origin o;
	int status;

	if (record_table_init(&table, &config->style, origdst_columns,
			      sizeof(origdst_columns) / sizeof(*origdst_columns), 0, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	if (origin_open(&o, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	status = from_stdin ? answer_stdin(&o, &table) : answer_pair(&o, &table, operands);
	origin_close(&o);
	return status;
}
