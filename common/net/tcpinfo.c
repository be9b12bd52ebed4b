/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/tcpinfo.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* States in which our FIN has been acknowledged, or has not been sent (net/tcp_states.h; the header
 * that names them for user space cannot be included together with linux/tcp.h). */
enum {
	ESTABLISHED = 1,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	TIME_WAIT = 6,
	CLOSED = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	CLOSING = 11
};

/* How many sequence numbers our FIN adds to the acknowledged ones; -1: the state does not tell. */
static int acknowledged_fin(int state)
{
	switch (state) {
	case ESTABLISHED:
	case CLOSE_WAIT:
	case FIN_WAIT1:
	case LAST_ACK:
	case CLOSING:
		return 0;
	case FIN_WAIT2:
		return 1;
	default:
		return -1;
	}
}

/*
 * Fact (net/ipv4/tcp_input.c, tcp_minisocks.c): tcpi_bytes_acked counts sequence numbers from
 * snd_una's first value on. That is the SYN itself for the side that connects, and the number after
 * it for the side that accepts; so the connecting side's count is one more than the payload that
 * was sent, less what is being retransmitted or still in flight.
 */
static enum tcpinfo_opener find_opener(const struct tcp_info *info, uint32_t queued)
{
	uint64_t in_flight = queued > info->tcpi_notsent_bytes ? queued - info->tcpi_notsent_bytes
							       : 0;
	uint64_t sent = info->tcpi_bytes_sent - info->tcpi_bytes_retrans;
	int fin = acknowledged_fin(info->tcpi_state);
	uint64_t more = info->tcpi_bytes_acked + in_flight - sent; /* huge if negative */

	if (fin < 0)
		return OPENER_UNKNOWN;
	more -= (uint64_t)fin;
	if (info->tcpi_state == FIN_WAIT1 || info->tcpi_state == LAST_ACK ||
	    info->tcpi_state == CLOSING)
		more -= in_flight > 0; /* the queue contains the FIN and no payload */
	if (more > 1)
		return OPENER_UNKNOWN;
	return more == 1 ? OPENER_HERE : OPENER_PEER;
}

/* Acknowledged payload: without our SYN and FIN. For a socket that has ended it is unknown whether
 * its FIN was acknowledged; the payload cannot exceed what was sent. */
static uint64_t payload_acked(const struct tcp_info *info, enum tcpinfo_opener opener)
{
	uint64_t flags = (opener == OPENER_HERE) + (acknowledged_fin(info->tcpi_state) == 1);
	uint64_t sent = info->tcpi_bytes_sent - info->tcpi_bytes_retrans;
	uint64_t acked = info->tcpi_bytes_acked;

	if (info->tcpi_state == CLOSED)
		return acked < sent ? acked : sent;
	return flags < acked ? acked - flags : 0;
}

/* Received payload: tcpi_bytes_received counts the peer's FIN too (tcp_rcv_nxt_update()). For a
 * socket that has ended it is unknown whether a FIN came: then the result may be one too high. */
static uint64_t payload_received(const struct tcp_info *info)
{
	int state = info->tcpi_state;
	bool fin = state == CLOSE_WAIT || state == LAST_ACK || state == CLOSING ||
		   state == TIME_WAIT;

	return info->tcpi_bytes_received - (fin && info->tcpi_bytes_received);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

void tcpinfo_parse(const void *raw, size_t length, uint32_t queued, struct tcpinfo *out)
{
	struct tcp_info info = { 0 };

	memcpy(&info, raw, length < sizeof(info) ? length : sizeof(info));
	*out = (struct tcpinfo){
		.state = info.tcpi_state,
		.bytes_in = payload_received(&info),
		.opener = find_opener(&info, queued),
		.rtt_us = info.tcpi_rtt,
		.retransmits = info.tcpi_total_retrans,
		.unanswered = (uint32_t)info.tcpi_retransmits + info.tcpi_probes,
		.idle_ms = least(info.tcpi_last_data_sent, info.tcpi_last_data_recv),
		.window_closed = info.tcpi_probes || (queued && !info.tcpi_snd_wnd),
	};
	out->bytes_out = payload_acked(&info, out->opener);
}

/* #syscalls upstream: getsockopt */
int tcpinfo_acked(int fd, uint64_t *acked)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return -1;
	*acked = info.tcpi_bytes_acked;
	return 0;
}

int tcpinfo_read(int fd, struct tcpinfo *out)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);
	int before = 0, after = 0;

	ioctl(fd, SIOCOUTQ, &before);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return -1;
	ioctl(fd, SIOCOUTQ, &after);
	tcpinfo_parse(&info, length, (uint32_t)before, out);
	if (before != after)
		out->opener = OPENER_UNKNOWN;
	return 0;
}
