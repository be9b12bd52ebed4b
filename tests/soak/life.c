/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * life - connections with random lives, checked at both ends: every byte, the ending, the source.
 *
 *	life serve PORT WORKERS [SOURCE]...	until stdin ends; the address that all come from, of each family,
 *						where it is not the caller's own
 *	life call SECONDS WORKERS SEED SOURCE... -- DESTINATION...
 *
 * A caller's first bytes are a header: the connection's number and seed, and the endpoints that the
 * caller sees. From the seed both ends derive the same plan: how many bytes each sends, in which
 * pieces and with which pauses, where an urgent byte stands, who ends first, and whether by FIN or
 * by reset. Each end compares what comes with the plan:
 *
 *	end by FIN	the other end's bytes, all of them, and FIN; a reset is a fault
 *	reset		what comes of the other end's bytes is a prefix, and a reset follows; FIN is a fault,
 *			since then a part looks like the whole
 *
 * stdout has a line for each connection, `NUMBER fin|by-client|by-server|refused|stray`, by which
 * the caller's and the server's are compared; `0 by-client` is one whose reset overtook its header,
 * `0 stray` none of them, but data behind the server's reset. Every fault is a line on stderr, and
 * the status is then 1.
 */
#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STALL_MS     90000 /* nothing moves for so long: a connection hangs */
#define WORKERS_MAX  512
#define CHUNK_MAX    65536
#define REFUSED_PORT 81 /* nobody listens there */
#define MAGIC	     0x6c69666573706163ull

enum side { CLIENT, SERVER };
enum ending { BY_FIN, BY_CLIENT, BY_SERVER, REFUSED, STRAY };

static const char *const endings[] = { "fin", "by-client", "by-server", "refused", "stray" };

struct header {
	uint64_t magic, number, seed;
	struct endpoint client, destination;
};

/* What both ends of a connection know of it; sides are enum side. */
struct plan {
	enum ending ending;
	uint64_t bytes[2]; /* each side means to send */
	uint64_t cut[2];   /* the side that resets does so after it has sent and received so much */
	uint64_t urgent[2]; /* the byte that goes with MSG_OOB; past the end: none */
	size_t piece[2];    /* bytes a write, at most */
	unsigned pause[2];  /* of 1,000 writes or reads so many are followed by a pause */
	bool small[2];	    /* a receive buffer of a few KB */
	bool answer;	    /* the server begins when it has everything */
	bool last[2];	    /* sends its FIN after the other's only */
};

/* One end of a connection. */
struct end {
	int fd;
	enum side side;
	uint64_t number, seed;
	struct plan plan;
	uint64_t sent, received;
	uint64_t dice;
	bool ended, told; /* the other end's FIN has come, ours is sent */
};

static atomic_ulong faults, bytes_total;
static atomic_bool over;
static pthread_mutex_t print = PTHREAD_MUTEX_INITIALIZER;

/* ---------------------------------------------------------------- numbers */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t roll(uint64_t *dice, uint64_t below)
{
	*dice = mix(*dice);
	return *dice % below;
}

/* Mostly small, rarely megabytes. */
static uint64_t roll_size(uint64_t *dice)
{
	static const struct {
		unsigned upto;
		uint64_t bytes;
	} steps[] = {
		{ 150, 1 }, { 700, 2048 }, { 930, 65536 }, { 994, 524288 }, { 1000, 4194304 }
	};
	unsigned of_1000 = (unsigned)roll(dice, 1000), i = 0;

	while (of_1000 >= steps[i].upto)
		i++;
	return roll(dice, steps[i].bytes);
}

static void plan_reset(struct plan *p, uint64_t *dice)
{
	enum side who = p->ending == BY_CLIENT ? CLIENT : SERVER;

	p->answer = p->last[CLIENT] = p->last[SERVER] = false;
	/* An urgent byte that was not sent makes it RST|ACK|URG, which conntrack calls invalid
	 * (tcp_valid_flags of nf_conntrack_proto_tcp.c) and NAT does not translate. */
	p->urgent[who] = UINT64_MAX;
	p->cut[who] = roll(dice, p->bytes[who] + 1);
	p->cut[!who] = roll(dice, p->bytes[!who] + 1);
}

/* A trickle of megabytes would last for minutes. */
static void plan_hasten(struct plan *p, enum side side)
{
	uint64_t most = p->bytes[CLIENT] > p->bytes[SERVER] ? p->bytes[CLIENT] : p->bytes[SERVER];

	if (p->piece[side] < most / 200)
		p->piece[side] = most / 200;
	p->small[side] &= most < 65536;
}

static void plan_make(struct plan *p, uint64_t seed)
{
	uint64_t dice = seed;
	unsigned ending = (unsigned)roll(&dice, 100);

	*p = (struct plan){ .ending = ending < 70 ? BY_FIN : ending < 85 ? BY_CLIENT : BY_SERVER };
	p->answer = roll(&dice, 3) == 0;
	for (int side = CLIENT; side <= SERVER; side++) {
		p->bytes[side] = roll_size(&dice);
		p->urgent[side] = roll(&dice, 20) ? UINT64_MAX : roll(&dice, p->bytes[side] + 1);
		p->piece[side] = 1 + roll(&dice, roll(&dice, 4) ? CHUNK_MAX : 700);
		p->pause[side] = (unsigned)roll(&dice, 8) ? 2 : 200;
		p->small[side] = roll(&dice, 15) == 0;
	}
	for (int side = CLIENT; side <= SERVER; side++)
		plan_hasten(p, side);
	p->last[roll(&dice, 2)] = roll(&dice, 2) == 0;
	if (p->answer)
		p->last[CLIENT] = false;
	if (p->ending != BY_FIN)
		plan_reset(p, &dice);
}

/* The bytes of one direction from offset on: eight of them depend on the seed and their place
 * alone. */
static void pattern(uint64_t seed, enum side from, uint64_t offset, unsigned char *out,
		    size_t length)
{
	uint64_t key = mix(seed + from);

	for (size_t i = 0; i < length; i++, offset++) {
		if (i + 8 <= length && offset % 8 == 0) {
			uint64_t word = mix(key ^ (offset / 8));

			memcpy(out + i, &word, 8);
			i += 7, offset += 7;
		} else {
			uint64_t word = mix(key ^ (offset / 8));

			memcpy(out + i, (unsigned char *)&word + offset % 8, 1);
		}
	}
}

/* ---------------------------------------------------------------- what is told */

static int fault(const struct end *e, const char *what)
{
	const struct plan *p = &e->plan;

	pthread_mutex_lock(&print);
	fprintf(stderr, "%s %lu (seed %#lx, %s): %s; sent %lu of %lu, received %lu of %lu%s%s%s\n",
		e->side == CLIENT ? "client" : "server", (unsigned long)e->number,
		(unsigned long)e->seed, endings[p->ending], what, (unsigned long)e->sent,
		(unsigned long)p->bytes[e->side], (unsigned long)e->received,
		(unsigned long)p->bytes[!e->side], e->told ? ", FIN sent" : "",
		e->ended ? ", FIN received" : "",
		p->urgent[!e->side] != UINT64_MAX ? ", urgent" : "");
	pthread_mutex_unlock(&print);
	atomic_fetch_add(&faults, 1);
	return -1;
}

static void tell(uint64_t number, enum ending ending)
{
	pthread_mutex_lock(&print);
	printf("%lu %s\n", (unsigned long)number, endings[ending]);
	pthread_mutex_unlock(&print);
}

static _Noreturn void die(const char *action, const char *subject)
{
	struct failure why;

	report_fail(&why, errno, action, subject);
	report_failure(&why, STATUS_REFUSED);
	exit(STATUS_REFUSED);
}

/* ---------------------------------------------------------------- one end */

static void end_pause(struct end *e)
{
	const struct timespec some = { .tv_nsec = (long)roll(&e->dice, 20) * 1000000 };

	if (roll(&e->dice, 1000) < e->plan.pause[e->side])
		nanosleep(&some, NULL);
}

static bool end_resets(const struct end *e)
{
	return e->plan.ending == (e->side == CLIENT ? BY_CLIENT : BY_SERVER);
}

static uint64_t end_limit(const struct end *e)
{
	return end_resets(e) ? e->plan.cut[e->side] : e->plan.bytes[e->side];
}

static bool end_may_send(const struct end *e)
{
	bool waits = e->plan.answer && e->side == SERVER && e->received < e->plan.bytes[CLIENT];

	return e->sent < end_limit(e) && !waits;
}

/* The other end's reset, or a fault. Returns 1 when that is how the plan has it. */
static int end_was_reset(struct end *e, int error)
{
	char what[80];

	if (!end_resets(e) && e->plan.ending != BY_FIN &&
	    (error == ECONNRESET || error == EPIPE || error == ENOTCONN))
		return 1;
	snprintf(what, sizeof(what), "got %s", strerrorname_np(error));
	return fault(e, what);
}

static int end_send(struct end *e)
{
	unsigned char bytes[CHUNK_MAX];
	uint64_t left = end_limit(e) - e->sent, urgent = e->plan.urgent[e->side];
	size_t length = left < e->plan.piece[e->side] ? left : e->plan.piece[e->side];
	int flags = MSG_NOSIGNAL;
	ssize_t n;

	/* The last byte of a write with MSG_OOB is the urgent one. */
	if (urgent >= e->sent && urgent - e->sent < length) {
		length = urgent - e->sent + 1;
		flags |= MSG_OOB;
	}
	pattern(e->seed, e->side, e->sent, bytes, length);
	n = send(e->fd, bytes, length, flags);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : end_was_reset(e, errno);
	e->sent += (uint64_t)n;
	end_pause(e);
	return 0;
}

static int end_has_fin(struct end *e)
{
	e->ended = true;
	if (e->plan.ending != BY_FIN && !end_resets(e))
		return fault(e, "got FIN in place of a reset");
	if (e->received != e->plan.bytes[!e->side])
		return fault(e, "got FIN too early");
	return 0;
}

static int end_receive(struct end *e)
{
	unsigned char bytes[CHUNK_MAX], expected[CHUNK_MAX];
	ssize_t n = recv(e->fd, bytes, e->plan.piece[e->side], 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : end_was_reset(e, errno);
	if (!n)
		return end_has_fin(e);
	pattern(e->seed, !e->side, e->received, expected, (size_t)n);
	if (memcmp(bytes, expected, (size_t)n) != 0)
		return fault(e, "got other bytes");
	e->received += (uint64_t)n;
	if (e->received > e->plan.bytes[!e->side])
		return fault(e, "got too much");
	end_pause(e);
	return 0;
}

static int end_tell(struct end *e)
{
	if (!e->told && !end_resets(e) && e->sent == e->plan.bytes[e->side] &&
	    (!e->plan.last[e->side] || e->ended)) {
		e->told = true;
		if (shutdown(e->fd, SHUT_WR) < 0)
			return end_was_reset(e, errno);
	}
	return 0;
}

static bool end_cuts(const struct end *e)
{
	return end_resets(e) && e->sent >= e->plan.cut[e->side] &&
	       e->received >= e->plan.cut[!e->side];
}

/* One turn: wait for what the plan wants next, and do it. 1: over, as planned; -1: a fault. */
static int end_turn(struct end *e)
{
	struct pollfd p = { .fd = e->fd };
	int did;

	if (end_cuts(e)) {
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
			   sizeof(struct linger));
		return 1;
	}
	did = end_tell(e);
	if (did)
		return did;
	if (e->ended && e->told)
		return 1;
	p.events = (short)((e->ended ? 0 : POLLIN) | (end_may_send(e) ? POLLOUT : 0));
	did = poll(&p, 1, STALL_MS);
	if (!did)
		return fault(e, "hangs");
	did = p.revents & POLLOUT ? end_send(e) : 0;
	if (did || !(p.revents & (POLLIN | POLLHUP | POLLERR)))
		return did;
	/* After the FIN there is nothing to read: what is left is an error. */
	return end_receive(e);
}

static int end_live(struct end *e)
{
	int did = 0;

	e->dice = mix(e->seed + 7 + e->side);
	while (!did)
		did = end_turn(e);
	atomic_fetch_add(&bytes_total, e->received);
	close(e->fd);
	return did;
}

/* ---------------------------------------------------------------- server */

static struct endpoint_list expected; /* of a family; none: the caller's own */

static bool serve_expects(const struct endpoint *peer, const struct header *h)
{
	for (size_t i = 0; i < expected.count; i++)
		if (expected.at[i].family == peer->family)
			return endpoint_same_address(peer, &expected.at[i]);
	return endpoint_equal(peer, &h->client);
}

static int serve_check(const struct end *e, const struct header *h, struct endpoint peer)
{
	struct endpoint local = endpoint_local_of(e->fd);
	char seen[ENDPOINT_TEXT_MAX], what[160];

	if (serve_expects(&peer, h) && endpoint_equal(&local, &h->destination))
		return 0;
	snprintf(what, sizeof(what), "came from %s", endpoint_format(&peer, seen));
	return fault(e, what);
}

/* Whom the server resets, by the peer's port; the last one of each. */
static struct past {
	struct endpoint peer;
	uint64_t seed, sent, planned;
} pasts[65536];
static pthread_mutex_t pasts_lock = PTHREAD_MUTEX_INITIALIZER;

static void past_note(const struct end *e, struct endpoint peer)
{
	const struct past p = { peer, e->seed, e->plan.cut[SERVER], e->plan.bytes[CLIENT] };

	pthread_mutex_lock(&pasts_lock);
	pasts[peer.port] = p;
	pthread_mutex_unlock(&pasts_lock);
}

/* Data behind a reset: where the client had sent as much as the server, but for 3 bytes, SYN
 * cookies take it for the end of a handshake (check_tcp_syn_cookie() of net/ipv4/syncookies.c). */
static bool past_has(const struct end *e, const void *header)
{
	struct endpoint peer = endpoint_peer_of(e->fd);
	unsigned char eight[8];
	struct past p;

	pthread_mutex_lock(&pasts_lock);
	p = pasts[peer.port];
	pthread_mutex_unlock(&pasts_lock);
	if (!endpoint_equal(&p.peer, &peer))
		return false;
	for (uint64_t at = 0; at + sizeof(struct header) <= p.sent + 3 && at + 8 <= p.planned;
	     at++) {
		pattern(p.seed, CLIENT, at, eight, sizeof(eight));
		if (memcmp(eight, header, sizeof(eight)) == 0)
			return true;
	}
	return false;
}

/* Returns 1 for a caller's header, 0 for a stray: it is told. */
static int serve_whose(const struct end *e, const struct header *h)
{
	struct endpoint peer = endpoint_peer_of(e->fd);
	char from[ENDPOINT_TEXT_MAX], what[160];

	if (h->magic == MAGIC)
		return 1;
	snprintf(what, sizeof(what), "got another header from %s", endpoint_format(&peer, from));
	if (!past_has(e, h))
		return fault(e, what);
	tell(0, STRAY);
	return 0;
}

/* Returns 1 with the whole header, 0 where there is none: a reset overtook it, or it is a stray. */
static int serve_header(struct end *e, struct header *h)
{
	char *at = (char *)h;
	struct pollfd p = { .fd = e->fd, .events = POLLIN };
	size_t have = 0;
	ssize_t n;

	while (have < sizeof(*h)) {
		if (poll(&p, 1, STALL_MS) == 0)
			return fault(e, "no header, and hangs");
		n = recv(e->fd, at + have, sizeof(*h) - have, 0);
		if (n == 0)
			return fault(e, "got FIN inside the header");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return tell(0, BY_CLIENT), 0;
		have += n > 0 ? (size_t)n : 0;
	}
	return serve_whose(e, h);
}

static void serve_one(int fd, struct endpoint peer)
{
	struct end e = { .fd = fd, .side = SERVER };
	struct header h = { 0 };

	if (serve_header(&e, &h) <= 0) {
		close(fd);
		return;
	}
	e.number = h.number, e.seed = h.seed;
	plan_make(&e.plan, h.seed);
	if (e.plan.small[SERVER])
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int));
	serve_check(&e, &h, peer);
	if (e.plan.ending == BY_SERVER)
		past_note(&e, peer);
	if (end_live(&e) > 0)
		tell(e.number, e.plan.ending);
}

static void *serve_work(void *listener)
{
	struct pollfd p = { .fd = *(int *)listener, .events = POLLIN };

	while (!atomic_load(&over)) {
		if (poll(&p, 1, 200) <= 0)
			continue;
		union endpoint_sockaddr sa;
		socklen_t length = sizeof(sa);
		int fd = accept4(p.fd, &sa.sa, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0)
			serve_one(fd, endpoint_from_sockaddr(&sa, length));
	}
	return NULL;
}

static int serve_listen(sa_family_t family, uint16_t port)
{
	struct endpoint any = { .family = family, .port = port };
	union endpoint_sockaddr sa;
	socklen_t length = endpoint_to_sockaddr(&any, &sa);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &(int){ 1 }, sizeof(int));
	if (fd < 0 || bind(fd, &sa.sa, length) < 0 || listen(fd, 4096) < 0)
		die("listen", "life");
	return fd;
}

static void run(void *(*work)(void *), void *arguments[], size_t kinds, uint64_t workers)
{
	pthread_t threads[WORKERS_MAX];

	for (uint64_t i = 0; i < workers; i++)
		if (pthread_create(&threads[i], NULL, work, arguments[i % kinds]))
			die("thread", "life");
	for (uint64_t i = 0; i < workers; i++)
		pthread_join(threads[i], NULL);
	fflush(stdout);
	fprintf(stderr, "total %lu bytes, %lu faults\n", (unsigned long)atomic_load(&bytes_total),
		(unsigned long)atomic_load(&faults));
}

static void *serve_stop(void *unused)
{
	while (getchar() != EOF)
		;
	atomic_store(&over, true);
	return unused;
}

static void serve(uint16_t port, uint64_t workers)
{
	int four = serve_listen(AF_INET, port), six = serve_listen(AF_INET6, port);
	pthread_t stop;

	if (pthread_create(&stop, NULL, serve_stop, NULL))
		die("thread", "life");
	run(serve_work, (void *[]){ &four, &six }, 2, workers);
}

/* ---------------------------------------------------------------- client */

static struct endpoint_list sources, destinations;
static uint64_t first_seed;
static atomic_ulong next_number = 1;
static struct timespec deadline;

static bool call_more(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec < deadline.tv_sec;
}

/* One of the list, of that family; it has one. */
static const struct endpoint *call_pick(const struct endpoint_list *list, sa_family_t family,
					uint64_t *dice)
{
	for (;;) {
		const struct endpoint *e = &list->at[roll(dice, list->count)];

		if (family == AF_UNSPEC || e->family == family)
			return e;
	}
}

static int call_connect(struct end *e, const struct endpoint *from, const struct endpoint *to)
{
	union endpoint_sockaddr source, target;
	socklen_t source_length = endpoint_to_sockaddr(from, &source),
		  length = endpoint_to_sockaddr(to, &target);

	e->fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (e->fd < 0)
		die("socket", "life");
	if (e->plan.small[CLIENT])
		setsockopt(e->fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int));
	setsockopt(e->fd, SOL_SOCKET, SO_OOBINLINE, &(int){ 1 }, sizeof(int));
	setsockopt(e->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){ 1 }, sizeof(int));
	if (bind(e->fd, &source.sa, source_length) < 0)
		die("bind", "life");
	return connect(e->fd, &target.sa, length);
}

/* To a port where nobody listens: no byte, and a reset at once or after a connection was there. */
static void call_refused(struct end *e, bool connected)
{
	char byte;
	int error = connected && recv(e->fd, &byte, 1, 0) >= 0 ? 0 : errno;

	if (error == ECONNREFUSED || error == ECONNRESET)
		tell(e->number, REFUSED);
	else
		fault(e, "not refused");
	close(e->fd);
}

static void call_live(struct end *e, const struct endpoint *to)
{
	struct header h = { MAGIC, e->number, e->seed, endpoint_local_of(e->fd), *to };

	if (send(e->fd, &h, sizeof(h), MSG_NOSIGNAL) != sizeof(h)) {
		if (end_was_reset(e, errno) > 0)
			tell(e->number, e->plan.ending);
		close(e->fd);
		return;
	}
	fcntl(e->fd, F_SETFL, O_NONBLOCK);
	if (end_live(e) > 0)
		tell(e->number, e->plan.ending);
}

static void call_one(uint64_t number)
{
	struct end e = { .side = CLIENT, .number = number, .seed = mix(first_seed + number) };
	uint64_t dice = mix(e.seed);
	struct endpoint to = *call_pick(&destinations, AF_UNSPEC, &dice);
	const struct endpoint *from = call_pick(&sources, to.family, &dice);
	bool refused = roll(&dice, 200) == 0;
	char what[80];

	plan_make(&e.plan, e.seed);
	to.port = refused ? REFUSED_PORT : to.port;
	if (call_connect(&e, from, &to) < 0 && !refused) {
		snprintf(what, sizeof(what), "connect: %s", strerrorname_np(errno));
		fault(&e, what);
		close(e.fd);
	} else if (refused) {
		call_refused(&e, errno != ECONNREFUSED);
	} else {
		call_live(&e, &to);
	}
}

static void *call_work(void *unused)
{
	while (call_more())
		call_one(atomic_fetch_add(&next_number, 1));
	return unused;
}

static int call(int argc, char **argv, struct failure *why)
{
	uint64_t seconds, workers;
	struct endpoint_list *list = &sources;
	struct endpoint e;

	if (quantity_number(argv[0], 1, 100000, &seconds, why) < 0 ||
	    quantity_number(argv[1], 1, WORKERS_MAX, &workers, why) < 0 ||
	    quantity_number(argv[2], 0, 1000000000, &first_seed, why) < 0)
		return -1;
	first_seed = mix(first_seed);
	for (int i = 3; i < argc; i++) {
		bool next = !strcmp(argv[i], "--");

		list = next ? &destinations : list;
		if (!next && ((list == &sources ? endpoint_parse_address
						: endpoint_parse)(argv[i], &e, why) < 0 ||
			      endpoint_list_add(list, &e, why) < 0))
			return -1;
	}
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += (time_t)seconds;
	run(call_work, (void *[]){ NULL }, 1, workers);
	return 0;
}

static int addresses(char **texts, struct endpoint_list *list, struct failure *why)
{
	struct endpoint e;

	for (; *texts; texts++)
		if (endpoint_parse_address(*texts, &e, why) < 0 ||
		    endpoint_list_add(list, &e, why) < 0)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t port, workers;
	struct failure why = { 0 };

	report_init("life");
	if (argc >= 4 && !strcmp(argv[1], "serve") &&
	    quantity_number(argv[2], 1, 65535, &port, &why) == 0 &&
	    quantity_number(argv[3], 1, WORKERS_MAX, &workers, &why) == 0 &&
	    addresses(argv + 4, &expected, &why) == 0) {
		serve((uint16_t)port, workers);
	} else if (argc < 8 || strcmp(argv[1], "call") || call(argc - 2, argv + 2, &why) < 0) {
		if (!why.detail[0])
			report_refuse(&why, "usage: see tests/soak/life.c");
		report_failure(&why, STATUS_USAGE);
		return STATUS_USAGE;
	}
	return atomic_load(&faults) ? 1 : 0;
}
