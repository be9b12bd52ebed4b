/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trace_message - one message of nftrace: what a chain of nf_tables did to a packet.
 *
 * Facts (net/netfilter/nf_tables_trace.c): a packet whose nf_trace bit is set is reported by each
 * rule that it matches and that lets it continue, by the one with a verdict, and by the policy of
 * the base chain; rules that it does not match are silent. Packet headers come with the first
 * message of each base chain: at most 40 bytes of the network and 20 of the transport header. The
 * id is the same at all hooks, and is used again for later packets.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_TRACE_MESSAGE_H
#define TPROXY_INSPECT_EXPLAIN_TRACE_MESSAGE_H

#include "base/endpoint.h"
#include <stdbool.h>
#include <stdint.h>

/* What its headers say. */
struct trace_packet {
	bool known;    /* the message has them, and the packet is TCP or UDP */
	bool fragment; /* IPv4: the first of several; of the others no ports are known */
	int protocol;  /* IPPROTO_TCP or IPPROTO_UDP */
	struct endpoint source, destination;
	uint8_t flags;	   /* TCP: TH_SYN ... (netinet/tcp.h) */
	uint32_t sequence; /* TCP */
	uint32_t payload;  /* bytes */
};

struct trace_message {
	uint32_t id;
	uint8_t family;		   /* NFPROTO_... of the table */
	const char *table, *chain; /* borrowed from the message */
	uint64_t handle;	   /* of the rule; 0: the policy of the base chain */
	int verdict;		   /* NF_DROP, NF_ACCEPT, ..., NFT_CONTINUE, ... */
	unsigned iif, oif;	   /* indexes; 0: none, or not said */
	uint32_t mark;
	struct trace_packet packet;
};

/* Parse a message of the group NFNLGRP_NFTRACE. False: it is none, or is malformed. */
struct nlmsghdr;
bool trace_message_parse(struct nlmsghdr *message, struct trace_message *out);

#endif
