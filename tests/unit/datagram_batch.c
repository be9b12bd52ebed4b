/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two sockets on lo, no privilege. */
#include "socket/datagram_batch.h"
#include "check.h"
#include "socket/datagram_queue.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int from, to;
static struct endpoint target;
static struct datagram_batch *batch;
static struct datagram_queue *queue;
static int errors[8], single_errors;
static bool again;

static bool failed(void *context, const struct datagram_out *out, int error)
{
	errors[out->segment ? 1 : 0]++;
	single_errors = error;
	return again && !out->segment;
}

static void open_both(void)
{
	struct failure why;

	CHECK(endpoint_parse("127.0.0.1:1", &target, &why) == 0);
	target.port = 0;
	to = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	from = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	for (int i = 0; i < 2; i++) {
		union endpoint_sockaddr sa;
		socklen_t length = endpoint_to_sockaddr(&target, &sa);

		CHECK(bind(i ? from : to, &sa.sa, length) == 0);
	}
	target = endpoint_local_of(to);
	batch = datagram_batch_new(&why);
	queue = datagram_queue_new(failed, NULL, &why);
	CHECK(batch && queue);
}

static void put(const void *payload, size_t length, uint16_t segment)
{
	struct datagram_out out = {
		.fd = from, .to = &target, .payload = payload, .length = length, .segment = segment
	};

	datagram_queue_put(queue, &out);
}

/* What has come: count of datagrams, checked against the lengths given. */
static void expect(const size_t *lengths, unsigned count)
{
	unsigned first;
	int got;

	datagram_batch_reset(batch);
	got = datagram_batch_receive(batch, to, DATAGRAM_SLOTS, &first);
	CHECK(got == (int)count && first == 0);
	for (unsigned i = 0; i < count && got == (int)count; i++)
		CHECK(datagram_batch_at(batch, i)->length == lengths[i]);
}

static void test_lengths(void)
{
	static unsigned char big[65507];
	static const size_t lengths[] = { 0, 10, 10, 10, 4, 10, 0, 65507, 65507, 1 };

	memset(big, 7, sizeof(big));
	for (unsigned i = 0; i < 10; i++)
		put(big, lengths[i], 0);
	datagram_queue_flush(queue);
	expect(lengths, 10);
	CHECK(memcmp(datagram_batch_payload(batch, 7), big, sizeof(big)) == 0);
	CHECK(errors[0] == 0 && errors[1] == 0);
}

/* Segments of one buffer, alone and with what goes behind them. */
static void test_segments(void)
{
	static const size_t lengths[] = { 100, 100, 100, 50, 100, 100, 100, 30, 100 };
	unsigned char data[350];

	memset(data, 1, sizeof(data));
	put(data, 350, 100);
	put(data, 200, 100);
	put(data, 100, 0);
	put(data, 30, 0);
	put(data, 100, 0);
	datagram_queue_flush(queue);
	expect(lengths, 9);
}

static void test_contents_in_order(void)
{
	static unsigned char data[1000];
	unsigned seen = 0, first;
	int got;

	for (unsigned i = 0; i < 200; i++) {
		memset(data + i * 5, (int)i, 5);
		put(data + i * 5, 5, 0);
	}
	datagram_queue_flush(queue);
	do {
		datagram_batch_reset(batch);
		got = datagram_batch_receive(batch, to, DATAGRAM_SLOTS, &first);
		for (int i = 0; i < got; i++, seen++)
			CHECK(memcmp(datagram_batch_payload(batch, (unsigned)i), data + seen * 5,
				     5) == 0);
	} while (got > 0);
	CHECK(seen == 200);
}

/* Slots that hold something are not read into. */
static void test_slots(void)
{
	unsigned first;

	put("one", 3, 0);
	datagram_queue_flush(queue);
	datagram_batch_reset(batch);
	CHECK(datagram_batch_receive(batch, to, 5, &first) == 1 && first == 0);
	put("two", 3, 0);
	datagram_queue_flush(queue);
	CHECK(datagram_batch_receive(batch, to, 5, &first) == 1 && first == 1);
	CHECK(memcmp(datagram_batch_payload(batch, 0), "one", 3) == 0);
	CHECK(memcmp(datagram_batch_payload(batch, 1), "two", 3) == 0);
	CHECK(datagram_batch_room(batch) == DATAGRAM_SLOTS - 2);
	CHECK(datagram_batch_receive(batch, to, 5, &first) == 0);
}

static void test_header(void)
{
	unsigned char data[20] = { 0 };
	struct datagram_out out = { .fd = from,
				    .to = &target,
				    .header = "head",
				    .header_length = 4,
				    .payload = data,
				    .length = 20,
				    .segment = 8 };
	static const size_t lengths[] = { 12, 12, 8 };

	datagram_queue_put(queue, &out);
	datagram_queue_flush(queue);
	expect(lengths, 3);
	CHECK(memcmp(datagram_batch_payload(batch, 2), "head", 4) == 0);
}

/* A closed port: the error of one send is told with the next, which is tried again if asked for. */
static void test_errors(void)
{
	struct endpoint closed = target;
	union endpoint_sockaddr sa;
	struct datagram_out out = { .payload = "x", .length = 1 };
	int other = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	closed.port = 1;
	CHECK(connect(other, &sa.sa, endpoint_to_sockaddr(&closed, &sa)) == 0);
	out.fd = other;
	again = true;
	errors[0] = 0;
	datagram_queue_put(queue, &out);
	datagram_queue_flush(queue);
	CHECK(errors[0] == 0);
	datagram_queue_put(queue, &out);
	datagram_queue_flush(queue);
	CHECK(errors[0] == 1 && single_errors == ECONNREFUSED);
	close(other);
}

int main(void)
{
	open_both();
	test_lengths();
	test_segments();
	test_contents_in_order();
	test_slots();
	test_header();
	test_errors();
	datagram_batch_free(batch);
	datagram_queue_free(queue);
	return check_done();
}
