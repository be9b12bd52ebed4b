/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/taken.h"

#include "base/defaults.h"
#include "base/shell.h"
#include "intercept/nft_text.h"
#include "intercept/predicate.h"
#include "intercept/spec_text.h"
#include "net/listening.h"
#include "net/route.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

/* Maximum number of terms to change until an instance intercepts the packet. */
#define TERMS_MAX 16

/* The port for a relay that does not run yet, as in the man pages. */
#define USUAL_PORT 3129

int taken_copy(const struct view *v, struct intercept *copy)
{
	return intercept_copy(copy, &v->by->is.rules.spec, NULL);
}

static struct predicate_packet packet_of(const struct view *v, uint32_t mark)
{
	return (struct predicate_packet){
		.protocol = (uint8_t)v->protocol,
		.client = v->client,
		.destination = v->destination,
		.iif = v->own ? NULL : v->iif.name,
		.mark = mark,
		.marked = true,
		.own = v->own,
		.here = v->here,
	};
}

static void put_place(const struct view_instance *i, bool own, char buf[NFT_TEXT_TABLE_MAX + 64])
{
	snprintf(buf, NFT_TEXT_TABLE_MAX + 64, "%s:inet:" NFT_TEXT_PREFIX "%s:%s",
		 own ? "output:-150" : "prerouting:-149", i->name, own ? "local" : "prerouting");
}

/* --- is it as `up` left it? ------------------------------------------------------------------- */

/* Describe why the instance intercepts nothing at all; "": it works. */
static const char *broken(const struct nft_state *rules, char buf[300])
{
	char drift[200];

	buf[0] = '\0';
	if (!rules->readable || !rules->checksummed)
		snprintf(buf, 300, "its table is not as `tproxy-setup up` leaves it");
	else if (rules->dormant)
		snprintf(buf, 300,
			 "its table has flags dormant: the kernel runs none of its rules");
	else if (rules->ending)
		snprintf(buf, 300, "its interception was ended by `tproxy-setup down`");
	else if (rules->lease == LEASE_EXPIRED)
		snprintf(buf, 300, "its --confirm-within has expired");
	else if (nft_drift(rules, drift, sizeof(drift)))
		snprintf(buf, 300, "somebody changed its rules: %s", drift);
	return buf;
}

void taken_put_up(const struct intercept *spec, char fix[STEPS_FIX_MAX])
{
	char up[SPEC_TEXT_COMMAND_MAX];

	snprintf(fix, STEPS_FIX_MAX, "%s", spec_text_up_command(spec, up));
}

/* The sets' contents are known, unless the sets were changed. */
static bool is_known(const struct nft_state *rules)
{
	for (unsigned i = 0; i < rules->parts; i++)
		if (!strncmp(rules->part[i].name, "set:", 4) &&
		    rules->part[i].verdict != PART_PRESENT)
			return false;
	return rules->readable;
}

static bool judge_state(struct view *v, const struct view_instance *i, struct taken_not *why_not)
{
	char words[300], place[NFT_TEXT_TABLE_MAX + 64];

	if (!*broken(&i->is.rules, words))
		return true;
	put_place(i, v->own, place);
	steps_add(&v->steps, "instance", STEP_FAIL, place, "%s", words);
	why_not->reason = "not-intact";
	snprintf(why_not->words, sizeof(why_not->words), "instance %s: %s", i->name, words);
	why_not->fix[0] = '\0';
	if (is_known(&i->is.rules))
		taken_put_up(&i->is.rules.spec, why_not->fix);
	return false;
}

/* --- does it take the packet? ----------------------------------------------------------------- */

/* `up` with every term changed that excludes the packet; "" if that is impossible. */
static void put_admission(const struct intercept *spec, const struct predicate_packet *p,
			  char fix[STEPS_FIX_MAX])
{
	enum predicate_term term = PREDICATE_TAKES;
	struct intercept changed;
	bool possible = !intercept_copy(&changed, spec, NULL);

	for (int i = 0; possible && i < TERMS_MAX; i++) {
		term = predicate_excludes(&changed, p, NULL);
		if (term == PREDICATE_TAKES)
			break;
		/* Another one is the relay's to choose, too, if it tells its connections from the
		 * others. */
		if (term == PREDICATE_UPSTREAM && spec->local)
			break;
		possible = predicate_admit(&changed, term, p);
	}
	fix[0] = '\0';
	if (possible && term == PREDICATE_TAKES)
		taken_put_up(&changed, fix);
	intercept_free(&changed);
}

static void leave_out(struct view *v, const struct view_instance *i,
		      const struct predicate_packet *p, const char *text, struct taken_not *why_not)
{
	char place[NFT_TEXT_TABLE_MAX + 64];

	put_place(i, v->own, place);
	steps_add(&v->steps, "instance", STEP_FAIL, place, "%s", text);
	/* Of several instances, change the first one that could intercept it. */
	if (why_not->reason && *why_not->fix)
		return;
	why_not->reason = "excluded";
	snprintf(why_not->words, sizeof(why_not->words), "%s (%s)", text, i->name);
	put_admission(&i->is.rules.spec, p, why_not->fix);
}

/* Do the rules depend on a process that is unknown here? */
static bool asks_for_owner(const struct intercept *s)
{
	return s->uid.count || s->gid.count || s->cgroup.count || s->not_uid.count ||
	       s->not_gid.count || s->not_cgroup.count;
}

static void take(struct view *v, const struct view_instance *i, const char *how)
{
	const struct intercept *spec = &i->is.rules.spec;
	char place[NFT_TEXT_TABLE_MAX + 64], mark[QUANTITY_MARK_MAX];

	v->by = i;
	v->flow.made = i->is.rules.handle;
	v->flow.local = spec->local;
	v->flow.mark = spec->mark;
	v->flow.upstream_mark = spec->upstream_mark.value;
	v->flow.zones = spec->zone != CONNTRACK_OFF;
	put_place(i, v->own, place);
	steps_add(&v->steps, "instance", STEP_OK, place, "%s takes it: %s; mark %s", i->name, how,
		  quantity_format_mark(&spec->mark, mark));
	if (v->own && asks_for_owner(spec))
		steps_add(&v->steps, "instance", STEP_WARN, place,
			  "if it is opened by whom --uid, --gid, --cgroup or --not-... say");
}

static void put_terms(const struct view *v, const struct intercept *spec, char *buf, size_t size)
{
	char ports[64];

	if (spec->port.count)
		snprintf(buf, size, "port %u is among %s", v->destination.port,
			 intercept_list_text(spec, LIST_PORT, ports, sizeof(ports)));
	else
		snprintf(buf, size, "all ports are taken");
}

static bool judge(struct view *v, const struct view_instance *i, uint32_t mark,
		  struct taken_not *why_not)
{
	const struct predicate_packet packet = packet_of(v, mark);
	char text[PREDICATE_TEXT_MAX];

	if (!judge_state(v, i, why_not))
		return false;
	if (predicate_excludes(&i->is.rules.spec, &packet, text) != PREDICATE_TAKES) {
		leave_out(v, i, &packet, text, why_not);
		return false;
	}
	put_terms(v, &i->is.rules.spec, text, sizeof(text));
	take(v, i, text);
	return true;
}

/* --- packets of a connection that is here ----------------------------------------------------- */

static bool diverts(const struct view *v, const struct view_instance *i)
{
	const struct intercept *s = &i->is.rules.spec;
	char words[300];

	return !*broken(&i->is.rules, words) && intercept_wants(s, v->destination.family) &&
	       (v->protocol == IPPROTO_TCP ? s->tcp : s->udp);
}

/* A connected transparent socket gets its packets whatever the predicate says. */
static bool divert(struct view *v)
{
	char text[200];

	if (!v->established || v->connection.transparent != SOCKDIAG_YES)
		return false;
	for (unsigned i = 0; i < v->instances; i++)
		if (diverts(v, &v->instance[i])) {
			snprintf(text, sizeof(text), "a transparent socket (%s) has these ends",
				 sockdiag_state_name(v->connection.state));
			take(v, &v->instance[i], text);
			return true;
		}
	return false;
}

/* --- none at all ------------------------------------------------------------------------------ */

struct search {
	const struct view *v;
	struct endpoint found;
};

static int find_listener(const struct sockdiag_socket *s, void *context)
{
	struct search *search = context;

	if (s->transparent != SOCKDIAG_YES || s->local.family != search->v->client.family)
		return 0;
	search->found = s->local;
	return 1;
}

/* The usual routing table, unless others use it for either family: `up` shares none. */
static uint32_t propose_table(const struct view *v)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };
	struct route_plan plan = { .mark = DEFAULT_MARK,
				   .table = DEFAULT_TABLE,
				   .pref = DEFAULT_PREFERENCE };
	struct route_state state;
	char conflict[160];

	for (int i = 0; i < 2; i++) {
		plan.family = families[i];
		if (!route_look(v->kernel.route, &plan, &state, conflict, NULL) && *conflict)
			return route_free_table(v->kernel.route, DEFAULT_TABLE);
	}
	return DEFAULT_TABLE;
}

/* With an existing listener, or with a new relay. */
static void propose_up(struct view *v, char *fix, size_t size)
{
	struct shell_command c = shell_command(fix, size);
	struct search search = { .v = v };
	char to[ENDPOINT_TEXT_MAX];
	bool there = listening_each(v->diag, v->protocol, find_listener, &search, NULL) == 1;
	bool plain = !there || endpoint_is_loopback(&search.found);
	uint32_t table = propose_table(v);

	shell_add(&c, "tproxy-setup %s --to", there ? "up" : "run");
	if (plain)
		shell_add(&c, " %u", there ? search.found.port : USUAL_PORT);
	else
		shell_word(&c, endpoint_format(&search.found, to));
	shell_add(&c, "%s --port %u%s", v->protocol == IPPROTO_UDP ? " -u" : "",
		  v->destination.port,
		  v->own    ? " --local"
		  : v->here ? " --include-own"
			    : "");
	if (table != DEFAULT_TABLE)
		shell_add(&c, " --table %u", table);
	if (!there)
		shell_add(&c, " -- tproxy-relay%s%s %u", v->protocol == IPPROTO_UDP ? " -u" : "",
			  v->own ? " --source client-addr" : "", USUAL_PORT);
}

bool taken_decide(struct view *v, uint32_t mark, struct taken_not *why_not)
{
	*why_not = (struct taken_not){ .reason = NULL };
	if (divert(v))
		return true;
	for (unsigned i = 0; i < v->instances; i++)
		if (judge(v, &v->instance[i], mark, why_not))
			return true;
	if (v->instances)
		return false;
	steps_add(&v->steps, "instance", STEP_FAIL, "",
		  "nothing is installed: tproxy-setup has put no rules here");
	why_not->reason = "not-installed";
	snprintf(why_not->words, sizeof(why_not->words), "nothing is installed by tproxy-setup");
	propose_up(v, why_not->fix, sizeof(why_not->fix));
	return false;
}
