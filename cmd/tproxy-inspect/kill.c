/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/kill.h"

#include "base/libc.h"
#include "tproxy-inspect/pairing.h"
#include "tproxy-inspect/relays.h"
#include "tproxy-inspect/socket_record.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

static const enum record_field kill_columns[] = {
	RECORD_EVENT, RECORD_PROTO, RECORD_STATE, RECORD_LOCAL,
	RECORD_PEER,  RECORD_PID,   RECORD_PROG,  RECORD_REASON,
};
#define MORE                                                                                \
	(RECORD_BIT(RECORD_TRANSPARENT) | RECORD_BIT(RECORD_MARK) | RECORD_BIT(RECORD_FD) | \
	 RECORD_BIT(RECORD_COOKIE) | RECORD_BIT(RECORD_IIF))

struct victim {
	struct sockdiag_socket socket;
	struct sockowner owner; /* pid 0: not known */
};

/* The connections to end, and the results. */
struct killing {
	const struct config *config;
	struct filter filter;
	struct record_table table;
	struct victim *victim;
	size_t count, room;
	struct filter_walk walk;
	struct sockowner_list *owners;
	size_t socketless; /* UDP flows without a socket of their own */
	size_t elsewhere;  /* with one in another network namespace, which is: */
	char netns[RELAYS_NETNS_MAX];
	int told[8]; /* errno values that were explained */
	bool failed;
	bool unasked; /* some relay did not tell its UDP flows */
};

static int add(struct killing *k, const struct sockdiag_socket *s, const struct sockowner *owner)
{
	if (k->count == k->room) {
		size_t room = k->room ? 2 * k->room : 64;
		struct victim *grown = realloc(k->victim, room * sizeof(*grown));

		if (!grown)
			return ENOMEM;
		k->victim = grown;
		k->room = room;
	}
	k->victim[k->count] = (struct victim){ .socket = *s };
	if (owner)
		k->victim[k->count].owner = *owner;
	k->count++;
	return 0;
}

static bool is_selected(struct killing *k, const struct sockdiag_socket *s)
{
	return s && filter_has_state(&k->filter, s) &&
	       filter_has(&k->filter, &k->walk, s, k->owners);
}

static int collect(const struct sockdiag_socket *s, const struct sockowner *owner, void *context)
{
	return add(context, s, owner);
}

/* A selected flow without a socket here: it never had one, and ends by itself when it is silent, or
 * that is elsewhere. (Else it has gone meanwhile.) */
static void count_flow(struct killing *k, const struct relays_pair *flow)
{
	k->socketless += !flow->cookie && !flow->upstream_cookie;
	if (!*flow->netns || !flow->upstream_cookie)
		return;
	k->elsewhere++;
	memcpy(k->netns, flow->netns, sizeof(k->netns));
}

/* The sockets of a selected UDP flow. */
static int collect_flow(const struct pairing_pair *pair, void *context)
{
	struct killing *k = context;
	struct sockdiag_socket s[2];
	unsigned count;
	int err = 0;

	if (!pairing_flow(pair) ||
	    !(is_selected(k, pair->client) || is_selected(k, pair->upstream)))
		return 0;
	count = pairing_sockets(pair, s);
	if (!count)
		count_flow(k, pairing_flow(pair));
	for (unsigned i = 0; i < count && !err; i++)
		err = add(k, &s[i], sockowner_find(k->owners, s[i].inode));
	return err;
}

/* Collect the other halves of the selected connections. */
static int collect_others(struct killing *k, struct failure *why)
{
	const struct pairing_options options = {
		.tcp = k->filter.tcp,
		.udp = k->filter.udp,
		.ask_relays = true,
	};
	struct pairing *pairs = pairing_read(&options, why);
	size_t asked_for = k->count;
	int err = 0;

	if (!pairs)
		return -1;
	for (size_t i = 0; i < asked_for && !err; i++) {
		const struct sockdiag_socket *other = pairing_other(pairs, &k->victim[i].socket);
		const struct sockowner owner = k->victim[i].owner; /* the array may move */

		if (other)
			err = add(k, other, owner.pid ? &owner : NULL);
	}
	if (!err)
		err = pairing_each(pairs, collect_flow, k);
	if (k->filter.udp) {
		pairing_tell_unasked(pairs);
		pairing_tell_unproven(pairs);
		k->unasked = pairing_unasked(pairs);
	}
	pairing_free(pairs);
	return err ? report_fail(why, ENOMEM, "malloc", "list of connections") : 0;
}

static int compare_cookies(const void *one, const void *other)
{
	const struct victim *a = one, *b = other;

	return (a->socket.cookie > b->socket.cookie) - (a->socket.cookie < b->socket.cookie);
}

/* Keep each once: the other half may have been selected, too. */
static void make_unique(struct killing *k)
{
	size_t kept = 0;

	if (!k->count)
		return;
	qsort(k->victim, k->count, sizeof(*k->victim), compare_cookies);
	for (size_t i = 0; i < k->count; i++)
		if (!kept || compare_cookies(&k->victim[i], &k->victim[kept - 1]))
			k->victim[kept++] = k->victim[i];
	k->count = kept;
}

/* Report why something could not be ended, once for each reason. */
static void explain(struct killing *k, const struct failure *why)
{
	for (size_t i = 0; i < sizeof(k->told) / sizeof(*k->told); i++) {
		if (k->told[i] == why->err)
			return;
		if (k->told[i])
			continue;
		k->told[i] = why->err;
		report_failure(why, STATUS_REFUSED);
		return;
	}
}

static const char *end(struct killing *k, struct sockdiag *diag, const struct sockdiag_socket *s,
		       const char **reason)
{
	struct failure why = { 0 };

	if (k->config->dry_run)
		return "would-end";
	if (!sockdiag_destroy(diag, s, &why))
		return "ended";
	if (why.err == ENOENT)
		return "gone"; /* it has ended by itself by now, like a relay's other half */
	if (why.err == EOPNOTSUPP)
		report_hint(&why, "this kernel was built without CONFIG_INET_DIAG_DESTROY");
	k->failed = true;
	*reason = strerrorname_np(why.err);
	explain(k, &why);
	return "failed";
}

static void end_one(struct killing *k, struct sockdiag *diag, const struct victim *v)
{
	const char *reason = NULL, *event = end(k, diag, &v->socket, &reason);
	char device[IF_NAMESIZE];
	struct record r;

	socket_record_fill(&r, &v->socket, device);
	record_text(&r, RECORD_EVENT, event);
	socket_record_owner(&r, v->owner.pid ? &v->owner : NULL);
	record_text(&r, RECORD_REASON, reason);
	record_table_put(&k->table, &r);
}

static int end_all(struct killing *k, struct failure *why)
{
	struct sockdiag *diag = sockdiag_open(why);

	if (!diag)
		return -1;
	for (size_t i = 0; i < k->count; i++)
		end_one(k, diag, &k->victim[i]);
	sockdiag_close(diag);
	return 0;
}

static int kill_all(struct killing *k, struct failure *why)
{
	int err;

	k->walk = (struct filter_walk){ .owners = true, .info = true };
	err = filter_each(&k->filter, &k->walk, collect, k, why);
	if (err > 0)
		return report_fail(why, err, "malloc", "list of connections");
	if (!err)
		err = filter_owners(&k->filter, &k->walk, &k->owners, why);
	if (err || ((k->count || k->filter.udp) && collect_others(k, why)))
		return -1;
	make_unique(k);
	if (end_all(k, why))
		return -1;
	if (k->walk.marks_hidden && k->filter.by_mark)
		filter_tell_hidden(&k->walk);
	return 0;
}

/* Listeners and unconnected sockets are ended only if they are selected by state. */
static void spare_listeners(struct filter *f)
{
	if (!f->states)
		f->states = ~(1u << TCP_LISTEN | 1u << TCP_CLOSE | SOCKDIAG_BOUND_INACTIVE);
}

/* What was not ended, and why. */
static void tell(const struct killing *k)
{
	if (k->socketless)
		report_notice(
			"UDP flows without a socket of their own: %zu; they end when they are "
			"silent for tproxy-relay's --udp-timeout",
			k->socketless);
	if (k->elsewhere)
		report_notice("UDP flows whose socket is in another network namespace: %zu; "
			      "`tproxy-inspect kill -ua --netns %s` ends it, by its own ends",
			      k->elsewhere, k->netns);
	if (!k->count && !k->socketless && !k->elsewhere && !k->unasked)
		report_notice(k->config->filter.all
				      ? "no connection matches"
				      : "no transparent connection matches; -a includes others");
}

int kill_run(const struct config *config, char **operands)
{
	struct killing k = { .config = config, .filter = config->filter };
	struct failure why = { 0 };
	int err;

	if (!filter_is_narrow(&config->filter)) {
		report_refuse(&why, "kill: needs at least one of --local, --peer, --state, --mark, "
				    "--pid, --prog");
		return report_failure(&why, STATUS_USAGE);
	}
	if (record_table_init(&k.table, &config->style, kill_columns,
			      sizeof(kill_columns) / sizeof(*kill_columns), MORE, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	spare_listeners(&k.filter);
	record_table_fit(&k.table);
	err = kill_all(&k, &why);
	record_table_end(&k.table);
	sockowner_free(k.owners);
	free(k.victim);
	if (err)
		return report_failure(&why, why.err == ESRCH ? STATUS_NO : STATUS_REFUSED);
	tell(&k);
	if (k.failed || (!k.count && k.unasked))
		return STATUS_REFUSED;
	return k.count ? STATUS_DONE : STATUS_NO;
}
