/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/sockets.h"

#include "process/confine.h"
#include "process/descriptors.h"
#include "process/listen_fds.h"
#include "socket/datagram.h"
#include "socket/takeover.h"
#include "tproxy-relay/arguments.h"
#include "tproxy-relay/udp_worker.h"
#include <errno.h>
#include <linux/capability.h>
#include <string.h>

/* Pipes of that size that a process may have without CAP_SYS_RESOURCE (pipe-user-pages-soft). */
#define PIPES_MAX 64

/*
 * Two descriptors for each connection or flow; in addition those of the listeners, a few per
 * thread, some of our own, and a small share for pipes, which UDP does not need.
 */
static uint64_t affordable(struct relay *relay, const struct config *config, size_t listeners,
			   uint64_t limit)
{
	uint64_t own = 32 + config->threads * (listeners + 9);

	if (options_wants_tcp(&config->common))
		relay->pipes = limit / 32 < PIPES_MAX ? (unsigned)limit / 32 : PIPES_MAX;
	own += 2 * relay->pipes;
	return limit > own + 2 ? (limit - own) / 2 : 1;
}

static uint64_t settle(uint64_t wanted, uint64_t most, const char *option, const char *what)
{
	if (wanted > most)
		report_warning("--%s %llu: the limit on open files (ulimit -n) allows %llu %s at "
			       "once",
			       option, (unsigned long long)wanted, (unsigned long long)most, what);
	return wanted && wanted < most ? wanted : most;
}

/* If there are both, connections and flows get half of the descriptors each, unless one is limited
 * to less. */
int sockets_settle_max(struct relay *relay, const struct config *config, size_t listeners,
		       struct failure *why)
{
	bool tcp = options_wants_tcp(&config->common), udp = options_wants_udp(&config->common);
	uint64_t files, most, flows = 0;

	if (descriptors_raise_limit(&files, why) < 0)
		return -1;
	most = affordable(relay, config, listeners, files);
	if (udp && tcp)
		flows = config->max && config->max < most / 2 ? most - config->max : (most + 1) / 2;
	else if (udp)
		flows = most;
	if (udp)
		relay->udp.max = settle(config->udp.max, flows, "max-flows", "flows");
	if (tcp)
		relay->max = settle(config->max, most > relay->udp.max ? most - relay->udp.max : 1,
				    "max", "connections");
	return 0;
}

/* May we open transparent sockets? */
static bool may_intercept(void)
{
	const struct transparent_connect_options how = { .source = SOURCE_CLIENT };
	const struct endpoint any = { .family = AF_INET };

	return transparent_probe(&any, &how, NULL) == 0;
}

/* If nothing has to be intercepted and nothing is spoofed in this network namespace, no privilege
 * is needed. */
static struct transparent_listen_options listen_options(const struct config *config, bool alone)
{
	return (struct transparent_listen_options){
		.reuseport = true,
		.alone = alone,
		.details = UDP_LISTENER_DETAILS,
		.keepalive = (unsigned)(config->keepalive / 1000),
		.ack_delay = ACK_DELAY,
		.redirect = config_has_upstream(config) &&
			    (config->connect.source == SOURCE_OWN || config->upstream_netns) &&
			    !may_intercept(),
	};
}

static int open_listeners(struct listeners *listeners, const struct config *config, bool first,
			  struct failure *why)
{
	struct transparent_listen_options how = listen_options(config, first && !config->takeover);

	if (listeners_open(listeners, &how, why) == 0)
		return 0;
	if (why->err == EADDRINUSE && first && !config->takeover &&
	    takeover_would_help(listeners, &how))
		report_hint(why, "--takeover takes over from a relay that serves it already");
	return -1;
}

static void tell_joined(const struct listeners *wanted, const struct failure *why)
{
	char text[1024];

	report_text(why, text, sizeof(text));
	if (wanted->protocol == IPPROTO_UDP)
		report_warning("%s: joined instead: flows of the other relay may move to this one "
			       "in the middle",
			       text);
	else if (takeover_migrates())
		report_verbose(1, "%s: joined instead", text);
	else
		report_warning("%s: joined instead: connections that it has not accepted when it "
			       "ends are reset, unless net.ipv4.tcp_migrate_req=1",
			       text);
}

/*
 * Take over what another relay has open. If that is not permitted, join its endpoints; then a
 * kernel setting decides what happens to its queue.
 */
static int take_over(const struct listeners *wanted, const struct config *config,
		     struct listeners *found, struct failure *why)
{
	struct transparent_listen_options how = listen_options(config, false);

	found->protocol = wanted->protocol;
	if (takeover_check(wanted, &how, why) < 0)
		return -1;
	if (takeover_find(wanted, arguments_program.name, &how, found, why) < 0)
		tell_joined(wanted, why);
	return 0;
}

static struct listeners *own_listeners(struct relay *relay, unsigned i, int protocol)
{
	struct worker *w = &relay->workers[i];

	return protocol == IPPROTO_UDP ? &w->udp_listeners : &w->listeners;
}

/* Every thread gets listeners of its own, unless too few were taken over. The datagrams of a flow
 * must go to one thread: some threads then have no UDP listener. */
static int open_shares(struct relay *relay, const struct listeners *wanted,
		       const struct listeners *found, const struct config *config,
		       struct failure *why)
{
	bool *shared = wanted->protocol == IPPROTO_UDP ? NULL : &relay->shared_listeners;

	for (unsigned i = 0; i < relay->count; i++) {
		struct listeners *own = own_listeners(relay, i, wanted->protocol);

		own->protocol = wanted->protocol;
		if (takeover_share(own, wanted, found, i, relay->count, shared, why) < 0 ||
		    open_listeners(own, config, i == 0, why) < 0)
			return -1;
		if (i == 0)
			listeners_tell_left_out(own);
		listeners_prune(own);
	}
	return 0;
}

static int open_protocol(struct relay *relay, const struct listeners *wanted,
			 const struct config *config, struct failure *why)
{
	struct listeners found = { 0 };
	int result = 0;

	if (config->takeover)
		result = take_over(wanted, config, &found, why);
	if (result == 0)
		result = open_shares(relay, wanted, &found, config, why);
	listeners_close(&found);
	return result;
}

static int open_for_all(struct relay *relay, const struct relay_listeners *wanted,
			const struct config *config, struct failure *why)
{
	if (wanted->tcp.count && open_protocol(relay, &wanted->tcp, config, why) < 0)
		return -1;
	return wanted->udp.count ? open_protocol(relay, &wanted->udp, config, why) : 0;
}

/* No inherited listener may bypass this: -4 and -6 apply to all. */
static int check_families(const struct listeners *l, const struct config *config,
			  struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < l->count; i++) {
		if (options_wants_family(&config->common, l->at[i].at.family))
			continue;
		report_refuse(why, "listens at %s, and only IPv%c is served",
			      endpoint_format(&l->at[i].at, text),
			      l->at[i].at.family == AF_INET ? '6' : '4');
		return report_about(why, "inherited descriptor %d", l->at[i].fd);
	}
	return 0;
}

static int adopt_one(struct relay *relay, int fd, const struct config *config, struct failure *why)
{
	struct transparent_listen_options how = listen_options(config, false);
	int type = SOCK_STREAM;
	socklen_t size = sizeof(type);
	struct listeners *own;
	unsigned i = 0;

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	/* The datagrams of a flow must go to one worker: each UDP socket belongs to one only. */
	if (type == SOCK_DGRAM)
		i = relay->inherited_udp++ % relay->count;
	own = own_listeners(relay, i, type == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP);
	own->protocol = type == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
	return listeners_adopt(own, fd, 1, &how, why) < 0 ? -1 : check_families(own, config, why);
}

/* Inherited TCP listeners are shared. */
static int adopt_for_all(struct relay *relay, const struct config *config, int inherited,
			 struct failure *why)
{
	struct listeners *first = &relay->workers[0].listeners;

	for (int i = 0; i < inherited; i++)
		if (adopt_one(relay, LISTEN_FDS_FIRST + i, config, why) < 0)
			return -1;
	relay->shared_listeners = relay->count > 1;
	for (unsigned i = 1; i < relay->count; i++)
		if (listeners_share(&relay->workers[i].listeners, first, why) < 0)
			return -1;
	return 0;
}

/* The policy knows every endpoint of ours that upstream legs could reach without leaving their
 * network namespace. */
static int note_listeners(struct relay *relay, const struct listeners *own, struct failure *why)
{
	for (size_t i = 0; i < own->count; i++)
		if (endpoint_list_add(&relay->policy.listeners, &own->at[i].at, why) < 0)
			return -1;
	return 0;
}

static int note_all_listeners(struct relay *relay, struct failure *why)
{
	if (relay->policy.netns)
		return 0;
	if (note_listeners(relay, &relay->workers[0].listeners, why) < 0)
		return -1;
	for (unsigned i = 0; i < (relay->inherited_udp ? relay->count : 1); i++)
		if (note_listeners(relay, &relay->workers[i].udp_listeners, why) < 0)
			return -1;
	return 0;
}

static int check_source(struct relay *relay, const struct listeners *own, struct failure *why)
{
	for (size_t i = 0; i < own->count; i++)
		if (transparent_probe(&own->at[i].at, &relay->settings.connect, why) < 0)
			return -1;
	return 0;
}

/* Report now what would fail for every connection. */
static int check_fit(struct relay *relay, const struct config *config, struct failure *why)
{
	const struct endpoint anybody = { 0 };
	char text[ENDPOINT_TEXT_MAX];

	for (int i = 0; i < 2; i++) {
		const struct endpoint *e = &config->upstream[i];

		if (policy_is_own_listener(&relay->policy, e))
			report_refuse(why, "is a listener of this relay: each connection would "
					   "come back");
		else if (policy_check_answers(&relay->policy, &anybody, e, why) == 0)
			continue;
		return report_about(why, "--upstream %s", endpoint_format(e, text));
	}
	if (check_source(relay, &relay->workers[0].listeners, why) < 0)
		return -1;
	return check_source(relay, &relay->workers[0].udp_listeners, why);
}

/* In the network namespace of that side; the two share sockets for ICMP if it is the same. */
static int open_raw_sockets(struct relay *relay, enum flow_end end, struct failure *why)
{
	bool upstream = end == FLOW_UPSTREAM;
	enum udp_speaker speaker = upstream ? UDP_AS_CLIENT : UDP_AS_SERVER;

	if (upstream && !relay->policy.netns)
		relay->icmp[end] = relay->icmp[FLOW_CLIENT];
	else if (udp_icmp_open(&relay->icmp[end], why) < 0)
		return -1;
	for (unsigned i = 0; i < relay->count; i++)
		if (udp_raw_open(&relay->workers[i].raw, speaker,
				 upstream ? relay->settings.connect.mark : NULL, why) < 0)
			return -1;
	return 0;
}

static void close_raw(struct relay *relay)
{
	udp_icmp_close(&relay->icmp[FLOW_CLIENT]);
	relay->icmp[FLOW_UPSTREAM] = relay->icmp[FLOW_CLIENT];
	for (unsigned i = 0; i < relay->count; i++)
		udp_raw_close(&relay->workers[i].raw);
}

/*
 * The relay can do without: flows then have two descriptors each, and clients wait for a timeout
 * instead of getting an error. With upstream legs elsewhere a flow gets no second descriptor here:
 * what was intercepted could then not be answered. 0, or -1 with *why.
 */
static int open_raw(struct relay *relay, struct failure *why)
{
	char text[1024];

	if (open_raw_sockets(relay, FLOW_CLIENT, why) == 0 &&
	    (relay->policy.netns || open_raw_sockets(relay, FLOW_UPSTREAM, why) == 0))
		return 0;
	close_raw(relay);
	if (relay->policy.netns && may_intercept())
		return -1;
	report_warning("%s: %sclients get no ICMP errors about their datagrams",
		       report_text(why, text, sizeof(text)),
		       relay->policy.netns ? "" : "each UDP flow takes two sockets, and ");
	return 0;
}

/* Without them servers there get no ICMP errors, and clients there cannot be relayed. */
static void open_raw_elsewhere(struct relay *relay)
{
	struct failure why;
	char text[1024];

	if (open_raw_sockets(relay, FLOW_UPSTREAM, &why) < 0)
		report_verbose(1, "network namespace %s: %s", relay->policy.netns,
			       report_text(&why, text, sizeof(text)));
}

/* They hold bursts; without privileges we are bound to the system's limit. */
static void set_buffers(struct relay *relay)
{
	for (unsigned i = 0; i < relay->count; i++)
		for (size_t j = 0; j < relay->workers[i].udp_listeners.count; j++)
			datagram_set_buffers(relay->workers[i].udp_listeners.at[j].fd,
					     UDP_LISTENER_BUFFER);
}

/*
 * --inetd: we have no listener. If the connection has an end on this host, another program listens
 * there and would hand us the next connection.
 */
int sockets_give_client(struct relay *relay, struct failure *why)
{
	struct endpoint listener = relay->only->local;

	if (relay->policy.netns || !transparent_is_local(&listener))
		return 0;
	memset(&listener.addr, 0, sizeof(listener.addr));
	return endpoint_list_add(&relay->policy.listeners, &listener, why);
}

int sockets_give_listeners(struct relay *relay, const struct relay_listeners *wanted,
			   const struct config *config, int inherited, struct failure *why)
{
	int result = inherited ? adopt_for_all(relay, config, inherited, why)
			       : open_for_all(relay, wanted, config, why);

	if (result < 0 || note_all_listeners(relay, why) < 0)
		return -1;
	set_buffers(relay);
	return options_wants_udp(&config->common) ? open_raw(relay, why) : 0;
}

int sockets_check_upstream(struct relay *relay, const struct config *config, struct failure *why)
{
	if (relay->only)
		return transparent_probe(&relay->only->client, &relay->settings.connect, why);
	if (relay->policy.netns && options_wants_udp(&config->common))
		open_raw_elsewhere(relay);
	return check_fit(relay, config, why);
}

/*
 * Keep the capabilities that connections need: for IP_TRANSPARENT and SO_MARK (CAP_NET_RAW, or, if
 * that is missing, CAP_NET_ADMIN, which can do much more), and for a client's port below 1024. All
 * others are dropped, even by root.
 */
int sockets_drop_privileges(const struct config *config, struct failure *why)
{
	int keep[3], confine = config->no_sandbox ? -1 : confine_capability();
	size_t count = 0;

	if (confine >= 0)
		keep[count++] = confine;
	if (config->connect.source != SOURCE_OWN || config->upstream_mark.value)
		keep[count++] = privilege_has(CAP_NET_RAW) ? CAP_NET_RAW : CAP_NET_ADMIN;
	if (config->connect.source == SOURCE_CLIENT)
		keep[count++] = CAP_NET_BIND_SERVICE;
	return privilege_drop(&config->user, keep, count, why);
}
