/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/pairs.h"

#include "net/sockowner.h"
#include "tproxy-inspect/pair_record.h"
#include "tproxy-inspect/relays.h"
#include "tproxy-inspect/socket_record.h"
#include <string.h>

static const enum record_field pair_columns[] = {
	RECORD_CLIENT,	 RECORD_ORIGDST,	RECORD_STATE,		RECORD_RECV_Q,
	RECORD_SEND_Q,	 RECORD_UPSTREAM_STATE, RECORD_UPSTREAM_RECV_Q, RECORD_UPSTREAM_SEND_Q,
	RECORD_BYTES_UP, RECORD_BYTES_DOWN,	RECORD_IDLE_MS,		RECORD_PAIRED_BY,
	RECORD_STUCK,
};
#define MORE                                                                                     \
	(RECORD_BIT(RECORD_PROTO) | RECORD_BIT(RECORD_UPSTREAM_LOCAL) |                          \
	 RECORD_BIT(RECORD_UPSTREAM) | RECORD_BIT(RECORD_RTT_MS) |                               \
	 RECORD_BIT(RECORD_UPSTREAM_RTT_MS) | RECORD_BIT(RECORD_RETRANS) |                       \
	 RECORD_BIT(RECORD_UPSTREAM_RETRANS) | RECORD_BIT(RECORD_COOKIE) |                       \
	 RECORD_BIT(RECORD_UPSTREAM_COOKIE) | RECORD_BIT(RECORD_PID) | RECORD_BIT(RECORD_PROG) | \
	 RECORD_BIT(RECORD_MARK) | RECORD_BIT(RECORD_UPSTREAM_NETNS) |                           \
	 RECORD_BIT(RECORD_PACKETS_UP) | RECORD_BIT(RECORD_PACKETS_DOWN))

/* One showing. */
struct showing {
	const struct config *config;
	struct filter filter;
	struct record_table table;
	struct filter_walk walk;
	struct sockowner_list *owners;
	size_t elsewhere; /* shown pairs whose upstream half is in another network namespace */
	char netns[RELAYS_NETNS_MAX];
};

static void put_pair(struct showing *w, const struct pairing_pair *pair, const char *stuck)
{
	const struct sockdiag_socket *any = pair->client && (pair->client->inode || !pair->upstream)
						    ? pair->client
						    : pair->upstream;
	struct record r;

	pair_record_fill(&r, "pair", pair);
	socket_record_owner(&r, w->owners ? sockowner_find(w->owners, any->inode) : NULL);
	record_text(&r, RECORD_STUCK, stuck);
	record_table_put(&w->table, &r);
	w->walk.count++;
	if (pair->upstream || !pair->told)
		return;
	w->elsewhere++;
	memcpy(w->netns, pair->told->netns, sizeof(w->netns));
}

static bool is_selected(struct showing *w, const struct sockdiag_socket *s)
{
	return s && filter_has_state(&w->filter, s) &&
	       filter_has(&w->filter, &w->walk, s, w->owners);
}

static int show(const struct pairing_pair *pair, void *context)
{
	struct showing *w = context;
	const char *stuck = pairing_stuck(pair);

	if ((is_selected(w, pair->client) || is_selected(w, pair->upstream)) &&
	    (stuck || !w->config->stuck))
		put_pair(w, pair, stuck);
	return 0;
}

static int show_all(struct showing *w, struct failure *why)
{
	const struct pairing_options options = {
		.tcp = w->filter.tcp,
		.udp = w->filter.udp,
		.ask_relays = true,
	};
	struct pairing *pairs;

	w->walk.owners = w->table.json || record_table_has(&w->table, RECORD_PID) ||
			 record_table_has(&w->table, RECORD_PROG);
	if (filter_owners(&w->filter, &w->walk, &w->owners, why))
		return -1;
	pairs = pairing_read(&options, why);
	if (!pairs)
		return -1;
	pairing_each(pairs, show, w);
	pairing_tell_unasked(pairs);
	pairing_tell_unproven(pairs);
	pairing_free(pairs);
	return 0;
}

int pairs_run(const struct config *config, char **operands)
{
	struct showing w = { .config = config, .filter = config->filter };
	struct failure why = { 0 };
	int err;

	w.filter.all = !config->filter.transparent; /* what is relayed is meant, however */
	if (record_table_init(&w.table, &config->style, pair_columns,
			      sizeof(pair_columns) / sizeof(*pair_columns), MORE, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	record_table_fit(&w.table);
	err = show_all(&w, &why);
	record_table_end(&w.table);
	sockowner_free(w.owners);
	if (err)
		return report_failure(&why, STATUS_REFUSED);
	filter_tell_hidden(&w.walk);
	if (w.elsewhere)
		report_notice("of %zu connections the upstream half is in another network "
			      "namespace: `tproxy-inspect --netns %s` shows it",
			      w.elsewhere, w.netns);
	if (!w.walk.count)
		report_notice(config->stuck ? "no connection is stuck"
					    : "no relayed connection matches");
	return w.walk.count ? STATUS_DONE : STATUS_NO;
}
