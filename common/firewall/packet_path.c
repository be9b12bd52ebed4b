/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firewall/packet_path.h"

#include <string.h>

/* Rules that were reported, so that each is reported once. */
#define TOLD_MAX 128

struct path {
	const struct firewall *firewall;
	const struct packet_path_flow *flow; /* the current one */
	enum packet_path_leg leg;
	bool later, early;
	packet_path_judge *judge;
	void *context;
	struct {
		enum packet_path_leg leg;
		enum rule_eval_event event;
		const void *rule;
		uint32_t mark; /* the mark that was set */
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
		[PACKET_PATH_OPENED] = "what this host opens itself",
		[PACKET_PATH_MARKED] = "intercepted packets of this host",
		[PACKET_PATH_PAST] = "what is not intercepted",
	};

	return names[leg];
}

bool packet_path_is_prerouting(enum packet_path_leg leg)
{
	return leg == PACKET_PATH_BEFORE || leg == PACKET_PATH_AFTER ||
	       leg == PACKET_PATH_ANSWER_BEFORE || leg == PACKET_PATH_ANSWER_AFTER;
}

/* The leg of a client's packet that takes the same path. */
static enum packet_path_leg place(enum packet_path_leg leg)
{
	if (leg < PACKET_PATH_ANSWER_BEFORE || leg > PACKET_PATH_REPLY)
		return leg;
	return leg - PACKET_PATH_ANSWER_BEFORE;
}

static void tell(const struct rule_eval_step *step, void *context)
{
	struct path *p = context;
	const struct packet_path_step at = {
		.leg = p->leg,
		.protocol = p->flow->protocol,
		.own = p->flow->own,
		.sent_as_own = p->leg == PACKET_PATH_UPSTREAM &&
			       (p->flow->own || endpoint_is_set(&p->flow->sender)),
		.later = p->later,
		.early = p->early,
		.step = *step,
	};
	const void *rule = step->rule ? (const void *)step->rule : step->base;

	for (unsigned i = 0; i < p->count; i++)
		if (p->told[i].rule == rule && p->told[i].event == step->event &&
		    p->told[i].leg == place(p->leg) &&
		    (step->event != RULE_EVAL_MARKED || p->told[i].mark == step->mark))
			return;
	if (p->count < TOLD_MAX) {
		p->told[p->count].rule = rule;
		p->told[p->count].event = step->event;
		p->told[p->count].mark = step->mark;
		p->told[p->count++].leg = place(p->leg);
	}
	p->judge(&at, p->context);
}

/* (intercept/nft_text.c: `mangle`, and in prerouting `mangle + 1`.) */
struct firewall_place packet_path_ours(const struct packet_path_flow *flow, const char *hook)
{
	return (struct firewall_place){ strcmp(hook, "output") ? -149 : -150, flow->made };
}

static bool pass_part(struct path *p, enum packet_path_leg leg, const char *hook,
		      enum rule_eval_side side, struct rule_eval_packet *packet)
{
	const struct rule_eval_part part = { side, packet_path_ours(p->flow, hook) };
	const struct mark *mark = &p->flow->mark;

	p->leg = leg;
	packet->source_routed = (packet->mark & mark->mask) != mark->value;
	p->early = side == RULE_EVAL_BEFORE && p->flow->local && !strcmp(hook, "output");
	return rule_eval_hook(p->firewall, hook, &part, packet, tell, p);
}

static bool pass(struct path *p, enum packet_path_leg leg, const char *hook,
		 struct rule_eval_packet *packet)
{
	return pass_part(p, leg, hook, RULE_EVAL_ALL, packet);
}

/* As our rules do: other bits of the mark are unchanged. */
static void mark_packet(const struct path *p, struct rule_eval_packet *packet)
{
	const struct mark *mark = &p->flow->mark;

	packet->mark = (packet->mark & ~mark->mask) | mark->value;
}

/* Prerouting with our rules in the middle, then INPUT. */
static void come_in(struct path *p, struct rule_eval_packet *packet, enum packet_path_leg before)
{
	if (!pass(p, before, "ingress", packet) ||
	    !pass_part(p, before, "prerouting", RULE_EVAL_BEFORE, packet))
		return;
	mark_packet(p, packet);
	if (!pass_part(p, before + 1, "prerouting", RULE_EVAL_AFTER, packet))
		return;
	packet->transparent = true;
	mark_packet(p, packet);
	pass(p, before + 2, "input", packet);
}

/* The first packet of a connection, or one in a later `state`; the caller adds the interfaces. */
static struct rule_eval_packet from_client(const struct packet_path_flow *flow, const char *state)
{
	return (struct rule_eval_packet){
		.protocol = flow->protocol,
		.source = flow->client,
		.destination = flow->destination,
		.source_local = flow->own,
		.state = *state ? state : "new",
		.syn = !*state,
		.ack = *state,
	};
}

/* The answer to it. */
static struct rule_eval_packet from_server(const struct packet_path_flow *flow, const char *state)
{
	return (struct rule_eval_packet){
		.protocol = flow->protocol,
		.source = flow->destination,
		.destination = flow->client,
		.state = *state ? state : "established",
		.local = flow->own,
		.reply = true,
		.syn = !*state,
		.ack = true,
	};
}

/* Output: the hooks for packets that this host sends. */
static void go_out(struct path *p, struct rule_eval_packet *packet, enum packet_path_leg leg)
{
	packet->has_uid = p->flow->has_uid;
	packet->uid = p->flow->uid;
	packet->gid = p->flow->gid;
	if (pass_part(p, leg, "output", RULE_EVAL_BEFORE, packet) &&
	    pass_part(p, leg, "output", RULE_EVAL_AFTER, packet) &&
	    pass(p, leg, "postrouting", packet))
		pass(p, leg, "egress", packet);
}

/* Output with our rules in the middle: from there the packet is routed to lo, though until the end
 * of the hook its interface is the one that it was sent by (ip_route_me_harder() changes the route
 * alone), and comes in again. */
static void open_own(struct path *p, const struct rule_eval_packet *opened)
{
	struct rule_eval_packet packet = *opened;
	const char *iif = packet.iif;

	packet.iif = NULL;
	if (!pass_part(p, PACKET_PATH_OPENED, "output", RULE_EVAL_BEFORE, &packet))
		return;
	mark_packet(p, &packet);
	if (!pass_part(p, PACKET_PATH_MARKED, "output", RULE_EVAL_AFTER, &packet))
		return;
	packet.oif = p->flow->device->name;
	mark_packet(p, &packet);
	if (!pass(p, PACKET_PATH_MARKED, "postrouting", &packet) ||
	    !pass(p, PACKET_PATH_MARKED, "egress", &packet))
		return;
	packet.iif = iif;
	packet.oif = NULL;
	mark_packet(p, &packet);
	come_in(p, &packet, PACKET_PATH_BEFORE);
}

/* The packets of one connection in a state; "": its first ones, both ways. ct_mark: of the client's
 * leg and of the upstream one, which share one entry unless there are zones. */
static void pass_connection(struct path *p, const char *state, uint32_t ct_mark[2])
{
	const struct packet_path_flow *flow = p->flow;
	const char *upstream = *flow->upstream.name ? flow->upstream.name : NULL;
	struct rule_eval_packet request = from_client(flow, state), onward = request;
	struct rule_eval_packet answer = from_server(flow, state), reply = answer;

	request.iif = flow->device->name;
	p->later = *state && strcmp(state, "invalid");
	onward.oif = upstream;
	onward.mark = flow->upstream_mark;
	if (endpoint_is_set(&flow->sender)) {
		onward.source = flow->sender;
		onward.source_local = true;
	}
	answer.iif = upstream;
	reply.oif = flow->device->name;
	request.ct_mark = reply.ct_mark = &ct_mark[0];
	onward.ct_mark = answer.ct_mark = &ct_mark[flow->zones];
	if (flow->own) {
		request.oif = upstream;
		open_own(p, &request);
	} else {
		come_in(p, &request, PACKET_PATH_BEFORE);
	}
	go_out(p, &onward, PACKET_PATH_UPSTREAM);
	/* (What comes for this host itself meets none of our rules.) */
	if (!flow->own)
		come_in(p, &answer, PACKET_PATH_ANSWER_BEFORE);
	go_out(p, &reply, PACKET_PATH_REPLY);
}

void packet_path_each(const struct firewall *firewall, const struct packet_path_flow flow[],
		      unsigned count, const char *state, packet_path_judge *judge, void *context)
{
	struct path p = { .firewall = firewall, .judge = judge, .context = context };

	for (unsigned i = 0; i < count; i++) {
		uint32_t ct_mark[2] = { 0, 0 };

		p.flow = &flow[i];
		pass_connection(&p, state, ct_mark);
		/* A rule that passes the first packet may still stop later ones. */
		if (!*state)
			pass_connection(&p, "established", ct_mark);
	}
}

bool packet_path_past(const struct firewall *firewall, const struct packet_path_flow *flow,
		      uint32_t mark, bool here, packet_path_judge *judge, void *context)
{
	struct path p = { .firewall = firewall, .flow = flow, .judge = judge, .context = context };
	struct rule_eval_packet packet = from_client(flow, "");
	bool passes = true;

	packet.mark = mark;
	packet.local = here;
	packet.iif = flow->own ? NULL : flow->device->name;
	if (!flow->own)
		passes = pass_part(&p, PACKET_PATH_PAST, "prerouting", RULE_EVAL_AFTER, &packet);
	else
		packet.oif = *flow->upstream.name ? flow->upstream.name : NULL;
	if (here && !flow->own)
		return passes && pass(&p, PACKET_PATH_PAST, "input", &packet);
	packet.oif = *flow->upstream.name ? flow->upstream.name : NULL;
	if (flow->own)
		passes = pass_part(&p, PACKET_PATH_PAST, "output", RULE_EVAL_AFTER, &packet);
	else
		passes = passes && pass(&p, PACKET_PATH_PAST, "forward", &packet);
	return passes && pass(&p, PACKET_PATH_PAST, "postrouting", &packet);
}

bool packet_path_opened(const struct firewall *firewall, const struct packet_path_flow *flow,
			uint32_t *mark, packet_path_judge *judge, void *context)
{
	struct path p = { .firewall = firewall, .flow = flow, .judge = judge, .context = context };
	struct rule_eval_packet packet = from_client(flow, "");
	bool passes;

	packet.oif = *flow->upstream.name ? flow->upstream.name : NULL;
	packet.mark = *mark;
	passes = pass_part(&p, PACKET_PATH_OPENED, "output", RULE_EVAL_BEFORE, &packet);
	*mark = packet.mark;
	return passes;
}
