/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagrams - loads a relay with UDP, and answers for its upstream (`make bench-udp`).
 *
 *	serve ADDRESS:PORT			answers each datagram with itself, until it is killed
 *	sink ADDRESS:PORT			counts, until SIGTERM; prints DATAGRAMS BYTES
 *	ask ADDRESS:PORT SECONDS WINDOW RATE OWN-ADDRESS...
 *		exchanges of one datagram each way, each from a port that was not used before, as a name
 *		server's clients make them: WINDOW at a time, or RATE a second if that is not 0;
 *		prints EXCHANGES SECONDS LOST P50 P99 (microseconds)
 *	flows ADDRESS:PORT SECONDS WINDOW COUNT
 *		opens so many flows and says `ready'; for the next line on stdin exchanges with all of them in
 *		turn, and prints the same; ends at the end of stdin
 *	stream ADDRESS:PORT SECONDS SIZE RATE TOGETHER
 *		one flow of RATE datagrams a second, so many handed to the kernel as one; prints DATAGRAMS
 */
#include "base/endpoint.h"
#include "base/report.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLOTS	  64
#define SIZE	  40 /* of a question */
#define LATE_US	  1000000
#define PORT_LOW  10000
#define PORT_HIGH 60000
#define LATENCIES (1 << 22)
#define SPAN	  500 /* flows opened together */

#define SEGMENT 103 /* UDP_SEGMENT */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
	fprintf(stderr, "datagrams: %s: %s\n", what, strerror(errno));
	exit(3);
}

static struct endpoint endpoint_of(const char *text)
{
	struct failure why = { 0 };
	struct endpoint e;

	if (strchr(text, ':') ? endpoint_parse(text, &e, &why) == 0
			      : endpoint_parse_address(text, &e, &why) == 0)
		return e;
	fprintf(stderr, "datagrams: %s: %s\n", text, why.detail);
	exit(2);
}

/* A socket with such ends; NULL or port 0: any. */
static int open_socket(const struct endpoint *own, const struct endpoint *other)
{
	union endpoint_sockaddr sa;
	int fd = socket((own ? own : other)->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int buffer = 4 << 20;

	if (fd < 0)
		die("socket");
	if (own && bind(fd, &sa.sa, endpoint_to_sockaddr(own, &sa)) < 0)
		die("bind");
	if (other && connect(fd, &sa.sa, endpoint_to_sockaddr(other, &sa)) < 0)
		die("connect");
	if (!own || !other)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	return fd;
}

/* ---- servers ---- */

static volatile sig_atomic_t stopped;

static void stop(int signo)
{
	stopped = 1;
}

struct batch {
	struct mmsghdr messages[SLOTS];
	struct iovec data[SLOTS];
	struct sockaddr_storage names[SLOTS];
	unsigned char payload[SLOTS][65536];
};

static int receive(struct batch *b, int fd)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		b->data[i] = (struct iovec){ b->payload[i], sizeof(b->payload[i]) };
		b->messages[i].msg_hdr = (struct msghdr){ .msg_name = &b->names[i],
							  .msg_namelen = sizeof(b->names[i]),
							  .msg_iov = &b->data[i],
							  .msg_iovlen = 1 };
	}
	return recvmmsg(fd, b->messages, SLOTS, MSG_DONTWAIT, NULL);
}

static void wait_for(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	static int epoll = -1;

	if (epoll < 0) {
		epoll = epoll_create1(EPOLL_CLOEXEC);
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	}
	epoll_wait(epoll, &event, 1, 100);
}

static int serve(int fd)
{
	struct batch *b = malloc(sizeof(*b));
	int got;

	while (!stopped) {
		got = receive(b, fd);
		for (int i = 0; i < got; i++)
			b->data[i].iov_len = b->messages[i].msg_len;
		if (got > 0)
			sendmmsg(fd, b->messages, (unsigned)got, 0);
		else
			wait_for(fd);
	}
	free(b);
	return 0;
}

static int sink(int fd)
{
	struct batch *b = malloc(sizeof(*b));
	unsigned long long datagrams = 0, bytes = 0;
	int got;

	while (!stopped) {
		got = receive(b, fd);
		for (int i = 0; i < got; i++, datagrams++)
			bytes += b->messages[i].msg_len;
		if (got <= 0)
			wait_for(fd);
	}
	free(b);
	printf("%llu %llu\n", datagrams, bytes);
	return 0;
}

/* ---- what is measured ---- */

static struct {
	uint64_t done, lost, begin, end;
	uint32_t *latencies;
} stats;

static void stats_begin(uint64_t seconds)
{
	if (!stats.latencies)
		stats.latencies = malloc(LATENCIES * sizeof(*stats.latencies));
	stats.done = stats.lost = 0;
	stats.begin = now_us();
	stats.end = stats.begin + seconds * 1000000;
}

static void stats_add(uint64_t latency)
{
	if (stats.done < LATENCIES)
		stats.latencies[stats.done] = (uint32_t)latency;
	stats.done++;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void stats_print(void)
{
	size_t n = stats.done < LATENCIES ? stats.done : LATENCIES;
	double seconds = (double)(now_us() - stats.begin) / 1e6;

	qsort(stats.latencies, n, sizeof(*stats.latencies), compare);
	printf("%llu %.6f %llu %u %u\n", (unsigned long long)stats.done, seconds,
	       (unsigned long long)stats.lost, n ? stats.latencies[n / 2] : 0,
	       n ? stats.latencies[n * 99 / 100] : 0);
	fflush(stdout);
}

/* ---- one-shot exchanges ---- */

struct exchange {
	int fd; /* -1: none */
	uint64_t sent;
};

struct asker {
	struct endpoint to, own[64];
	unsigned addresses, window, open, oldest;
	uint64_t asked, rate;
	int epoll;
	struct exchange *ring; /* in the order in which they began */
};

static void ask_one(struct asker *a)
{
	struct exchange *x = &a->ring[a->asked % a->window];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = x };
	struct endpoint own = a->own[a->asked % a->addresses];
	char question[SIZE] = { 0 };

	own.port = (uint16_t)(PORT_LOW + a->asked / a->addresses % (PORT_HIGH - PORT_LOW));
	if (x->fd >= 0) { /* late */
		close(x->fd);
		stats.lost++;
		a->open--;
	}
	x->fd = open_socket(&own, &a->to);
	x->sent = now_us();
	memcpy(question, &a->asked, sizeof(a->asked));
	epoll_ctl(a->epoll, EPOLL_CTL_ADD, x->fd, &event);
	send(x->fd, question, sizeof(question), 0);
	a->asked++;
	a->open++;
}

static void end_one(struct asker *a, struct exchange *x)
{
	char answer[SIZE];

	if (x->fd < 0)
		return;
	if (recv(x->fd, answer, sizeof(answer), 0) == SIZE)
		stats_add(now_us() - x->sent);
	else
		stats.lost++;
	close(x->fd);
	x->fd = -1;
	a->open--;
}

static bool is_due(const struct asker *a, uint64_t now)
{
	const struct exchange *next = &a->ring[a->asked % a->window];

	if (now >= stats.end)
		return false;
	if (next->fd >= 0 && now - next->sent < LATE_US)
		return false;
	return !a->rate || a->asked * 1000000 < a->rate * (now - stats.begin);
}

static void asker_turn(struct asker *a)
{
	struct epoll_event events[256];
	int count = epoll_wait(a->epoll, events, 256, 1);

	for (int i = 0; i < count; i++)
		end_one(a, events[i].data.ptr);
}

static int ask(struct asker *a, uint64_t seconds)
{
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	a->ring = calloc(a->window, sizeof(*a->ring));
	for (unsigned i = 0; i < a->window; i++)
		a->ring[i].fd = -1;
	stats_begin(seconds);
	while (now_us() < stats.end) {
		while (is_due(a, now_us()))
			ask_one(a);
		asker_turn(a);
	}
	while (a->open && now_us() < stats.end + LATE_US)
		asker_turn(a);
	stats.lost += a->open;
	stats_print();
	free(a->ring);
	return 0;
}

/* ---- many flows ---- */

struct flows {
	struct exchange *at;
	unsigned count, window, open, next;
	unsigned first, span; /* with which of them it exchanges */
	int epoll;
};

static void flows_ask(struct flows *f)
{
	struct exchange *x = &f->at[f->first + f->next++ % f->span];
	char question[SIZE] = { 0 };

	x->sent = now_us();
	if (send(x->fd, question, sizeof(question), 0) == SIZE)
		f->open++;
}

/* Ask so many times, or until the end. */
static void flows_run(struct flows *f, uint64_t times)
{
	struct epoll_event events[256];
	char answer[SIZE];
	int count;

	while (times ? stats.done < times : now_us() < stats.end) {
		while (f->open < f->window)
			flows_ask(f);
		count = epoll_wait(f->epoll, events, 256, 100);
		if (count == 0) {
			stats.lost += f->open;
			f->open = 0;
		}
		for (int i = 0; i < count; i++) {
			struct exchange *x = events[i].data.ptr;

			if (recv(x->fd, answer, sizeof(answer), 0) == SIZE)
				stats_add(now_us() - x->sent);
			else
				stats.lost++;
			f->open -= f->open > 0;
		}
	}
}

static int flows(struct flows *f, const struct endpoint *to, uint64_t seconds)
{
	char line[16];

	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	f->at = calloc(f->count, sizeof(*f->at));
	for (unsigned i = 0; i < f->count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &f->at[i] };

		f->at[i].fd = open_socket(NULL, to);
		epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->at[i].fd, &event);
	}
	/* Twice each, and soon, so that they go both ways; and then all are idle. */
	for (f->first = 0; f->first < f->count; f->first += f->span) {
		f->span = f->count - f->first < SPAN ? f->count - f->first : SPAN;
		f->open = f->next = 0;
		stats_begin(0);
		flows_run(f, 2 * (uint64_t)f->span);
	}
	f->first = 0;
	f->span = f->count;
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		f->open = 0;
		stats_begin(seconds);
		flows_run(f, 0);
		stats_print();
	}
	free(f->at);
	return 0;
}

/* ---- one stream ---- */

static int stream(int fd, uint64_t seconds, unsigned size, uint64_t rate, unsigned together)
{
	static unsigned char payload[65536];
	uint64_t sent = 0, began = now_us(), now;
	int segment = (int)size;

	if (together > 1 && setsockopt(fd, SOL_UDP, SEGMENT, &segment, sizeof(segment)) < 0)
		die("UDP_SEGMENT");
	while ((now = now_us()) < began + seconds * 1000000) {
		if (sent * 1000000 > rate * (now - began)) {
			struct timespec pause = { .tv_nsec = 50000 };

			nanosleep(&pause, NULL);
			continue;
		}
		if (send(fd, payload, (size_t)size * together, 0) > 0)
			sent += together;
	}
	printf("%llu\n", (unsigned long long)sent);
	return 0;
}

/* ---- the command line ---- */

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

static void raise_limit(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int start_ask(int argc, char **argv, const struct endpoint *to)
{
	static struct asker a;

	a.to = *to;
	a.window = (unsigned)number(argv[4]);
	a.rate = number(argv[5]);
	for (int i = 6; i < argc && a.addresses < 64; i++)
		a.own[a.addresses++] = endpoint_of(argv[i]);
	return ask(&a, number(argv[3]));
}

int main(int argc, char **argv)
{
	const char *role = argc > 2 ? argv[1] : "";
	struct endpoint at = argc > 2 ? endpoint_of(argv[2]) : (struct endpoint){ 0 };
	struct flows f = { 0 };

	raise_limit();
	if (strcmp(role, "serve") == 0 || strcmp(role, "sink") == 0) {
		signal(SIGTERM, stop);
		return (strcmp(role, "serve") == 0 ? serve : sink)(open_socket(&at, NULL));
	}
	if (strcmp(role, "ask") == 0 && argc > 6)
		return start_ask(argc, argv, &at);
	if (strcmp(role, "flows") == 0 && argc == 6) {
		f.window = (unsigned)number(argv[4]);
		f.count = (unsigned)number(argv[5]);
		return flows(&f, &at, number(argv[3]));
	}
	if (strcmp(role, "stream") == 0 && argc == 7)
		return stream(open_socket(NULL, &at), number(argv[3]), (unsigned)number(argv[4]),
			      number(argv[5]), (unsigned)number(argv[6]));
	fprintf(stderr, "datagrams: see the head of its source\n");
	return 2;
}
