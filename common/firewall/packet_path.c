/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/packet_path.h"

#include <limits.h>
#include <string.h>

/* The priority of our chain `intercept` is mangle + 1, that of `divert` mangle: other chains up to
 * mangle count as before, because of those of the same priority the newest comes first. */
#define LAST_BEFORE (-150)

/* Rules that were told of, so that each is told of once. */
#define TOLD_MAX 128

struct path {
	struct doctor_context *x;
	enum packet_path_leg leg;
	packet_path_judge *judge;
	void *context;
	struct {
		enum packet_path_leg leg;
		enum rule_eval_event event;
		const void *rule;
	} told[TOLD_MAX];
	unsigned count;
};

const char *packet_path_leg_name(enum packet_path_leg leg)
{
	static const char *const names[] = {
		[PACKET_PATH_BEFORE] = "what clients send, before it is intercepted",
		[PACKET_PATH_AFTER] = "intercepted packets",
		[PACKET_PATH_INPUT] = "what is delivered to the listener",
		[PACKET_PATH_UPSTREAM] = "what the proxy sends to servers",
		[PACKET_PATH_ANSWER_BEFORE] = "servers' answers",
		[PACKET_PATH_ANSWER_AFTER] = "servers' answers",
		[PACKET_PATH_ANSWER_INPUT] = "servers' answers to the proxy",
		[PACKET_PATH_REPLY] = "what the proxy sends to clients",
	};

	return names[leg];
}

bool packet_path_is_prerouting(enum packet_path_leg leg)
{
	return leg == PACKET_PATH_BEFORE || leg == PACKET_PATH_AFTER ||
	       leg == PACKET_PATH_ANSWER_BEFORE || leg == PACKET_PATH_ANSWER_AFTER;
}

/* The leg of a client's packet that takes the same way. */
static enum packet_path_leg place(enum packet_path_leg leg)
{
	return leg < PACKET_PATH_ANSWER_BEFORE ? leg : leg - PACKET_PATH_ANSWER_BEFORE;
}

static void tell(const struct rule_eval_step *step, void *context)
{
	struct path *j = context;
	const struct packet_path_step at = { j->leg, *step };
	const void *rule = step->rule ? (const void *)step->rule : step->base;

	for (unsigned i = 0; i < j->count; i++)
		if (j->told[i].rule == rule && j->told[i].event == step->event &&
		    j->told[i].leg == place(j->leg))
			return;
	if (j->count < TOLD_MAX) {
		j->told[j->count].rule = rule;
		j->told[j->count].event = step->event;
		j->told[j->count++].leg = place(j->leg);
	}
	j->judge(j->x, &at, j->context);
}

static bool pass(struct path *j, enum packet_path_leg leg, const char *hook, long from, long to,
		 struct rule_eval_packet *packet)
{
	const struct mark *mark = &j->x->spec->mark;

	j->leg = leg;
	packet->source_routed = (packet->mark & mark->mask) != mark->value;
	return rule_eval_hook(j->x->firewall, hook, from, to, packet, tell, j);
}

/* Prerouting with our rules in the middle, then INPUT. Other bits of the mark stay as they are. */
static void come_in(struct path *j, struct rule_eval_packet *packet, enum packet_path_leg before)
{
	const struct mark *mark = &j->x->spec->mark;

	if (!pass(j, before, "prerouting", LONG_MIN, LAST_BEFORE, packet))
		return;
	packet->mark = (packet->mark & ~mark->mask) | mark->value;
	if (!pass(j, before + 1, "prerouting", LAST_BEFORE + 1, LONG_MAX, packet))
		return;
	packet->transparent = true;
	packet->mark = (packet->mark & ~mark->mask) | mark->value;
	pass(j, before + 2, "input", LONG_MIN, LONG_MAX, packet);
}

/* The first packet of a connection, or one in a later `state`; which way it comes in or goes out is for
 * the caller to add. */
static struct rule_eval_packet from_client(const struct context_flow *flow, const char *state)
{
	return (struct rule_eval_packet){
		.protocol = flow->protocol,
		.source = flow->client,
		.destination = flow->destination,
		.state = *state ? state : "new",
		.syn = !*state,
		.ack = *state,
	};
}

/* What is answered to it. */
static struct rule_eval_packet from_server(const struct context_flow *flow, const char *state)
{
	return (struct rule_eval_packet){
		.protocol = flow->protocol,
		.source = flow->destination,
		.destination = flow->client,
		.state = *state ? state : "established",
		.syn = !*state,
		.ack = true,
	};
}

static void travel(struct path *j, const struct context_flow *flow, const char *state)
{
	const char *upstream = *flow->upstream.name ? flow->upstream.name : NULL;
	struct rule_eval_packet request = from_client(flow, state), onward = request;
	struct rule_eval_packet answer = from_server(flow, state), reply = answer;

	request.iif = flow->device->name;
	onward.oif = upstream;
	onward.mark = j->x->spec->upstream_mark.value;
	answer.iif = upstream;
	reply.oif = flow->device->name;
	/* Our rules in output have marked what comes in by lo, and its source is this host. */
	if (flow->own) {
		request.mark = j->x->spec->mark.value;
		come_in(j, &request, PACKET_PATH_BEFORE);
		return;
	}
	come_in(j, &request, PACKET_PATH_BEFORE);
	pass(j, PACKET_PATH_UPSTREAM, "output", LONG_MIN, LONG_MAX, &onward);
	come_in(j, &answer, PACKET_PATH_ANSWER_BEFORE);
	pass(j, PACKET_PATH_REPLY, "output", LONG_MIN, LONG_MAX, &reply);
}

void packet_path_each(struct doctor_context *x, const char *state, packet_path_judge *judge,
		      void *context)
{
	struct path j = { .x = x, .judge = judge, .context = context };

	for (unsigned i = 0; i < x->flows; i++)
		travel(&j, &x->flow[i], state);
}
