/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/sockets.h"

#include "net/sockdiag.h"
#include "tproxy-inspect/socket_record.h"
#include <errno.h>

static const enum record_field socket_columns[] = {
	RECORD_PROTO, RECORD_STATE, RECORD_LOCAL, RECORD_PEER, RECORD_TRANSPARENT,
	RECORD_MARK,  RECORD_PID,   RECORD_PROG,  RECORD_FD,
};
#define MORE                                                                               \
	(RECORD_BIT(RECORD_COOKIE) | RECORD_BIT(RECORD_IIF) | RECORD_BIT(RECORD_ORIGDST) | \
	 RECORD_BIT(RECORD_ORIGDST_BY))

/* One pass over the kernel's list. */
struct listing {
	struct record_table table;
	struct origin *origin;	   /* NULL if original destinations are not wanted */
	struct failure origin_why; /* why one could not be found */
};

static void put_origin(struct listing *l, struct record *r, const struct sockdiag_socket *s)
{
	struct origin_answer answer;
	struct failure why = { 0 };
	int known;

	if (!s->peer.port)
		return;
	known = origin_of(l->origin, s, &answer, &why);
	if (known == 1)
		socket_record_origin(r, &answer);
	else if (known < 0)
		l->origin_why = why;
}

static int list_socket(const struct sockdiag_socket *s, const struct sockowner *owner,
		       void *context)
{
	struct listing *l = context;
	char device[IF_NAMESIZE];
	struct record r;

	socket_record_fill(&r, s, device);
	socket_record_owner(&r, owner);
	if (l->origin)
		put_origin(l, &r, s);
	record_table_put(&l->table, &r);
	return 0;
}

static bool shows(const struct listing *l, enum record_field f)
{
	return l->table.json || record_table_has(&l->table, f);
}

/* Look for original destinations only if the table has that column: each takes a while. */
static int open_origin(struct listing *l, struct failure *why)
{
	if (!record_table_has(&l->table, RECORD_ORIGDST) &&
	    !record_table_has(&l->table, RECORD_ORIGDST_BY))
		return 0;
	l->origin = origin_open(why);
	if (!l->origin)
		return -1;
	origin_expect_many(l->origin);
	return 0;
}

static void tell_missing(const struct config *config, const struct listing *l,
			 const struct filter_walk *walk)
{
	char text[512];

	filter_tell_hidden(walk);
	if (*l->origin_why.call || *l->origin_why.detail)
		report_notice("origdst: %s", report_text(&l->origin_why, text, sizeof(text)));
	if (!walk->count)
		report_notice(config->filter.all
				      ? "no socket matches"
				      : "no transparent socket matches; -a shows others");
}

static int list(const struct config *config, struct listing *l, struct failure *why)
{
	struct filter_walk walk = {
		.owners = shows(l, RECORD_PID) || shows(l, RECORD_PROG) || shows(l, RECORD_FD),
		.mark = shows(l, RECORD_MARK),
	};
	int err = open_origin(l, why);

	walk.info = l->origin != NULL;
	if (!err)
		err = filter_each(&config->filter, &walk, list_socket, l, why);
	record_table_end(&l->table);
	origin_close(l->origin);
	if (err)
		return report_failure(why, why->err == ESRCH ? STATUS_NO : STATUS_REFUSED);
	tell_missing(config, l, &walk);
	/* A socket with the selected mark may exist without our seeing it. */
	if (walk.marks_hidden && config->filter.by_mark)
		return STATUS_REFUSED;
	return walk.count ? STATUS_DONE : STATUS_NO;
}

int sockets_run(const struct config *config, char **operands)
{
	struct listing l = { 0 };
	struct failure why = { 0 };

	if (record_table_init(&l.table, &config->style, socket_columns,
			      sizeof(socket_columns) / sizeof(*socket_columns), MORE, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	record_table_fit(&l.table);
	return list(config, &l, &why);
}
