/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What TCP_INFO tells: who opened the connection, and how much of what was acknowledged is
 * payload. */
#include "net/tcpinfo.h"
#include "check.h"
#include <linux/tcp.h>

/* net/tcp_states.h; netinet/tcp.h cannot be included beside linux/tcp.h. */
enum { ESTABLISHED = 1, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT };

static struct tcpinfo parse(const struct tcp_info *info, uint32_t queued)
{
	struct tcpinfo out;

	tcpinfo_parse(info, sizeof(*info), queued, &out);
	return out;
}

/* sent: bytes of payload; flags: sequence numbers acknowledged besides, of the own SYN and FIN */
static struct tcp_info with(uint8_t state, uint64_t sent, uint64_t acknowledged, unsigned flags)
{
	return (struct tcp_info){ .tcpi_state = state,
				  .tcpi_bytes_sent = sent,
				  .tcpi_bytes_acked = acknowledged + flags };
}

static void test_opener(void)
{
	struct tcp_info info = with(ESTABLISHED, 1000, 1000, 1);

	CHECK(parse(&info, 0).opener == OPENER_HERE && parse(&info, 0).bytes_out == 1000);
	info = with(ESTABLISHED, 1000, 1000, 0);
	CHECK(parse(&info, 0).opener == OPENER_PEER && parse(&info, 0).bytes_out == 1000);
	info = with(ESTABLISHED, 0, 0, 1);
	CHECK(parse(&info, 0).opener == OPENER_HERE && parse(&info, 0).bytes_out == 0);
	/* 300 of 1000 are on their way. */
	info = with(ESTABLISHED, 1000, 700, 1);
	CHECK(parse(&info, 300).opener == OPENER_HERE && parse(&info, 300).bytes_out == 700);
	/* 500 more are queued and not sent. */
	info.tcpi_notsent_bytes = 500;
	CHECK(parse(&info, 800).opener == OPENER_HERE);
	/* What was sent again counts once. */
	info = with(ESTABLISHED, 1500, 1000, 0);
	info.tcpi_bytes_retrans = 500;
	CHECK(parse(&info, 0).opener == OPENER_PEER);
	/* The numbers moved between two looks. */
	info = with(ESTABLISHED, 1000, 900, 0);
	CHECK(parse(&info, 0).opener == OPENER_UNKNOWN);
	info = with(ESTABLISHED, 1000, 1100, 0);
	CHECK(parse(&info, 0).opener == OPENER_UNKNOWN);
}

static void test_fin(void)
{
	struct tcp_info info = with(FIN_WAIT2, 10, 10, 2);

	CHECK(parse(&info, 0).opener == OPENER_HERE && parse(&info, 0).bytes_out == 10);
	info = with(FIN_WAIT2, 10, 10, 1);
	CHECK(parse(&info, 0).opener == OPENER_PEER && parse(&info, 0).bytes_out == 10);
	/* The FIN is in the queue, alone. */
	info = with(FIN_WAIT1, 10, 10, 1);
	CHECK(parse(&info, 1).opener == OPENER_HERE);
	info = with(FIN_WAIT1, 10, 10, 0);
	CHECK(parse(&info, 1).opener == OPENER_PEER);
	info = with(CLOSE_WAIT, 10, 10, 1);
	CHECK(parse(&info, 0).opener == OPENER_HERE);
	info = with(SYN_SENT, 0, 0, 0);
	CHECK(parse(&info, 0).opener == OPENER_UNKNOWN && parse(&info, 0).state == SYN_SENT);
	info = with(SYN_RECV, 0, 0, 0);
	CHECK(parse(&info, 0).opener == OPENER_UNKNOWN);
	info = with(CLOSE, 0, 0, 0);
	CHECK(parse(&info, 0).opener == OPENER_UNKNOWN);
}

static void test_health(void)
{
	struct tcp_info info = with(ESTABLISHED, 0, 0, 1);

	info.tcpi_rtt = 1234;
	info.tcpi_total_retrans = 7;
	info.tcpi_retransmits = 2;
	info.tcpi_probes = 3;
	info.tcpi_last_data_sent = 500;
	info.tcpi_last_data_recv = 400;
	info.tcpi_bytes_received = UINT64_MAX;
	CHECK(parse(&info, 0).rtt_us == 1234 && parse(&info, 0).retransmits == 7);
	CHECK(parse(&info, 0).unanswered == 5 && parse(&info, 0).idle_ms == 400);
	CHECK(parse(&info, 0).bytes_in == UINT64_MAX && parse(&info, 0).window_closed);
	info.tcpi_probes = 0;
	info.tcpi_snd_wnd = 1;
	CHECK(!parse(&info, 10).window_closed && !parse(&info, 0).window_closed);
	info.tcpi_snd_wnd = 0;
	CHECK(parse(&info, 10).window_closed && !parse(&info, 0).window_closed);
}

/* An older kernel has fewer fields, a later one has more. */
static void test_length(void)
{
	struct {
		struct tcp_info info;
		char more[64];
	} later = { .info = with(ESTABLISHED, 1000, 1000, 1), .more = "later" };
	struct tcpinfo out;

	tcpinfo_parse(&later, sizeof(later), 0, &out);
	CHECK(out.opener == OPENER_HERE && out.bytes_out == 1000);
	tcpinfo_parse(&later, 1, 0, &out);
	CHECK(out.state == ESTABLISHED && out.bytes_out == 0 && out.bytes_in == 0);
	tcpinfo_parse(&later, 0, 0, &out);
	CHECK(out.state == 0 && out.opener == OPENER_UNKNOWN);
}

int main(void)
{
	test_opener();
	test_fin();
	test_health();
	test_length();
	return check_done();
}
