/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/packet_fates.h"

#include "intercept/nft_text.h"
#include <linux/netfilter.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

/* --- fates ------------------------------------------------------------------------------------ */

static bool is_same_place(const struct packet_place *a, const struct packet_place *b)
{
	return a->family == b->family && a->handle == b->handle && !strcmp(a->table, b->table) &&
	       !strcmp(a->chain, b->chain);
}

static bool is_same(const struct packet_fate *a, const struct packet_fate *b)
{
	return a->leg == b->leg && a->end == b->end && a->hook == b->hook &&
	       a->passed == b->passed && a->translated == b->translated &&
	       a->redirected == b->redirected && a->iif == b->iif && a->oif == b->oif &&
	       is_same_place(&a->at, &b->at) && !strcmp(a->instance, b->instance);
}

static void count(struct packet_fates *f, const struct packet_fate *one)
{
	struct packet_fate *at = f->at;

	while (at < f->at + f->count && !is_same(at, one))
		at++;
	if (at == f->at + PACKET_FATES_MAX) {
		f->more++;
		return;
	}
	if (at == f->at + f->count) {
		f->count++;
		*at = *one;
		at->packets = 0;
	} else {
		at->opening += one->opening;
		at->resets += one->resets;
		at->asking += one->asking;
		at->again += one->again;
		/* (Only the first packet of a connection meets the rules of NAT.) */
		if (!*at->by.table)
			at->by = one->by;
	}
	at->packets++;
}

static void end(struct packet_fates *f, struct packet_flight *p, enum packet_end how)
{
	if ((how == END_DROPPED || how == END_LOST) && f->gone < PACKET_GONE_MAX)
		f->gone_us[f->gone++] = p->last_us;
	p->fate.end = how;
	count(f, &p->fate);
	p->used = false;
}

/* Nothing more was said about it. */
static void abandon(struct packet_fates *f, struct packet_flight *p)
{
	end(f, p, *p->fate.at.table ? END_QUEUED : END_LOST);
}

void packet_fates_settle(struct packet_fates *f, uint64_t now_us, uint64_t age_us)
{
	for (size_t i = 0; i < PACKET_FLIGHTS; i++)
		if (f->flight[i].used && now_us - f->flight[i].last_us >= age_us)
			abandon(f, &f->flight[i]);
}

/* --- packets ---------------------------------------------------------------------------------- */

static struct packet_flight *find(struct packet_fates *f, uint32_t id)
{
	for (size_t i = 0; i < PACKET_FLIGHTS; i++)
		if (f->flight[i].used && f->flight[i].id == id)
			return &f->flight[i];
	return NULL;
}

/* A free place, or the one of the packet that has been silent for longest. */
static struct packet_flight *place(struct packet_fates *f)
{
	struct packet_flight *oldest = f->flight;

	for (size_t i = 0; i < PACKET_FLIGHTS; i++) {
		if (!f->flight[i].used)
			return &f->flight[i];
		if (f->flight[i].last_us < oldest->last_us)
			oldest = &f->flight[i];
	}
	abandon(f, oldest);
	return oldest;
}

static bool find_leg(const struct packet_fates *f, const struct packet_trace_event *e,
		     enum packet_leg *leg)
{
	bool arrives = e->hook == TRACE_PREROUTING;

	if (packet_trace_is_request(&f->tuple, &e->message.packet)) {
		if (arrives && f->tuple.iif && e->message.iif != f->tuple.iif)
			return false;
		*leg = arrives ? LEG_REQUEST : f->own ? LEG_OUTPUT : LEG_UPSTREAM;
		return true;
	}
	*leg = arrives ? LEG_ANSWER : LEG_REPLY;
	return packet_trace_is_answer(&f->tuple, &e->message.packet);
}

/* An acknowledgement alone, or a reset, is not answered. */
static bool is_asking(const struct trace_packet *p)
{
	return !(p->flags & TH_RST) && (p->payload || p->flags & (TH_SYN | TH_FIN));
}

/* Has this been sent before? Sequence numbers wrap around; a SYN begins anew. */
static bool note_sequence(struct packet_fates *f, enum packet_leg leg,
			  const struct trace_message *m)
{
	const struct trace_packet *p = &m->packet;
	unsigned by = m->iif ? m->iif : m->oif;
	bool syn = p->flags & TH_SYN, known = f->sent_known[leg];
	uint32_t length = p->payload + syn + !!(p->flags & TH_FIN);
	uint32_t next = p->sequence + length;

	if (!is_asking(p) || (known && by != f->sent_by[leg]))
		return false;
	if (known && (syn ? next == f->sent[leg] : (int32_t)(next - f->sent[leg]) <= 0))
		return true;
	f->sent_known[leg] = true;
	f->sent_by[leg] = by;
	f->sent[leg] = next;
	return false;
}

static void begin(struct packet_fates *f, const struct packet_trace_event *e, uint64_t now_us,
		  uint64_t wall_us)
{
	const struct trace_packet *packet = &e->message.packet;
	struct packet_flight *p = find(f, e->message.id);
	enum packet_leg leg;

	if (!find_leg(f, e, &leg))
		return;
	if (p)
		abandon(f, p); /* its id is used again */
	if (packet->fragment) {
		f->fragments[leg]++;
		return;
	}
	if (!p)
		p = place(f);
	f->packets[leg]++;
	*p = (struct packet_flight){ .used = true, .id = e->message.id, .last_us = now_us };
	p->fate.leg = leg;
	p->fate.hook = e->hook;
	p->fate.iif = e->message.iif;
	p->fate.first_us = wall_us;
	if (packet->protocol != IPPROTO_TCP)
		return;
	p->fate.opening = (packet->flags & (TH_SYN | TH_ACK)) == TH_SYN;
	p->fate.resets = !!(packet->flags & TH_RST);
	p->fate.asking = is_asking(packet);
	p->fate.again = note_sequence(f, leg, &e->message);
}

/* A rule, or a policy, that decides. */
static void note_place(struct packet_place *at, const struct trace_message *m)
{
	at->family = m->family;
	at->handle = m->handle;
	snprintf(at->table, sizeof(at->table), "%s", m->table);
	snprintf(at->chain, sizeof(at->chain), "%s", m->chain);
}

static void forget_place(struct packet_place *at)
{
	*at = (struct packet_place){ .family = 0 };
}

static void note_foreign(struct packet_fates *f, struct packet_flight *p,
			 const struct trace_message *m)
{
	static const char prefix[] = NFT_TEXT_PREFIX;
	bool is_instance = !strncmp(m->table, prefix, sizeof(prefix) - 1);

	forget_place(&p->fate.at); /* a queue has given it back */
	if (m->handle && !is_instance)
		note_place(&p->rule, m);
	switch (m->verdict) {
	case NF_DROP:
		note_place(&p->fate.at, m);
		end(f, p, END_DROPPED);
		return;
	case NF_STOLEN:
		note_place(&p->fate.at, m);
		end(f, p, END_STOLEN);
		return;
	case NF_QUEUE:
		note_place(&p->fate.at, m);
		return;
	case NF_ACCEPT:
		if (m->handle && p->fate.hook == TRACE_PREROUTING && is_instance)
			snprintf(p->fate.instance, sizeof(p->fate.instance), "%s",
				 m->table + sizeof(prefix) - 1);
		return;
	default:
		return;
	}
}

/* (Each base chain tells the headers once, as they are there.) */
static void note_ends(const struct packet_fates *f, struct packet_flight *p,
		      const struct trace_packet *packet)
{
	struct packet_fate *fate = &p->fate;
	bool answers = fate->leg == LEG_ANSWER || fate->leg == LEG_REPLY;

	if (!packet->known || (answers ? packet_trace_is_answer(&f->tuple, packet)
				       : packet_trace_is_request(&f->tuple, packet)))
		return;
	fate->translated = true;
	if (answers || fate->redirected ||
	    packet_trace_is_destination(&f->tuple, &packet->destination))
		return;
	fate->redirected = true;
	fate->to = packet->destination;
	fate->by = p->rule;
}

/* It has come to a hook, or passed it. */
static void note_ours(struct packet_fates *f, struct packet_flight *p,
		      const struct packet_trace_event *e)
{
	forget_place(&p->fate.at);
	p->fate.hook = e->hook;
	p->fate.passed = e->last;
	p->fate.oif = e->message.oif;
	if (e->last && e->hook == TRACE_INPUT)
		end(f, p, END_SOCKET);
	else if (e->last && e->hook == TRACE_POSTROUTING)
		end(f, p, END_LEFT);
}

void packet_fates_note(struct packet_fates *f, const struct packet_trace_event *e, uint64_t now_us,
		       uint64_t wall_us)
{
	struct packet_flight *p = find(f, e->message.id);

	/* (If a second rule of ours matches, too, the headers were told before.) */
	if (e->ours && e->begins && e->message.packet.known) {
		begin(f, e, now_us, wall_us);
		return;
	}
	if (!p)
		return;
	p->last_us = now_us;
	if (e->message.mark)
		p->fate.mark = e->message.mark;
	note_ends(f, p, &e->message.packet);
	if (!e->ours)
		note_foreign(f, p, &e->message);
	else if (!e->begins)
		note_ours(f, p, e);
}
