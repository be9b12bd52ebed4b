/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/pair_record.h"

#include "tproxy-inspect/relays.h"
#include "tproxy-inspect/socket_record.h"
#include <netinet/tcp.h>

static void put_client(struct record *r, const struct sockdiag_socket *s)
{
	record_text(r, RECORD_STATE, sockdiag_state_name(s->state));
	record_number(r, RECORD_RECV_Q, s->rqueue);
	record_number(r, RECORD_SEND_Q, s->wqueue);
	record_microseconds(r, RECORD_RTT_MS, s->tcp.rtt_us);
	record_number(r, RECORD_RETRANS, s->tcp.retransmits);
	record_number(r, RECORD_COOKIE, s->cookie);
}

static void put_upstream(struct record *r, const struct sockdiag_socket *s)
{
	record_text(r, RECORD_UPSTREAM_STATE, sockdiag_state_name(s->state));
	record_number(r, RECORD_UPSTREAM_RECV_Q, s->rqueue);
	record_number(r, RECORD_UPSTREAM_SEND_Q, s->wqueue);
	record_microseconds(r, RECORD_UPSTREAM_RTT_MS, s->tcp.rtt_us);
	record_number(r, RECORD_UPSTREAM_RETRANS, s->tcp.retransmits);
	record_number(r, RECORD_UPSTREAM_COOKIE, s->cookie);
}

/* A flow's state is the relay's word; its queues are those of the sockets that it has. */
static void put_flow(struct record *r, const struct pairing_pair *pair,
		     const struct relays_pair *told)
{
	const struct sockdiag_socket *c = pair->client, *u = pair->upstream;

	record_text(r, RECORD_STATE, told->state);
	if (c && c->inode) {
		record_number(r, RECORD_RECV_Q, c->rqueue);
		record_number(r, RECORD_SEND_Q, c->wqueue);
		record_number(r, RECORD_COOKIE, told->cookie);
	}
	if (u && u->inode) {
		record_text(r, RECORD_UPSTREAM_STATE, sockdiag_state_name(u->state));
		record_number(r, RECORD_UPSTREAM_RECV_Q, u->rqueue);
		record_number(r, RECORD_UPSTREAM_SEND_Q, u->wqueue);
		record_number(r, RECORD_UPSTREAM_COOKIE, told->upstream_cookie);
	}
	record_number(r, RECORD_PACKETS_UP, told->packets_up);
	record_number(r, RECORD_PACKETS_DOWN, told->packets_down);
}

static void put_ends(struct record *r, const struct pairing_pair *pair)
{
	const struct relays_pair *flow = pairing_flow(pair);

	if (pair->client) {
		record_endpoint(r, RECORD_CLIENT, &pair->client->peer);
		record_endpoint(r, RECORD_ORIGDST, flow ? &flow->origdst : &pair->client->local);
	}
	if (pair->upstream) {
		record_endpoint(r, RECORD_UPSTREAM_LOCAL, &pair->upstream->local);
		record_endpoint(r, RECORD_UPSTREAM, &pair->upstream->peer);
	}
}

static void put_elsewhere(struct record *r, const struct relays_pair *told)
{
	record_endpoint(r, RECORD_UPSTREAM_LOCAL, &told->upstream_local);
	record_endpoint(r, RECORD_UPSTREAM, &told->upstream);
	record_number(r, RECORD_UPSTREAM_COOKIE, told->upstream_cookie);
	record_text(r, RECORD_UPSTREAM_NETNS, told->netns);
}

struct pair_record_bytes pair_record_bytes(const struct pairing_pair *pair)
{
	const struct tcpinfo *client = pair->client ? &pair->client->tcp : NULL;
	const struct tcpinfo *upstream = pair->upstream ? &pair->upstream->tcp : NULL;
	const struct relays_pair *flow = pairing_flow(pair);

	if (flow)
		return (struct pair_record_bytes){ flow->bytes_up, flow->bytes_down };
	if (!client && !upstream)
		return (struct pair_record_bytes){ 0 };
	if (!client)
		return (struct pair_record_bytes){ upstream->bytes_out, upstream->bytes_in };
	/* What is one more than went on to the server is a FIN (tcpinfo.h). */
	if (upstream && pair->client->state == TCP_CLOSE &&
	    client->bytes_in == upstream->bytes_out + 1)
		return (struct pair_record_bytes){ upstream->bytes_out, client->bytes_out };
	return (struct pair_record_bytes){ client->bytes_in, client->bytes_out };
}

uint32_t pair_record_idle(const struct pairing_pair *pair)
{
	uint32_t client = pair->client ? pair->client->tcp.idle_ms : UINT32_MAX;
	uint32_t upstream = pair->upstream ? pair->upstream->tcp.idle_ms : UINT32_MAX;
	const struct relays_pair *flow = pairing_flow(pair);

	if (flow)
		return (uint32_t)(flow->idle_us / 1000);
	return client < upstream ? client : upstream;
}

void pair_record_fill(struct record *r, const char *type, const struct pairing_pair *pair)
{
	static const char *const by[] = { NULL, "guessed", "relay" };
	const struct sockdiag_socket *any = pair->client ? pair->client : pair->upstream;
	const struct relays_pair *flow = pairing_flow(pair);
	struct pair_record_bytes bytes = pair_record_bytes(pair);

	record_begin(r, type);
	record_text(r, RECORD_PROTO, socket_record_proto(any->protocol));
	put_ends(r, pair);
	if (flow)
		put_flow(r, pair, flow);
	if (pair->client && !flow)
		put_client(r, pair->client);
	if (pair->upstream && !flow)
		put_upstream(r, pair->upstream);
	if (pair->told && !pair->upstream)
		put_elsewhere(r, pair->told);
	record_number(r, RECORD_BYTES_UP, bytes.up);
	record_number(r, RECORD_BYTES_DOWN, bytes.down);
	record_microseconds(r, RECORD_IDLE_MS, (uint64_t)pair_record_idle(pair) * 1000);
	record_text(r, RECORD_PAIRED_BY, by[pair->by]);
}
