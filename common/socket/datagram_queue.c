/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/datagram_queue.h"

#include "socket/datagram.h"
#include "socket/datagram_raw.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define QUEUE_MAX    64
#define PIECES_MAX   192
#define SEGMENTS_MAX 64	   /* UDP_MAX_SEGMENTS before Linux 6.9 */
#define TOGETHER_MAX 65000 /* per send with UDP_SEGMENT: with headers it stays below 64 KiB */

/* One message of sendmmsg(2). `out` is its first datagram; segment is the length of all but the
 * last. */
struct entry {
	struct datagram_out out;
	struct endpoint to, from;
	unsigned segments;
	bool complete; /* the last is shorter, or must be alone: nothing may follow */
	size_t total;
	union endpoint_sockaddr name;
	_Alignas(struct cmsghdr) char control[128];
	unsigned char header[DATAGRAM_HEADER_MAX];
};

struct datagram_queue {
	datagram_failed *failed;
	void *context;
	unsigned count, pieces;
	struct mmsghdr messages[QUEUE_MAX];
	struct iovec data[PIECES_MAX];
	struct entry at[QUEUE_MAX];
};

struct datagram_queue *datagram_queue_new(datagram_failed *failed, void *context,
					  struct failure *why)
{
	struct datagram_queue *q = calloc(1, sizeof(*q));

	if (!q) {
		report_fail(why, ENOMEM, "malloc", "queue of datagrams");
		return NULL;
	}
	q->failed = failed;
	q->context = context;
	return q;
}

void datagram_queue_free(struct datagram_queue *q)
{
	free(q);
}

/* ---- control messages ---- */

/* Only if they differ from the socket's: each one costs the kernel some parsing. */
static void add_class(struct msghdr *m, const struct datagram_out *out)
{
	bool v6 = (out->to ? out->to->family : out->family) == AF_INET6;
	int class = out->class, hops = out->hops;

	if (class)
		datagram_add_control(m, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TCLASS : IP_TOS, &class,
				     sizeof(class));
	if (hops)
		datagram_add_control(m, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_HOPLIMIT : IP_TTL, &hops,
				     sizeof(hops));
}

/* Everything of the message except its data and UDP_SEGMENT, which are only known when it is
 * sent. */
static void address(struct entry *e, struct msghdr *m)
{
	struct endpoint to;

	m->msg_control = &e->control;
	if (!e->out.to) {
		add_class(m, &e->out);
		return;
	}
	to = *e->out.to;
	if (e->out.raw)
		to.port = 0; /* IPv6 takes it for the protocol */
	m->msg_name = &e->name;
	m->msg_namelen = endpoint_to_sockaddr(&to, &e->name);
	if (e->out.from)
		datagram_add_source(m, e->out.from);
	add_class(m, &e->out);
}

static void finish_message(struct entry *e, struct msghdr *m)
{
	uint16_t segment = e->out.segment;

	if (e->segments > 1)
		datagram_add_control(m, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	if (!m->msg_controllen)
		m->msg_control = NULL;
}

/* ---- what may go together ---- */

/* What precedes the payload: a UDP header, if the kernel does not build it, and the header. */
static size_t header_length(const struct datagram_out *out)
{
	return (out->raw ? DATAGRAM_RAW_HEADER : 0) + out->header_length;
}

static unsigned segments_of(const struct datagram_out *out)
{
	return out->segment ? (unsigned)((out->length + out->segment - 1) / out->segment) : 1;
}

static bool is_same_way(const struct entry *e, const struct datagram_out *out)
{
	if (e->out.owner != out->owner || !e->out.to != !out->to || e->out.single || out->single)
		return false;
	if (header_length(&e->out) || header_length(out))
		return false;
	if (e->out.class != out->class || e->out.hops != out->hops)
		return false;
	if (!out->to)
		return true;
	return endpoint_equal(&e->to, out->to) && !e->out.from == !out->from &&
	       (!out->from || endpoint_equal(&e->from, out->from));
}

static bool fits_behind(const struct datagram_queue *q, const struct entry *e,
			const struct datagram_out *out)
{
	size_t unit = e->out.segment ? e->out.segment : e->total;

	if (e->complete || !out->length || !is_same_way(e, out) || q->pieces == PIECES_MAX)
		return false;
	if (out->segment ? out->segment != unit : out->length > unit)
		return false;
	return e->total + out->length <= TOGETHER_MAX &&
	       e->segments + segments_of(out) <= SEGMENTS_MAX;
}

static void append(struct datagram_queue *q, struct entry *e, const struct datagram_out *out)
{
	if (!e->out.segment)
		e->out.segment = (uint16_t)e->total;
	q->data[q->pieces++] = (struct iovec){ (void *)out->payload, out->length };
	q->messages[q->count - 1].msg_hdr.msg_iovlen++;
	e->segments += segments_of(out);
	e->total += out->length;
	e->complete = out->length % e->out.segment != 0;
}

static void copy_header(struct entry *e, const struct datagram_out *out)
{
	if (out->raw)
		datagram_raw_header(out->from, out->to, out->header, out->header_length,
				    out->payload, out->length, e->header);
	if (out->header_length)
		memcpy(e->header + (out->raw ? DATAGRAM_RAW_HEADER : 0), out->header,
		       out->header_length);
	e->out.header = e->header;
}

static void begin(struct datagram_queue *q, const struct datagram_out *out)
{
	struct entry *e = &q->at[q->count];
	struct msghdr *m = &q->messages[q->count++].msg_hdr;

	e->out = *out;
	e->segments = segments_of(out);
	e->total = out->length;
	e->complete = !out->length || (out->segment && out->length % out->segment);
	*m = (struct msghdr){ .msg_iov = &q->data[q->pieces] };
	if (out->to)
		e->out.to = memcpy(&e->to, out->to, sizeof(e->to));
	if (out->from)
		e->out.from = memcpy(&e->from, out->from, sizeof(e->from));
	if (header_length(out)) {
		copy_header(e, out);
		q->data[q->pieces++] = (struct iovec){ e->header, header_length(out) };
		m->msg_iovlen++;
	}
	q->data[q->pieces++] = (struct iovec){ (void *)out->payload, out->length };
	m->msg_iovlen++;
	address(e, m);
}

/* A message that cannot be sent as it is: send each segment separately. */
static void put_singly(struct datagram_queue *q, const struct datagram_out *out)
{
	struct datagram_out one = *out;

	one.segment = 0;
	for (size_t at = 0; at < out->length; at += out->segment) {
		size_t left = out->length - at;

		one.payload = (const char *)out->payload + at;
		one.length = left < out->segment ? left : out->segment;
		datagram_queue_put(q, &one);
	}
}

void datagram_queue_put(struct datagram_queue *q, const struct datagram_out *out)
{
	if (out->segment && (out->single || header_length(out) || out->length > TOGETHER_MAX ||
			     segments_of(out) > SEGMENTS_MAX)) {
		put_singly(q, out);
		return;
	}
	if (q->count &&
	    (q->at[0].out.fd != out->fd || q->count == QUEUE_MAX || q->pieces + 2 > PIECES_MAX))
		datagram_queue_flush(q);
	if (q->count && fits_behind(q, &q->at[q->count - 1], out))
		append(q, &q->at[q->count - 1], out);
	else
		begin(q, out);
}

/* ---- out ---- */

/*
 * Send one datagram that sendmmsg(2) has refused, perhaps because of another one.
 * #syscalls upstream_udp: sendmsg
 */
static void send_again(struct datagram_queue *q, const struct datagram_out *out, struct msghdr *m)
{
	if (q->failed(q->context, out, errno) &&
	    sendmsg(out->fd, m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		q->failed(q->context, out, errno);
}

/* Send the datagrams of one piece of a message that was refused as a whole. */
static void send_piece(struct datagram_queue *q, struct entry *e, struct msghdr *m,
		       const struct iovec *piece)
{
	struct datagram_out one = e->out;
	struct iovec data;

	one.segment = 0;
	m->msg_iov = &data;
	m->msg_iovlen = 1;
	for (size_t at = 0; at < piece->iov_len; at += e->out.segment) {
		size_t left = piece->iov_len - at;

		one.payload = (const char *)piece->iov_base + at;
		one.length = left < e->out.segment ? left : e->out.segment;
		data = (struct iovec){ (void *)one.payload, one.length };
		if (sendmsg(one.fd, m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			send_again(q, &one, m);
	}
}

static void send_singly(struct datagram_queue *q, struct entry *e, struct msghdr *m)
{
	const struct iovec *pieces = m->msg_iov;
	size_t count = m->msg_iovlen;

	q->failed(q->context, &e->out, errno);
	/* Without UDP_SEGMENT, the last control message. */
	m->msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
	if (!m->msg_controllen)
		m->msg_control = NULL;
	for (size_t i = 0; i < count; i++)
		send_piece(q, e, m, &pieces[i]);
}

static void handle_refusal(struct datagram_queue *q, unsigned i)
{
	struct entry *e = &q->at[i];
	struct msghdr *m = &q->messages[i].msg_hdr;

	if (e->segments > 1)
		send_singly(q, e, m);
	else
		send_again(q, &e->out, m);
}

/* #syscalls upstream_udp: sendmmsg */
void datagram_queue_flush(struct datagram_queue *q)
{
	unsigned at = 0, count = q->count;
	int sent;

	for (unsigned i = 0; i < count; i++)
		finish_message(&q->at[i], &q->messages[i].msg_hdr);
	/* Datagrams that the error callback queues meanwhile wait for the next flush. */
	while (at < count) {
		sent = sendmmsg(q->at[at].out.fd, q->messages + at, count - at,
				MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0)
			at += (unsigned)sent;
		else if (errno != EINTR)
			handle_refusal(q, at++);
	}
	q->count = q->pieces = 0;
}
