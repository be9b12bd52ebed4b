/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain.h"

#include "tproxy-inspect/explain/departure.h"
#include "tproxy-inspect/explain/observe.h"
#include "tproxy-inspect/explain/view.h"
#include "tproxy-inspect/explain/walk.h"
#include "tproxy-inspect/socket_record.h"
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum record_field explain_columns[] = { RECORD_STEP, RECORD_SEVERITY, RECORD_WHERE,
						     RECORD_EVIDENCE };
#define MORE (RECORD_BIT(RECORD_FIX) | RECORD_BIT(RECORD_REASON) | RECORD_BIT(RECORD_TIME))

/* --- the question ----------------------------------------------------------------------------- */

/* `any` alone, or as one part of it, before or after the last colon. */
static int parse_any(const char *text, struct endpoint *out, struct failure *why)
{
	char address[ENDPOINT_TEXT_MAX] = "";
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	uint64_t port;

	*out = (struct endpoint){ 0 };
	if (!strcmp(text, "any") || !strcmp(text, "*"))
		return 0;
	if (!strncmp(text, "any:", 4) || !strncmp(text, "*:", 2)) {
		if (quantity_number(colon + 1, 1, UINT16_MAX, &port, why))
			return -1;
		out->port = (uint16_t)port;
		return 0;
	}
	if (!colon || strcmp(colon, ":any") || length >= sizeof(address))
		return endpoint_parse(text, out, why);
	memcpy(address, text, length);
	if (*address == '[' && address[length - 1] == ']') {
		address[length - 1] = '\0';
		return endpoint_parse_address(address + 1, out, why);
	}
	return endpoint_parse_address(address, out, why);
}

/* An address alone means any port: of the client, and with --live of the destination, too. */
static int parse_end(const char *what, const char *text, bool alone, bool live,
		     struct endpoint *out, struct failure *why)
{
	if (alone && !endpoint_parse_address(text, out, NULL))
		return 0;
	if (live ? !parse_any(text, out, why) : !endpoint_parse(text, out, why))
		return 0;
	if (!live && (!strncmp(text, "any", 3) || strstr(text, ":any")))
		report_hint(why, "only with --live T it may be any");
	return report_about(why, "%s %s", what, text);
}

/* The family of both ends, and of the options; AF_UNSPEC: any. */
static int parse_family(const struct config *config, char **operands, const struct view_question *q,
			int *family, struct failure *why)
{
	const struct options_common *c = &config->common;

	if (q->client.family && q->destination.family && q->client.family != q->destination.family)
		return report_refuse(why, "CLIENT and DESTINATION are of different families");
	*family = q->destination.family ? q->destination.family : q->client.family;
	if (!*family)
		*family = c->ipv4 == c->ipv6 ? AF_UNSPEC : c->ipv4 ? AF_INET : AF_INET6;
	if (!*family || options_wants_family(c, *family))
		return 0;
	return report_refuse(why, "DESTINATION %s: is of the other family than %s", operands[1],
			     c->ipv4 ? "--ipv4" : "--ipv6");
}

static int parse_question(const struct config *config, char **operands, struct view_question *q,
			  int *family, struct failure *why)
{
	bool live = config->live;

	if (config->common.tcp && config->common.udp)
		return report_refuse(why, "--tcp and --udp: a packet is of one protocol");
	q->protocol = config->common.udp ? IPPROTO_UDP : IPPROTO_TCP;
	q->iif = config->iif;
	if (parse_end("CLIENT", operands[0], true, live, &q->client, why) ||
	    parse_end("DESTINATION", operands[1], live, live, &q->destination, why))
		return -1;
	return parse_family(config, operands, q, family, why);
}

/* --- the answer ------------------------------------------------------------------------------- */

static void put_step(struct record_table *table, const struct step *step)
{
	struct record r;

	record_begin(&r, "step");
	if (step->time)
		record_time(&r, step->time);
	record_text(&r, RECORD_STEP, step->name);
	record_text(&r, RECORD_SEVERITY, step_severity_name(step->severity));
	record_text(&r, RECORD_WHERE, step->where);
	record_text(&r, RECORD_EVIDENCE, step->evidence);
	record_table_put(table, &r);
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
	record_text(&r, RECORD_SEVERITY,
		    steps_concluded(&v->steps, "delivered") ? "ok"
		    : v->blind				    ? "warn"
							    : "fail");
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
	return steps_concluded(&v->steps, "delivered") ? STATUS_DONE : STATUS_NO;
}

/* --- packets that are seen -------------------------------------------------------------------- */

struct watched {
	struct view *view;
	struct view_question question;
	bool walked, usage;
};

static int walk(struct watched *w, struct failure *why)
{
	if (view_open(w->view, &w->question, &w->usage, why) || walk_packet(w->view, why))
		return -1;
	w->walked = true;
	return 0;
}

/* Now it is known which packet is in question: walk as it does. */
static int meet(struct observation *o, void *context, struct failure *why)
{
	struct watched *w = context;
	char name[IF_NAMESIZE];

	w->question.client = o->fates.tuple.client;
	w->question.destination = o->fates.tuple.destination;
	w->question.opens = o->opens;
	if (o->iif)
		w->question.iif = if_indextoname(o->iif, name);
	if (w->question.iif && !strcmp(w->question.iif, "lo"))
		w->question.iif = NULL;
	if (walk(w, why))
		return -1;
	o->fates.own = w->view->own;
	return 0;
}

/* Nothing came: what would happen, if that can be asked. */
static int walk_unmet(struct watched *w, struct failure *why)
{
	if (w->question.client.family && w->question.destination.family &&
	    w->question.destination.port)
		return walk(w, why);
	w->view->protocol = w->question.protocol;
	w->view->client = w->question.client;
	w->view->destination = w->question.destination;
	return 0;
}

static int observe(const struct config *config, int family, struct watched *w,
		   struct observation *o, struct failure *why)
{
	const struct view_question *q = &w->question;

	o->exact = q->client.family && q->client.port && q->destination.family &&
		   q->destination.port;
	o->fates.tuple = (struct packet_trace_tuple){
		.protocol = q->protocol,
		.family = family,
		.client = q->client,
		.destination = q->destination,
	};
	if (q->iif && !(o->fates.tuple.iif = if_nametoindex(q->iif))) {
		w->usage = true;
		report_refuse(why, "there is no such interface");
		return report_about(why, "--iif %s", q->iif);
	}
	if (o->exact && walk(w, why))
		return -1;
	o->fates.own = w->view->own;
	if (observe_packets(o, config->live, meet, w, why))
		return -1;
	return w->walked ? 0 : walk_unmet(w, why);
}

static int watch(const struct config *config, int family, struct watched *w, struct failure *why)
{
	struct observation *o = calloc(1, sizeof(*o));
	int err;

	if (!o)
		return report_fail(why, ENOMEM, "calloc", "packets");
	err = observe(config, family, w, o, why);
	if (!err)
		departure_judge(w->view, w->walked, o);
	if (!err && w->view->steps.lost)
		err = report_fail(why, ENOMEM, "malloc", "steps");
	drop_reasons_close(o->reasons);
	free(o);
	return err;
}

int explain_run(const struct config *config, char **operands)
{
	struct record_table table;
	struct failure why = { 0 };
	struct view view = { 0 };
	struct watched w = { .view = &view };
	int family, status, err;

	if (parse_question(config, operands, &w.question, &family, &why) ||
	    record_table_init(&table, &config->style, explain_columns,
			      sizeof(explain_columns) / sizeof(*explain_columns), MORE, &why))
		return report_failure(&why, STATUS_USAGE);
	err = config->live ? watch(config, family, &w, &why) : walk(&w, &why);
	if (err) {
		view_close(&view);
		return report_failure(&why, w.usage ? STATUS_USAGE : STATUS_REFUSED);
	}
	record_table_fit(&table);
	status = answer(&view, &table);
	record_table_end(&table);
	view_close(&view);
	return status;
}
