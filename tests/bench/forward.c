/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * forward - what it takes to forward a packet of 1,500 bytes.
 *
 *	forward INTERFACE MAC SOURCE:PORT DESTINATION:PORT
 *
 * Sends TCP segments of a connection that does not exist out of the interface to the router with
 * that MAC, in batches. Over veth pairs the kernel carries each the whole way before the next, on
 * this processor and in this process's time, so the time of a batch is the work for its packets and
 * nothing else. Prints the nanoseconds for one packet, in the batch that one of ten was faster
 * than: others were interrupted.
 */
#include "base/endpoint.h"
#include "base/report.h"
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SIZE	1500
#define BATCH	500 /* packets */
#define BATCHES 400

struct packet {
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t payload[SIZE - sizeof(struct iphdr) - sizeof(struct tcphdr)];
};

static uint16_t forward_checksum(const struct iphdr *ip)
{
	uint16_t word[sizeof(*ip) / 2];
	uint32_t sum = 0;

	memcpy(word, ip, sizeof(*ip));
	for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

/* Nobody looks at the segment's own checksum: it is dropped where it arrives. */
static void forward_fill(struct packet *p, const struct endpoint *from, const struct endpoint *to)
{
	memset(p, 0, sizeof(*p));
	p->ip = (struct iphdr){ .version = 4,
				.ihl = 5,
				.tot_len = htons(SIZE),
				.ttl = 64,
				.protocol = IPPROTO_TCP,
				.saddr = from->addr.v4.s_addr,
				.daddr = to->addr.v4.s_addr };
	p->ip.check = forward_checksum(&p->ip);
	p->tcp.source = htons(from->port);
	p->tcp.dest = htons(to->port);
	p->tcp.doff = 5;
	p->tcp.ack = 1;
	p->tcp.window = htons(1000);
}

static int forward_open(const char *interface, const char *mac, struct sockaddr_ll *to)
{
	const int yes = 1;
	uint8_t *at = to->sll_addr;
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	*to = (struct sockaddr_ll){ .sll_family = AF_PACKET,
				    .sll_protocol = htons(ETH_P_IP),
				    .sll_ifindex = (int)if_nametoindex(interface),
				    .sll_halen = ETH_ALEN };
	if (sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &at[0], &at[1], &at[2], &at[3],
		   &at[4], &at[5]) != ETH_ALEN)
		errno = EINVAL;
	else if (fd >= 0 && !setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)))
		return fd;
	return -1;
}

/* Nanoseconds a packet, or -1. */
static double forward_batch(int fd, const struct packet *p, const struct sockaddr_ll *to)
{
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < BATCH; i++)
		if (sendto(fd, p, sizeof(*p), 0, (const void *)to, sizeof(*to)) != sizeof(*p))
			return -1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) /
	       BATCH;
}

static int forward_compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int main(int argc, char **argv)
{
	static struct packet packet;
	static double took[BATCHES];
	struct endpoint from, to;
	struct sockaddr_ll router;
	struct failure why;
	int fd;

	report_init("forward");
	if (argc != 5 || endpoint_parse(argv[3], &from, &why) ||
	    endpoint_parse(argv[4], &to, &why)) {
		report_error("usage: forward INTERFACE MAC SOURCE:PORT DESTINATION:PORT");
		return STATUS_USAGE;
	}
	forward_fill(&packet, &from, &to);
	fd = forward_open(argv[1], argv[2], &router);
	for (int i = 0; i < BATCHES; i++) {
		took[i] = fd < 0 ? -1 : forward_batch(fd, &packet, &router);
		if (took[i] < 0) {
			report_error("%s: %s", argv[1], strerror(errno));
			return STATUS_REFUSED;
		}
	}
	qsort(took, BATCHES, sizeof(*took), forward_compare);
	printf("%.0f\n", took[BATCHES / 10]);
	return report_close_stdout(STATUS_DONE);
}
