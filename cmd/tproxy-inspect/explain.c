/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain.h"

#include "tproxy-inspect/explain/view.h"
#include "tproxy-inspect/explain/walk.h"
#include "tproxy-inspect/socket_record.h"
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const enum record_field explain_columns[] = { RECORD_STEP, RECORD_SEVERITY, RECORD_WHERE,
						     RECORD_EVIDENCE };
#define MORE (RECORD_BIT(RECORD_FIX) | RECORD_BIT(RECORD_REASON))

/* --- the question ----------------------------------------------------------------------------- */

/* An address alone means any port of the client. */
static int parse_client(const char *text, struct endpoint *out, struct failure *why)
{
	if (!endpoint_parse_address(text, out, NULL) || !endpoint_parse(text, out, why))
		return 0;
	return report_about(why, "CLIENT %s", text);
}

static int parse_question(const struct config *config, char **operands, struct view_question *q,
			  struct failure *why)
{
	if (config->common.tcp && config->common.udp)
		return report_refuse(why, "--tcp and --udp: a packet is of one protocol");
	q->protocol = config->common.udp ? IPPROTO_UDP : IPPROTO_TCP;
	q->iif = config->iif;
	if (parse_client(operands[0], &q->client, why))
		return -1;
	if (endpoint_parse(operands[1], &q->destination, why))
		return report_about(why, "DESTINATION %s", operands[1]);
	if (options_wants_family(&config->common, q->destination.family))
		return 0;
	return report_refuse(why, "DESTINATION %s: is of the other family than %s", operands[1],
			     config->common.ipv4 ? "--ipv4" : "--ipv6");
}

/* --- the answer ------------------------------------------------------------------------------- */

static void put_step(struct record_table *table, const struct step *step)
{
	struct record r;

	record_begin(&r, "step");
	record_text(&r, RECORD_STEP, step->name);
	record_text(&r, RECORD_SEVERITY, step_severity_name(step->severity));
	record_text(&r, RECORD_WHERE, step->where);
	record_text(&r, RECORD_EVIDENCE, step->evidence);
	record_table_put(table, &r);
}

static bool is_delivered(const struct view *v)
{
	return !strcmp(v->steps.reason, "delivered");
}

static void put_owner(struct record *r, const struct view *v)
{
	if (v->by)
		record_text(r, RECORD_INSTANCE, v->by->name);
	if (v->listener.local.port && !v->established)
		record_endpoint(r, RECORD_LISTENER, &v->listener.local);
	if (v->holder.pid)
		record_number(r, RECORD_PID, (uint64_t)v->holder.pid);
}

static void put_verdict(struct record_table *table, const struct view *v)
{
	struct record r;

	record_begin(&r, "verdict");
	record_text(&r, RECORD_PROTO, socket_record_proto(v->protocol));
	record_endpoint(&r, RECORD_CLIENT, &v->client);
	record_endpoint(&r, RECORD_ORIGDST, &v->destination);
	if (!v->own)
		record_text(&r, RECORD_IIF, v->iif.name);
	put_owner(&r, v);
	record_text(&r, RECORD_STEP, "verdict");
	record_text(&r, RECORD_SEVERITY, is_delivered(v) ? "ok" : v->blind ? "warn" : "fail");
	record_text(&r, RECORD_WHERE, v->steps.reason);
	record_text(&r, RECORD_REASON, v->steps.reason);
	record_text(&r, RECORD_EVIDENCE, v->steps.words);
	record_text(&r, RECORD_FIX, v->steps.fix);
	record_table_put(table, &r);
}

/* The command in a row of its own, for a person to read and copy. */
static void put_fix(struct record_table *table, const struct view *v)
{
	struct record r;

	if (table->json || !*v->steps.fix || record_table_has(table, RECORD_FIX))
		return;
	record_begin(&r, "fix");
	record_text(&r, RECORD_STEP, "fix");
	record_text(&r, RECORD_EVIDENCE, v->steps.fix);
	record_table_put(table, &r);
}

static int answer(struct view *v, struct record_table *table)
{
	for (size_t i = 0; i < v->steps.count; i++)
		put_step(table, &v->steps.at[i]);
	put_verdict(table, v);
	put_fix(table, v);
	if (v->blind)
		return STATUS_REFUSED;
	return is_delivered(v) ? STATUS_DONE : STATUS_NO;
}

int explain_run(const struct config *config, char **operands)
{
	struct view_question question = { 0 };
	struct record_table table;
	struct failure why = { 0 };
	struct view view;
	bool usage = false;
	int status, err;

	if (parse_question(config, operands, &question, &why) ||
	    record_table_init(&table, &config->style, explain_columns,
			      sizeof(explain_columns) / sizeof(*explain_columns), MORE, &why))
		return report_failure(&why, STATUS_USAGE);
	err = view_open(&view, &question, &usage, &why);
	if (!err)
		err = walk_packet(&view, &why);
	if (err) {
		view_close(&view);
		return report_failure(&why, usage ? STATUS_USAGE : STATUS_REFUSED);
	}
	record_table_fit(&table);
	status = answer(&view, &table);
	record_table_end(&table);
	view_close(&view);
	return status;
}
