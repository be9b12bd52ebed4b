/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/origdst.h"

#include "tproxy-inspect/origin.h"
#include "tproxy-inspect/socket_record.h"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum record_field origdst_columns[] = { RECORD_LOCAL, RECORD_PEER, RECORD_ORIGDST,
						     RECORD_ORIGDST_BY };

/* A connection by the ends of its socket here. */
struct question {
	int protocol;
	struct endpoint local, peer;
};

/* What answers them. */
struct answering {
	const struct config *config;
	struct origin *origin;
	struct record_table table;
};

static int parse_pair(const char *local, const char *peer, struct question *q, struct failure *why)
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

/* Ask for each selected protocol, until one is found. Returns as origin_find(). */
static int ask(struct answering *a, struct question *q, struct origin_answer *answer, bool *there,
	       struct failure *why)
{
	const struct filter *f = &a->config->filter;
	int found = 0;

	*there = false;
	origin_forget(a->origin);
	if (f->tcp) {
		q->protocol = IPPROTO_TCP;
		found = origin_find(a->origin, IPPROTO_TCP, &q->local, &q->peer, answer, there,
				    why);
	}
	if (f->udp && !found && !*there) {
		q->protocol = IPPROTO_UDP;
		found = origin_find(a->origin, IPPROTO_UDP, &q->local, &q->peer, answer, there,
				    why);
	}
	return found;
}

/* Ask and print. Every question yields one record, so that pipelines keep their lines. */
static int answer_one(struct answering *a, struct question *q)
{
	struct origin_answer answer;
	struct failure why = { 0 };
	char local[ENDPOINT_TEXT_MAX], peer[ENDPOINT_TEXT_MAX];
	struct record r;
	bool there;
	int found = ask(a, q, &answer, &there, &why);

	record_begin(&r, "origdst");
	record_text(&r, RECORD_PROTO, socket_record_proto(q->protocol));
	record_endpoint(&r, RECORD_LOCAL, &q->local);
	record_endpoint(&r, RECORD_PEER, &q->peer);
	if (found == 1)
		socket_record_origin(&r, &answer);
	record_table_put(&a->table, &r);
	record_table_flush(
		&a->table); /* the reader may wait for this answer before asking the next */
	if (found < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (!found)
		report_notice(
			"%s -> %s: %s", endpoint_format(&q->peer, peer),
			endpoint_format(&q->local, local),
			there ? "unknown: both halves of a relayed UDP flow are here and look alike"
			      : "no such connection here");
	return found ? STATUS_DONE : STATUS_NO;
}

static int answer_pair(struct answering *a, char **pair)
{
	struct failure why = { 0 };
	struct question q;

	if (parse_pair(pair[0], pair[1], &q, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	return answer_one(a, &q);
}

/* Returns STATUS_NO for an invalid line, after reporting it. */
static int answer_line(struct answering *a, char *line, unsigned number)
{
	static const char blanks[] = " \t\r\n";
	char *rest = NULL, *local = strtok_r(line, blanks, &rest);
	char *peer = strtok_r(NULL, blanks, &rest);
	struct failure why = { 0 };
	struct question q;
	char text[512];

	if (!local)
		return STATUS_DONE;
	if (!peer || strtok_r(NULL, blanks, &rest))
		report_refuse(&why, "needs two endpoints, LOCAL and PEER");
	else if (parse_pair(local, peer, &q, &why) == 0)
		return answer_one(a, &q);
	report_error("line %u: %s", number, report_text(&why, text, sizeof(text)));
	return STATUS_NO;
}

/* The status of many answers is the worst one. */
static int answer_stdin(struct answering *a)
{
	char *line = NULL;
	size_t room = 0;
	int worst = STATUS_DONE;

	for (unsigned number = 1; getline(&line, &room, stdin) >= 0; number++) {
		int status = answer_line(a, line, number);

		if (status > worst)
			worst = status;
	}
	free(line);
	return worst;
}

int origdst_run(const struct config *config, char **operands)
{
	struct answering a = { .config = config };
	struct failure why = { 0 };
	int status;

	if (record_table_init(&a.table, &config->style, origdst_columns,
			      sizeof(origdst_columns) / sizeof(*origdst_columns),
			      RECORD_BIT(RECORD_PROTO), &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	a.origin = origin_open(&why);
	if (!a.origin)
		return report_failure(&why, STATUS_REFUSED);
	record_table_fit(&a.table);
	status = strcmp(operands[0], "-") ? answer_pair(&a, operands) : answer_stdin(&a);
	record_table_end(&a.table);
	origin_close(a.origin);
	return status;
}
