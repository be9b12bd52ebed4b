/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/departure.h"

#include "firewall/harm.h"
#include "intercept/nft.h"
#include "intercept/nft_text.h"
#include "net/link.h"
#include <linux/netfilter.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_MAX 400
#define WORDS_MAX 700

/* What has become of the connection. */
enum problem {
	PROBLEM_NONE,
	PROBLEM_NO_PACKET,
	PROBLEM_DROPPED,
	PROBLEM_LOST,
	PROBLEM_TAKEN,
	PROBLEM_BYPASSED,
	PROBLEM_RESET,
	PROBLEM_UNANSWERED,
	PROBLEM_UNHEARD,
};

/* As the verdict's reason. */
static const char *const reasons[] = {
	[PROBLEM_NONE] = "delivered",	     [PROBLEM_NO_PACKET] = "no-packet",
	[PROBLEM_DROPPED] = "dropped",	     [PROBLEM_LOST] = "lost",
	[PROBLEM_TAKEN] = "taken-elsewhere", [PROBLEM_BYPASSED] = "bypassed",
	[PROBLEM_RESET] = "reset",	     [PROBLEM_UNANSWERED] = "unanswered",
	[PROBLEM_UNHEARD] = "unheard",
};

struct judge {
	struct view *v;
	bool walked;
	const struct observation *o;
	struct firewall *rules; /* as they are now */
	const char *failed;	/* the name of the step at which the walk failed; "": none */
	enum problem problem;
	const struct packet_fate *fate; /* that shows it, or NULL */
};

static const char TRANSLATED[] = ", under another address (NAT)";

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static const char *whose(enum packet_leg leg)
{
	static const char *const names[LEGS] = {
		[LEG_OUTPUT] = "what this host sends",
		[LEG_REQUEST] = "packets of the client",
		[LEG_UPSTREAM] = "what the proxy sends to the server",
		[LEG_ANSWER] = "the server's answers",
		[LEG_REPLY] = "answers to the client",
	};

	return names[leg];
}

static const char *interface(unsigned index, char name[IF_NAMESIZE])
{
	return index && if_indextoname(index, name) ? name : "an interface that is gone";
}

/* --- the rule that decided -------------------------------------------------------------------- */

static const struct firewall_chain *find_chain(const struct judge *j, const struct packet_place *f)
{
	for (size_t i = 0; j->rules && i < firewall_chains(j->rules); i++) {
		const struct firewall_chain *c = firewall_chain(j->rules, i);

		if (!c->legacy && !strcmp(c->name, f->chain) && !strcmp(c->table, f->table) &&
		    !strcmp(c->family, nft_family_name(f->family)))
			return c;
	}
	return NULL;
}

/* The chain of the same table at the hook, which leads to it. */
static const struct firewall_chain *find_base(const struct judge *j, enum packet_trace_hook hook,
					      const struct firewall_chain *chain)
{
	for (size_t i = 0; !*chain->hook && i < firewall_chains(j->rules); i++) {
		const struct firewall_chain *c = firewall_chain(j->rules, i);

		if (!c->legacy && !strcmp(c->hook, packet_trace_hook_name(hook)) &&
		    !strcmp(c->table, chain->table) && !strcmp(c->family, chain->family))
			return c;
	}
	return chain;
}

/* Returns buf. */
static const char *describe_rule(const struct judge *j, const struct packet_place *f,
				 char buf[PLACE_MAX])
{
	static const char prefix[] = NFT_TEXT_PREFIX;
	const struct firewall_chain *chain = find_chain(j, f);
	const json_t *rule = chain && f->handle
				     ? firewall_rule_by_handle(j->rules, chain, f->handle)
				     : NULL;

	if (!strncmp(f->table, prefix, sizeof(prefix) - 1))
		snprintf(buf, PLACE_MAX, "a rule of instance %.40s, chain %.40s",
			 f->table + sizeof(prefix) - 1, f->chain);
	else if (chain && (rule || !f->handle))
		firewall_describe(j->rules, chain, rule, buf, PLACE_MAX);
	else
		snprintf(buf, PLACE_MAX,
			 "%s %.100s, chain %.100s: a rule that is gone (handle %llu)",
			 nft_family_name(f->family), f->table, f->chain,
			 (unsigned long long)f->handle);
	return buf;
}

static void describe_where(const struct judge *j, const struct packet_fate *f, char *buf,
			   size_t size)
{
	const struct firewall_chain *chain = *f->at.table ? find_chain(j, &f->at) : NULL;
	const char *hook = packet_trace_hook_name(f->hook);

	if (chain)
		snprintf(buf, size, "%s:%ld:%s:%s:%s", hook, find_base(j, f->hook, chain)->priority,
			 chain->family, chain->table, chain->name);
	else if (*f->at.table)
		snprintf(buf, size, "%s:%s:%.60s:%.60s", hook, nft_family_name(f->at.family),
			 f->at.table, f->at.chain);
	else
		snprintf(buf, size, "%s", hook);
}

/* --- what was seen, in words ------------------------------------------------------------------ */

/* `7 packets (1 SYN, 2 sent again)` */
static void describe_packets(const struct packet_fate *f, char buf[120])
{
	const struct {
		uint64_t count;
		const char *what;
	} parts[] = { { f->opening, "SYN" }, { f->resets, "RST" }, { f->again, "sent again" } };
	int used = snprintf(buf, 120, "%llu packet%s", (unsigned long long)f->packets,
			    plural(f->packets));
	bool any = false;

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (!parts[i].count)
			continue;
		used += snprintf(buf + used, 120 - (size_t)used, "%s%llu %s", any ? ", " : " (",
				 (unsigned long long)parts[i].count, parts[i].what);
		any = true;
	}
	if (any)
		snprintf(buf + used, 120 - (size_t)used, ")");
}

/* vrf_ip_rcv() and vrf_ip6_rcv() (drivers/net/vrf.c) make the VRF the interface of a packet that
 * came by one of its members, and run prerouting again. For nftrace it is another packet then, and
 * of this one nothing more is told. */
static bool goes_on_in_vrf(const struct packet_fate *f)
{
	struct link in, vrf;

	return f->end == END_LOST && f->passed && f->hook == TRACE_PREROUTING &&
	       link_find(f->iif, &in, NULL) == 1 && in.master &&
	       link_find(in.master, &vrf, NULL) == 1 && vrf.is_vrf;
}

/* Some ends are only known from silence, which may have another cause. */
static bool is_doubtful(const struct judge *j, const struct packet_fate *f)
{
	if (f->end == END_LOST || f->end == END_QUEUED)
		return j->o->missed || goes_on_in_vrf(f);
	return false;
}

static void describe_loss(const struct judge *j, const struct packet_fate *f, char *buf,
			  size_t size)
{
	const char *hook = packet_trace_hook_name(f->hook);

	if (goes_on_in_vrf(f))
		snprintf(buf, size, "pass %s, and come there again as packets of the VRF", hook);
	else if (j->o->missed)
		snprintf(buf, size,
			 "%s %s, and what follows may be among the reports that were lost",
			 f->passed ? "pass" : "come to", hook);
	else if (f->passed)
		snprintf(buf, size,
			 "pass %s and come to no other hook: not by a rule of nf_tables, but by "
			 "routing, source validation or IPsec",
			 hook);
	else
		snprintf(buf, size,
			 "come to %s and do not pass it: not by a rule of nf_tables, but perhaps "
			 "by iptables-legacy",
			 hook);
}

/* What becomes of them: `end at ...`. Returns buf. */
static const char *describe_end(const struct judge *j, const struct packet_fate *f,
				char buf[WORDS_MAX])
{
	char place[PLACE_MAX], name[IF_NAMESIZE];

	switch (f->end) {
	case END_SOCKET:
		snprintf(buf, WORDS_MAX, "pass input, to a socket of this host%s",
			 f->translated ? TRANSLATED : "");
		break;
	case END_LEFT:
		snprintf(buf, WORDS_MAX, "leave by %s", interface(f->oif, name));
		break;
	case END_DROPPED:
		snprintf(buf, WORDS_MAX, "end at %s", describe_rule(j, &f->at, place));
		break;
	case END_STOLEN:
		snprintf(buf, WORDS_MAX, "are taken away by %s", describe_rule(j, &f->at, place));
		break;
	case END_QUEUED:
		snprintf(buf, WORDS_MAX, "wait for the program of a queue: %s",
			 describe_rule(j, &f->at, place));
		break;
	case END_LOST:
		describe_loss(j, f, buf, WORDS_MAX);
		break;
	}
	return buf;
}

static enum step_severity severity_of(const struct judge *j, const struct packet_fate *f)
{
	if (goes_on_in_vrf(f))
		return STEP_OK;
	if (f->end == END_DROPPED || (f->end == END_LOST && !is_doubtful(j, f)))
		return STEP_FAIL;
	if (f->end == END_LEFT && f->leg == LEG_REQUEST && j->problem == PROBLEM_BYPASSED &&
	    j->v->by)
		return STEP_FAIL;
	return f->end == END_SOCKET || f->end == END_LEFT
		       ? f->again || f->resets ? STEP_WARN : STEP_OK
		       : STEP_WARN;
}

static void add_fate(const struct judge *j, const struct packet_fate *f)
{
	static const char *const steps[LEGS] = {
		[LEG_OUTPUT] = "seen-output",	  [LEG_REQUEST] = "seen-request",
		[LEG_UPSTREAM] = "seen-upstream", [LEG_ANSWER] = "seen-answer",
		[LEG_REPLY] = "seen-reply",
	};
	char where[200], packets[120], words[WORDS_MAX], in[IF_NAMESIZE + 16] = "", taken[96] = "",
									  name[IF_NAMESIZE];

	describe_where(j, f, where, sizeof(where));
	describe_packets(f, packets);
	if (f->iif)
		snprintf(in, sizeof(in), " by %s", interface(f->iif, name));
	if (*f->instance)
		snprintf(taken, sizeof(taken), ", taken by instance %s (mark 0x%x)", f->instance,
			 f->mark);
	steps_add(&j->v->steps, steps[f->leg], severity_of(j, f), where, "%s%s%s: %s", packets, in,
		  taken, describe_end(j, f, words));
	steps_time(&j->v->steps, f->first_us);
}

static int compare_times(const void *a, const void *b)
{
	const struct packet_fate *x = *(const struct packet_fate *const *)a;
	const struct packet_fate *y = *(const struct packet_fate *const *)b;

	return (x->first_us > y->first_us) - (x->first_us < y->first_us);
}

static void add_fates(const struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;
	const struct packet_fate *sorted[PACKET_FATES_MAX];

	for (unsigned i = 0; i < f->count; i++)
		sorted[i] = &f->at[i];
	qsort(sorted, f->count, sizeof(*sorted), compare_times);
	for (unsigned i = 0; i < f->count; i++)
		add_fate(j, sorted[i]);
	if (f->more)
		steps_add(&j->v->steps, "watch", STEP_WARN, "nftrace",
			  "%llu more packets came to other ends", (unsigned long long)f->more);
}

/* --- what was counted ------------------------------------------------------------------------- */

/* Beyond a rate they are counted and not followed; those before the first one are not counted. */
static uint64_t count_unfollowed(const struct observation *o)
{
	const struct packet_trace_counts *c = &o->counts;
	uint64_t counted = c->request + c->upstream + c->answer + c->reply, followed = 0;

	for (size_t i = 0; i < LEGS; i++)
		followed += o->fates.packets[i];
	return counted > followed ? counted - followed : 0;
}

static void add_watch(const struct judge *j)
{
	const struct observation *o = j->o;
	const uint64_t *n = o->fates.packets;
	uint64_t in = n[LEG_REQUEST] + n[LEG_ANSWER], rest = count_unfollowed(o);
	uint64_t out = n[LEG_OUTPUT] + n[LEG_UPSTREAM] + n[LEG_REPLY];
	char tuple[OBSERVE_TUPLE_MAX], more[80] = "";

	if (rest)
		snprintf(more, sizeof(more), "; %llu more were only counted",
			 (unsigned long long)rest);
	steps_add(&j->v->steps, "watch", o->missed ? STEP_WARN : STEP_OK, "nftrace",
		  "%s, both ways, for %llu.%03llu s%s: followed %llu packet%s that came in and "
		  "%llu that this host sent%s%s",
		  observe_format(&o->fates.tuple, tuple), (unsigned long long)o->ms / 1000,
		  (unsigned long long)o->ms % 1000, o->interrupted ? " (ended by a signal)" : "",
		  (unsigned long long)in, plural(in), (unsigned long long)out, more,
		  o->missed ? "; some of the kernel's reports were lost" : "");
}

static void add_counter(const struct kernel_counter *counter, void *context)
{
	const struct judge *j = context;

	steps_add(&j->v->steps, "counter", counter->loses ? STEP_WARN : STEP_OK, counter->name,
		  "+%llu meanwhile: %s, of all connections", (unsigned long long)counter->grown,
		  counter->what);
}

/* Which packets it were is not told: when they were dropped is all that connects them with these. */
static void add_reason(const char *name, uint64_t count, uint64_t meanwhile, void *context)
{
	const struct judge *j = context;
	char when[80] = "";

	if (meanwhile)
		snprintf(when, sizeof(when), ", %llu of them just when packets of this one ended",
			 (unsigned long long)meanwhile);
	steps_add(&j->v->steps, "drop", meanwhile ? STEP_WARN : STEP_OK, "skb:kfree_skb",
		  "+%llu meanwhile: %s, of all connections of this machine%s",
		  (unsigned long long)count, name ? name : "not known for what", when);
}

/* The socket that has the connection now. */
static void add_socket(const struct judge *j)
{
	struct view *v = j->v;
	struct sockdiag_socket s;

	if (v->protocol != IPPROTO_TCP ||
	    sockdiag_lookup(v->diag, v->protocol, &v->client, &v->destination, v->iif.index, &s,
			    NULL) != 1 ||
	    s.peer.port != v->client.port)
		return;
	steps_add(&v->steps, "socket", s.tcp.unanswered ? STEP_WARN : STEP_OK, "socket-look-up",
		  "%s; %u segment%s sent again; %u bytes to be read by the program, %u to be "
		  "acknowledged by the client",
		  sockdiag_state_name(s.state), s.tcp.retransmits, plural(s.tcp.retransmits),
		  s.rqueue, s.wqueue);
}

/* --- judging ---------------------------------------------------------------------------------- */

/* The most frequent end of that kind, of those that are certain. */
static const struct packet_fate *find_fate(const struct judge *j, enum packet_leg leg,
					   enum packet_end end)
{
	const struct packet_fates *f = &j->o->fates;
	const struct packet_fate *found = NULL;

	for (unsigned i = 0; i < f->count; i++)
		if (f->at[i].leg == leg && f->at[i].end == end && !is_doubtful(j, &f->at[i]) &&
		    (!found || f->at[i].packets > found->packets))
			found = &f->at[i];
	return found;
}

/* Each packet once. */
static uint64_t count_leg(const struct judge *j, enum packet_leg leg)
{
	const struct packet_fates *f = &j->o->fates;
	uint64_t packets = f->packets[leg];

	for (unsigned i = 0; i < f->count; i++)
		if (f->at[i].leg == leg && goes_on_in_vrf(&f->at[i]))
			packets -= f->at[i].packets;
	return packets;
}

/* An end of at least half of what goes that way. */
static const struct packet_fate *find_main(const struct judge *j, enum packet_leg leg,
					   enum packet_end end)
{
	const struct packet_fate *f = find_fate(j, leg, end);

	return f && 2 * f->packets >= count_leg(j, leg) ? f : NULL;
}

static bool find_loss(struct judge *j)
{
	static const struct {
		enum packet_end end;
		enum problem problem;
	} losses[] = { { END_DROPPED, PROBLEM_DROPPED },
		       { END_LOST, PROBLEM_LOST },
		       { END_STOLEN, PROBLEM_LOST },
		       { END_QUEUED, PROBLEM_LOST } };

	for (int leg = 0; leg < LEGS; leg++)
		for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++) {
			j->fate = find_main(j, (enum packet_leg)leg, losses[i].end);
			if (!j->fate)
				continue;
			j->problem = losses[i].problem;
			return true;
		}
	return false;
}

/* Has a socket here got something to answer, and would the answer be seen? Answers to packets that
 * were translated have other ends where this host sends them: they are translated back after it.
 * What was sent before the tuple was known may have been answered unseen. */
static bool awaits_answer(const struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;
	uint64_t asking = 0;

	if (steps_concluded(&j->v->steps, "taken-elsewhere"))
		return false;
	for (unsigned i = 0; i < f->count; i++) {
		if (f->at[i].translated)
			return false;
		if (f->at[i].leg == LEG_REQUEST && f->at[i].end == END_SOCKET)
			asking += f->at[i].asking;
	}
	return asking > (j->o->exact ? 0 : 1);
}

/* Are all answers resets? (A VRF sends each packet twice, by itself and by its member.) */
static bool is_reset(const struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;
	uint64_t resets = 0;

	for (unsigned i = 0; i < f->count; i++)
		if (f->at[i].leg == LEG_REPLY && f->at[i].end == END_LEFT)
			resets += f->at[i].resets;
	return resets && resets == f->packets[LEG_REPLY];
}

/* Do answers leave, and the client does nothing but send its SYN again? */
static bool is_unheard(const struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;
	uint64_t opening = 0;

	for (unsigned i = 0; i < f->count; i++)
		if (f->at[i].leg == LEG_REQUEST)
			opening += f->at[i].opening;
	return opening > 1 && opening == f->packets[LEG_REQUEST] &&
	       find_fate(j, LEG_REPLY, END_LEFT);
}

/* Does somebody answer, and not by a reset alone? */
static enum problem judge_answers(const struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;

	if (f->tuple.protocol != IPPROTO_TCP)
		return PROBLEM_NONE;
	if (is_reset(j))
		return PROBLEM_RESET;
	if (is_unheard(j))
		return PROBLEM_UNHEARD;
	if (f->packets[LEG_REPLY] || !j->o->counted || j->o->counts.reply || j->o->missed)
		return PROBLEM_NONE;
	return awaits_answer(j) ? PROBLEM_UNANSWERED : PROBLEM_NONE;
}

/* The destination of most of the client's packets was changed: whom they reach then is not whom they
 * were meant for. */
static bool find_redirection(struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;

	for (int leg = LEG_OUTPUT; leg <= LEG_REQUEST; leg++) {
		const struct packet_fate *found = NULL;
		uint64_t packets = 0;

		for (unsigned i = 0; i < f->count; i++) {
			if (f->at[i].leg != (enum packet_leg)leg || !f->at[i].redirected)
				continue;
			packets += f->at[i].packets;
			if (!found || !*found->by.table)
				found = &f->at[i];
		}
		j->fate = found;
		if (found && 2 * packets >= count_leg(j, (enum packet_leg)leg))
			return true;
	}
	j->fate = NULL;
	return false;
}

static void find_problem(struct judge *j)
{
	const struct packet_fates *f = &j->o->fates;

	if (!f->packets[LEG_REQUEST] && !f->packets[LEG_OUTPUT] && !f->fragments[LEG_REQUEST] &&
	    !f->fragments[LEG_OUTPUT])
		j->problem = PROBLEM_NO_PACKET;
	else if (find_loss(j))
		return;
	else if (find_redirection(j))
		j->problem = PROBLEM_TAKEN;
	else if ((j->fate = find_main(j, LEG_REQUEST, END_LEFT)) ||
		 (!f->packets[LEG_REQUEST] && (j->fate = find_main(j, LEG_OUTPUT, END_LEFT))))
		j->problem = PROBLEM_BYPASSED;
	else
		j->problem = judge_answers(j);
}

static bool was_taken(const struct judge *j)
{
	const struct packet_fate *f = find_fate(j, LEG_REQUEST, END_SOCKET);

	return f && *f->instance;
}

/* Was it seen that packets come to a socket here, and not under another address? */
static bool is_reached(const struct judge *j)
{
	const struct packet_fate *f = find_fate(j, LEG_REQUEST, END_SOCKET);

	return f && !f->translated;
}

/* Is it disproved that the walk failed at that step? That the client's packets reach a socket and
 * are answered says nothing about the way back, if the client acknowledges nothing, and nothing
 * about the proxy's own connection: the proxy answers before it connects. */
static bool is_disproved(const struct judge *j)
{
	static const char *const onward[] = { "process", "policy", "upstream", "answer" };
	const struct packet_fates *f = &j->o->fates;
	uint64_t opening = 0;

	for (size_t i = 0; i < sizeof(onward) / sizeof(*onward); i++)
		if (!strcmp(j->failed, onward[i]))
			/* (What this host opens is answered on lo by the proxy itself.) */
			return !j->v->own && f->packets[LEG_ANSWER];
	for (unsigned i = 0; i < f->count; i++)
		if (f->at[i].leg == LEG_REQUEST)
			opening += f->at[i].opening;
	return strcmp(j->failed, "reply") || f->packets[LEG_REQUEST] > opening;
}

/* Does the walk say something else? */
static bool departs(const struct judge *j)
{
	if (steps_concluded(&j->v->steps, "delivered"))
		return j->problem != PROBLEM_NONE;
	return j->problem == PROBLEM_NONE && is_reached(j) && (j->v->by || was_taken(j)) &&
	       is_disproved(j);
}

/* --- the verdict ------------------------------------------------------------------------------ */

static enum packet_path_leg path_leg(const struct packet_fate *f)
{
	bool pre = f->hook == TRACE_PREROUTING, after = *f->instance;

	switch (f->leg) {
	case LEG_REQUEST:
		return !pre ? PACKET_PATH_INPUT : after ? PACKET_PATH_AFTER : PACKET_PATH_BEFORE;
	case LEG_ANSWER:
		return !pre    ? PACKET_PATH_ANSWER_INPUT
		       : after ? PACKET_PATH_ANSWER_AFTER
			       : PACKET_PATH_ANSWER_BEFORE;
	case LEG_UPSTREAM:
		return PACKET_PATH_UPSTREAM;
	case LEG_REPLY:
		return PACKET_PATH_REPLY;
	default:
		return PACKET_PATH_OPENED;
	}
}

/* The rule that made the problem, as the walk would have met it; false: none is known. */
static bool find_step(const struct judge *j, struct packet_path_step *at)
{
	bool taken = j->problem == PROBLEM_TAKEN;
	const struct packet_place *place = !j->fate ? NULL : taken ? &j->fate->by : &j->fate->at;
	const struct firewall_chain *chain = place ? find_chain(j, place) : NULL;

	if (!chain)
		return false;
	*at = (struct packet_path_step){
		.leg = path_leg(j->fate),
		.protocol = (uint8_t)j->v->protocol,
		.own = j->v->own,
		.step = { .event = taken ? RULE_EVAL_TRANSLATED : RULE_EVAL_DROPPED,
			  .certain = true,
			  .base = find_base(j, j->fate->hook, chain),
			  .chain = chain,
			  .rule = place->handle
					  ? firewall_rule_by_handle(j->rules, chain, place->handle)
					  : NULL },
	};
	return at->step.rule || !place->handle;
}

/* The command that lets packets past the rule at which they end, or that redirects them. */
static void find_fix(const struct judge *j, char fix[STEPS_FIX_MAX])
{
	struct packet_path_step at;

	*fix = '\0';
	if (j->problem == PROBLEM_TAKEN && find_step(j, &at))
		harm_fix(&at, HARM_TAKES, &j->v->flow.mark, fix, STEPS_FIX_MAX);
	else if (j->problem == PROBLEM_DROPPED && j->fate->hook != TRACE_FORWARD &&
		 j->fate->leg != LEG_OUTPUT && find_step(j, &at))
		harm_fix(&at, HARM_DROPS, &j->v->flow.mark, fix, STEPS_FIX_MAX);
}

static void describe_redirection(const struct judge *j, char buf[WORDS_MAX])
{
	const struct packet_fate *f = j->fate;
	char place[PLACE_MAX], to[ENDPOINT_TEXT_MAX], words[WORDS_MAX];

	snprintf(buf, WORDS_MAX, "%s are redirected to %s by %s, and %.100s", whose(f->leg),
		 endpoint_format(&f->to, to),
		 *f->by.table ? describe_rule(j, &f->by, place)
			      : "somebody whom nf_tables does not name (iptables-legacy, or a "
				"connection that was there before)",
		 describe_end(j, f, words));
}

static void describe_success(const struct judge *j, char buf[WORDS_MAX])
{
	const struct packet_fate *f = find_fate(j, LEG_REQUEST, END_SOCKET);

	if (f)
		snprintf(buf, WORDS_MAX, "packets of the client reach a socket here%s%s",
			 f->translated ? TRANSLATED : "",
			 j->o->fates.packets[LEG_REPLY] ? ", and are answered" : "");
	else
		snprintf(buf, WORDS_MAX, "packets of the client come; their end was not seen");
}

static void describe_problem(const struct judge *j, char buf[WORDS_MAX])
{
	char words[WORDS_MAX];

	switch (j->problem) {
	case PROBLEM_NONE:
		describe_success(j, buf);
		break;
	case PROBLEM_RESET:
		snprintf(buf, WORDS_MAX, "they reach this host, which answers with a reset");
		break;
	case PROBLEM_UNANSWERED:
		snprintf(buf, WORDS_MAX,
			 "packets of the client pass input, and nothing answers "
			 "them: is the listener's queue full?");
		break;
	case PROBLEM_UNHEARD:
		snprintf(buf, WORDS_MAX,
			 "answers to the client %s, and it sends its SYN again: they do not reach "
			 "it (its entry in the neighbour table, or a filter behind this host)",
			 describe_end(j, find_fate(j, LEG_REPLY, END_LEFT), words));
		break;
	case PROBLEM_BYPASSED:
		snprintf(buf, WORDS_MAX, "%s %s, past the proxy", whose(j->fate->leg),
			 describe_end(j, j->fate, words));
		break;
	case PROBLEM_TAKEN:
		describe_redirection(j, buf);
		break;
	case PROBLEM_NO_PACKET:
		buf[0] = '\0';
		break;
	default:
		snprintf(buf, WORDS_MAX, "%s %s", whose(j->fate->leg),
			 describe_end(j, j->fate, words));
	}
}

/* Put another verdict in the place of the walk's. */
static void replace(struct view *v, const char *reason, const char *fix, const char *words)
{
	char kept[STEPS_FIX_MAX];

	snprintf(kept, sizeof(kept), "%s", fix);
	v->steps.reason = NULL;
	v->steps.fix[0] = '\0';
	steps_conclude(&v->steps, reason, kept, "%s", words);
}

/* Of the walk alone: call it before other steps are added. */
static const char *find_failure(const struct view *v)
{
	const char *name = "";

	for (size_t i = 0; i < v->steps.count; i++)
		if (v->steps.at[i].severity == STEP_FAIL)
			name = v->steps.at[i].name;
	return name;
}

/* Did the walk end before the first hook where packets are traced? */
static bool ended_before(const struct judge *j)
{
	return !strcmp(j->failed, "tc") || !strcmp(j->failed, "ingress") ||
	       !strcmp(j->failed, "packet");
}

static void conclude_silence(struct judge *j, bool before)
{
	struct view *v = j->v;
	char words[WORDS_MAX], tuple[OBSERVE_TUPLE_MAX], client[ENDPOINT_TEXT_MAX];

	if (before) {
		snprintf(words, sizeof(words), "%s (no packet came as far as prerouting, either)",
			 v->steps.words);
		replace(v, v->steps.reason, v->steps.fix, words);
		return;
	}
	observe_format(&j->o->fates.tuple, tuple);
	if (j->walked && v->own)
		snprintf(words, sizeof(words),
			 "no packet of %s was sent within %llu.%03llu s: look at the program that "
			 "should open it",
			 tuple, (unsigned long long)j->o->ms / 1000,
			 (unsigned long long)j->o->ms % 1000);
	else
		snprintf(words, sizeof(words),
			 "no packet of %s came within %llu.%03llu s: look before this machine, on "
			 "%s and on the way from there",
			 tuple, (unsigned long long)j->o->ms / 1000,
			 (unsigned long long)j->o->ms % 1000,
			 j->o->fates.tuple.client.family
				 ? endpoint_format_address(&j->o->fates.tuple.client, client)
				 : "the client");
	replace(v, reasons[PROBLEM_NO_PACKET], "", words);
}

static void conclude(struct judge *j)
{
	struct view *v = j->v;
	char words[sizeof(v->steps.words) + WORDS_MAX], seen[WORDS_MAX], fix[STEPS_FIX_MAX];
	bool other = departs(j);

	describe_problem(j, seen);
	if (!other) {
		snprintf(words, sizeof(words), "%s; seen: %s", v->steps.words, seen);
		replace(v, v->steps.reason, v->steps.fix, words);
		return;
	}
	find_fix(j, fix);
	snprintf(words, sizeof(words), "the walk says: %s; but %s", v->steps.words, seen);
	steps_add(&v->steps, "departure", STEP_WARN, v->steps.reason, "%s", words);
	snprintf(words, sizeof(words), "%s, although the walk says: %s", seen, v->steps.words);
	replace(v, reasons[j->problem], fix, words);
}

void departure_judge(struct view *v, bool walked, const struct observation *o)
{
	struct judge j = { .v = v, .walked = walked, .o = o, .failed = find_failure(v) };
	bool before = walked && ended_before(&j);

	if (o->fates.count && v->kernel.rules)
		j.rules = firewall_read(v->kernel.rules, NULL);
	find_problem(&j);
	add_watch(&j);
	add_fates(&j);
	kernel_counters_compare(&o->before, &o->after, add_counter, &j);
	if (o->reasons)
		drop_reasons_each(o->reasons, add_reason, &j);
	if (j.problem == PROBLEM_NO_PACKET) {
		conclude_silence(&j, before);
	} else {
		add_socket(&j);
		conclude(&j);
	}
	firewall_free(j.rules);
}
