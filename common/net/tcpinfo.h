/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tcpinfo - what TCP_INFO says about a connection: state, payload each way, how well it goes, and
 * which side opened it.
 */
#ifndef TPROXY_NET_TCPINFO_H
#define TPROXY_NET_TCPINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who sent the first SYN. Unknown while connecting, and if the numbers changed meanwhile. */
enum tcpinfo_opener { OPENER_UNKNOWN, OPENER_HERE, OPENER_PEER };

struct tcpinfo {
	int state;	    /* TCP_ESTABLISHED ... (netinet/tcp.h) */
	uint64_t bytes_in;  /* payload received; of a socket in UNCONN one more after a FIN */
	uint64_t bytes_out; /* payload that was acknowledged */
	enum tcpinfo_opener opener;
	uint32_t rtt_us;      /* smoothed; 0: not measured */
	uint32_t retransmits; /* segments retransmitted over its lifetime */
	uint32_t unanswered;  /* unanswered retransmissions or probes of the same data so far */
	uint32_t idle_ms;     /* since payload was last received or sent (or resent) */
	bool window_closed;   /* the peer takes no more for now, and is being probed */
};

/* Derive it from the kernel's struct tcp_info of that length, and the bytes in the send queue
 * (SIOCOUTQ or idiag_wqueue). */
void tcpinfo_parse(const void *raw, size_t length, uint32_t queued, struct tcpinfo *out);

/* The same for a TCP socket. Returns 0, or -1 with errno. */
int tcpinfo_read(int fd, struct tcpinfo *out);

/* Sequence numbers that the peer has acknowledged: payload, and SYN and FIN if this end sent them
 * (the SYN of an accepted connection does not count). Works for a reset connection too. 0, or -1
 * with errno. */
int tcpinfo_acked(int fd, uint64_t *acked);

#endif
