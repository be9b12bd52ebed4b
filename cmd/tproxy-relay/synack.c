/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/synack.h"

#include "socket/datagram.h"
#include "socket/dscp.h"
#include <errno.h>
#include <linux/filter.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH	    32
#define BATCHES_MAX 64
#define KNOWN	    4096 /* a power of two */
#define PACKET_MAX  80	 /* both headers, with IPv4 options */
#define QUEUE_BYTES (1 << 20)

/* A server's answer, in network order. */
struct answer {
	uint32_t server, local;
	uint16_t server_port, local_port;
	uint8_t dscp;
};

struct synack {
	int fd;
	pthread_mutex_t lock;
	struct answer known[KNOWN]; /* the newest for each hash */
	uint8_t packets[BATCH][PACKET_MAX];
};

/* ---- the socket ---- */

/* Packets begin with the IP header. SYN and ACK must be the only flags, except for ECN's and PSH,
 * which do not matter. */
static int set_filter(int fd)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 13),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK | TH_RST | TH_FIN),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN | TH_ACK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, PACKET_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	static const struct sock_fprog program = { sizeof(code) / sizeof(*code), code };
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
		return -1;
	return setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on));
}

struct synack *synack_new(struct failure *why)
{
	struct synack *s = calloc(1, sizeof(*s));

	if (!s) {
		report_fail(why, errno, "malloc", "answers of servers");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (s->fd >= 0 && set_filter(s->fd) == 0) {
		datagram_set_buffers(s->fd, QUEUE_BYTES);
		return s;
	}
	report_fail(why, errno, "socket(SOCK_RAW)", "answers of servers");
	synack_free(s);
	return NULL;
}

void synack_free(struct synack *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- what is known ---- */

static struct answer *slot_of(struct synack *s, const struct answer *a)
{
	uint32_t hash = a->server ^ a->local * 0x9e3779b1u;

	hash ^= ((uint32_t)a->server_port << 16 | a->local_port) * 0x85ebca6bu;
	hash = (hash ^ hash >> 15) * 0xc2b2ae35u;
	return &s->known[(hash >> 16) % KNOWN];
}

static void note(struct synack *s, const uint8_t *packet, size_t length)
{
	struct answer a;
	struct tcphdr tcp;
	struct iphdr ip;

	if (length < sizeof(ip))
		return;
	memcpy(&ip, packet, sizeof(ip));
	if (length < ip.ihl * 4u + sizeof(tcp))
		return;
	memcpy(&tcp, packet + ip.ihl * 4u, sizeof(tcp));
	a = (struct answer){ ip.saddr, ip.daddr, tcp.source, tcp.dest, ip.tos & DSCP_MASK };
	*slot_of(s, &a) = a;
}

/*
 * Returns how many it has read: less than BATCH means that the queue is empty.
 * #syscalls upstream: recvmmsg
 */
static int read_batch(struct synack *s)
{
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
	int count;

	for (unsigned i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ s->packets[i], PACKET_MAX };
		messages[i] = (struct mmsghdr){
			.msg_hdr = { .msg_iov = &parts[i], .msg_iovlen = 1 },
		};
	}
	count = recvmmsg(s->fd, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++)
		note(s, s->packets[i], messages[i].msg_len);
	return count;
}

/* Do not read more than the buffer had room for: somebody may send packets as fast as we read. */
static void read_all(struct synack *s)
{
	int batches = 0;

	while (batches++ < BATCHES_MAX && read_batch(s) == BATCH)
		;
}

void synack_make_room(struct synack *s)
{
	pthread_mutex_lock(&s->lock);
	read_all(s);
	pthread_mutex_unlock(&s->lock);
}

uint8_t synack_dscp(struct synack *s, const struct endpoint *local, const struct endpoint *server)
{
	struct answer wanted = { server->addr.v4.s_addr, local->addr.v4.s_addr, htons(server->port),
				 htons(local->port), 0 };
	const struct answer *a = slot_of(s, &wanted);
	uint8_t dscp = 0;

	pthread_mutex_lock(&s->lock);
	read_all(s);
	if (a->server == wanted.server && a->local == wanted.local &&
	    a->server_port == wanted.server_port && a->local_port == wanted.local_port)
		dscp = a->dscp;
	pthread_mutex_unlock(&s->lock);
	return dscp;
}
