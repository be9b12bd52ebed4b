/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * packet_trace - the kernel's reports (nftrace) of the real packets of one connection.
 *
 * A table of our own sets the trace bit of these packets where they first meet netfilter, and has a
 * chain at both ends of each hook, so that a packet is reported wherever it comes, also where
 * nobody else has rules. The table changes nothing else about a packet, and tracks no connections.
 * It belongs to our netlink socket (NFT_TABLE_F_OWNER): the kernel removes it when the socket
 * closes, however the process ends, and nobody else can change it meanwhile.
 *
 * Packets that somebody else traces are reported, too; the caller knows ours by their beginning.
 * Per direction and hook at most PACKET_TRACE_RATE packets a second are traced; all are counted.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_PACKET_TRACE_H
#define TPROXY_INSPECT_EXPLAIN_PACKET_TRACE_H

#include "base/report.h"
#include "tproxy-inspect/explain/trace_message.h"

#define PACKET_TRACE_RATE 50

/* Which packets: of a family AF_UNSPEC or a port 0, any. */
struct packet_trace_tuple {
	int protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	int family;   /* AF_UNSPEC: both */
	struct endpoint client, destination;
	unsigned iif; /* where the client's come in; 0: anywhere */
};

/* Does the packet belong to it: is it one of the client's, is it an answer? */
bool packet_trace_is_request(const struct packet_trace_tuple *tuple, const struct trace_packet *p);
bool packet_trace_is_answer(const struct packet_trace_tuple *tuple, const struct trace_packet *p);

bool packet_trace_is_destination(const struct packet_trace_tuple *tuple, const struct endpoint *e);

/* Is it between any two ends? Requests and answers look the same then. */
bool packet_trace_is_anything(const struct packet_trace_tuple *tuple);

enum packet_trace_hook {
	TRACE_PREROUTING,
	TRACE_INPUT,
	TRACE_FORWARD,
	TRACE_OUTPUT,
	TRACE_POSTROUTING,
	TRACE_HOOKS
};
const char *packet_trace_hook_name(enum packet_trace_hook hook);

/* A message, and what it means if a chain of our table sent it. */
struct packet_trace_event {
	struct trace_message message;
	bool ours;
	bool begins; /* the trace bit was set here: a packet of the tuple enters */
	enum packet_trace_hook hook;
	bool last; /* the packet leaves the hook: it has passed all other chains */
};

/* Packets of the client's, and answers, that entered at each of these two hooks. */
struct packet_trace_counts {
	uint64_t request, answer; /* at prerouting */
	uint64_t upstream, reply; /* at output: with the client's ends, or the other way round */
};

/* Begin to trace. NULL with *why (CAP_NET_ADMIN). */
struct packet_trace;
struct packet_trace *packet_trace_open(const struct packet_trace_tuple *tuple, struct failure *why);

/* From now on only this one. 0, or -1 with *why. */
int packet_trace_narrow(struct packet_trace *t, const struct packet_trace_tuple *tuple,
			struct failure *why);

/* How many there were since the last of the two calls above, traced or not. 0, or -1 with *why. */
int packet_trace_count(struct packet_trace *t, struct packet_trace_counts *counts,
		       struct failure *why);

/* End it, and remove the table. */
void packet_trace_close(struct packet_trace *t);

/* To poll for reading; packet_trace_read() does not block. */
int packet_trace_fd(const struct packet_trace *t);

/* Visit what was reported since the last call. Returns 0; 1 if some was lost (ENOBUFS); or -1 with
 * *why. */
typedef void packet_trace_visitor(const struct packet_trace_event *event, void *context);
int packet_trace_read(struct packet_trace *t, packet_trace_visitor *visit, void *context,
		      struct failure *why);

#endif
