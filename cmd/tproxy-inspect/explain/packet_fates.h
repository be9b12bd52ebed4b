/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * packet_fates - where the traced packets of one connection ended, counted by direction and fate.
 *
 * Follows each packet from the chain of ours where it entered to the last report of it. Memory is
 * bounded: so many packets are followed at a time, and so many different fates are told apart;
 * beyond that the oldest packet is taken for lost, and fates are only counted.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_PACKET_FATES_H
#define TPROXY_INSPECT_EXPLAIN_PACKET_FATES_H

#include "intercept/intercept.h"
#include "tproxy-inspect/explain/packet_trace.h"
#include <linux/netfilter/nf_tables.h>
#include <stdbool.h>
#include <stdint.h>

/* From where to where. */
enum packet_leg {
	LEG_OUTPUT,   /* this host opens the connection: what it sends */
	LEG_REQUEST,  /* what comes in from the client */
	LEG_UPSTREAM, /* what this host sends with the client's ends: the proxy's own connection */
	LEG_ANSWER,   /* what comes in from the server */
	LEG_REPLY,    /* what this host sends with the server's ends */
	LEGS
};

enum packet_end {
	END_SOCKET,  /* it passed input: it is a socket's */
	END_LEFT,    /* it passed postrouting */
	END_DROPPED, /* by a rule, or by the policy of a base chain */
	END_STOLEN,  /* a rule took it away */
	END_QUEUED,  /* a rule gave it to a program (NFQUEUE), which has not given it back */
	END_LOST,    /* after this hook (`passed`), or in it, and nf_tables does not say by what */
};

/* A rule of nf_tables, or with handle 0 a policy. */
struct packet_place {
	uint8_t family; /* NFPROTO_... */
	char table[NFT_NAME_MAXLEN], chain[NFT_NAME_MAXLEN];
	uint64_t handle;
};

/* Packets of the same direction and fate. */
struct packet_fate {
	enum packet_leg leg;
	enum packet_end end;
	enum packet_trace_hook hook; /* the last one where it was seen */
	bool passed;		     /* it had passed all its chains */
	bool translated;	     /* it was seen with other ends than at its beginning, */
	bool redirected;	     /* with another destination: */
	struct endpoint to;	     /* this one, in the first of them; */
	struct packet_place by;	     /* by this rule; no table: not known */
	unsigned iif, oif;
	struct packet_place at;		       /* what decided; no table: nothing of nf_tables */
	char instance[INTERCEPT_NAME_MAX + 1]; /* that accepted it in prerouting; "": none */
	uint32_t mark;			       /* of the first of them, at its end */
	uint64_t first_us;		       /* when the first of them came: wall clock */
	uint64_t packets;
	uint64_t opening, resets; /* TCP: SYN without ACK; RST */
	uint64_t asking;	  /* TCP: SYN, FIN or data, which are to be acknowledged */
	uint64_t again;		  /* TCP: they carry what was sent before */
};

#define PACKET_FATES_MAX 32
#define PACKET_FLIGHTS	 64
#define PACKET_GONE_MAX	 64

/* Of a packet that has come to no end yet. */
struct packet_flight {
	bool used;
	uint32_t id;
	uint64_t last_us;	  /* the last report: monotonic clock */
	struct packet_place rule; /* of somebody else, the last one that it matched */
	struct packet_fate fate;
};

/* Embed it; zero it, and set tuple and own. */
struct packet_fates {
	struct packet_trace_tuple tuple;
	bool own; /* the client is this host */
	struct packet_fate at[PACKET_FATES_MAX];
	unsigned count;
	uint64_t more;		/* packets with fates beyond that */
	uint64_t packets[LEGS]; /* all that were traced */
	/* First fragments, which are not followed: where fragments are put together
	 * (nf_defrag_ipv4, at priority -400 of prerouting, before anybody's rules but ours), the
	 * kernel keeps them, and what goes on is another packet for nftrace. */
	uint64_t fragments[LEGS];
	bool sent_known[LEGS]; /* TCP: */
	/* A VRF shows a packet twice, as its own and as its member's: note those of the first
	 * interface, by which they come or leave. */
	unsigned sent_by[LEGS];
	uint32_t sent[LEGS]; /* the sequence number after the highest one that was sent */
	struct packet_flight flight[PACKET_FLIGHTS];
	/* When the last report of packets came that were dropped, or lost: monotonic clock. */
	uint64_t gone_us[PACKET_GONE_MAX];
	unsigned gone; /* those that there is no room for are left out; take them and set it to 0 */
};

/* Note a report. now_us: when, by the monotonic clock; wall_us: by the wall clock, which may be set
 * back meanwhile and is only told. Both in microseconds. */
void packet_fates_note(struct packet_fates *f, const struct packet_trace_event *event,
		       uint64_t now_us, uint64_t wall_us);

/* Packets that were last reported longer ago than that, by the monotonic clock, have come to their
 * end. Call it now and then, and at the end with age_us 0. */
void packet_fates_settle(struct packet_fates *f, uint64_t now_us, uint64_t age_us);

#endif
