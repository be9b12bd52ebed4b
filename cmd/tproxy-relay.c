/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-relay - carry each intercepted connection on to where it was going, with the client's own
 * address as source.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "control.h"
#include "figures.h"
#include "handover.h"
#include "inetd.h"
#include "metrics.h"
#include "options.h"
#include "privilege.h"
#include "sandbox.h"
#include "takeover.h"
#include "worker.h"

struct config {
	struct options_common common;
	struct endpoint upstream[2];
	struct transparent_connect_options connect;
	struct mark upstream_mark;
	int on_clash;
	struct match_list allow, deny;
	uint64_t connect_timeout, idle_timeout, half_closed_timeout, drain_timeout;
	uint64_t max, threads;
	struct cidr_list accept_proxy;
	int send_proxy; /* index among 1|2, or -1 */
	bool takeover, inetd;
	bool no_sandbox;
	const char *control, *columns, *metrics;
	struct privilege_user user;
	int log;
};

/* ---- options of this program's own kinds ---- */

static int set_upstream(void *field, const char *arg, const struct option_spec *self,
			struct failure *why)
{
	struct endpoint *upstream = field, e;

	if (endpoint_parse(arg, &e, why) < 0)
		return -1;
	if (endpoint_is_any(&e))
		return report_refuse(why, "must be an address to connect to");
	upstream += e.family == AF_INET6;
	if (endpoint_is_set(upstream))
		return report_refuse(why, "there is one for this family already");
	*upstream = e;
	return 0;
}

static int set_source(void *field, const char *arg, const struct option_spec *self,
		      struct failure *why)
{
	static const char *const words[] = {
		[SOURCE_CLIENT] = "client",
		[SOURCE_CLIENT_ADDR] = "client-addr",
		[SOURCE_OWN] = "own",
	};
	struct transparent_connect_options *connect = field;

	for (int i = 0; i <= SOURCE_OWN; i++) {
		if (strcmp(arg, words[i]) != 0)
			continue;
		connect->source = (enum transparent_source)i;
		return 0;
	}
	connect->source = SOURCE_ADDR;
	if (endpoint_parse_address(arg, &connect->address, NULL) == 0 &&
	    !endpoint_is_any(&connect->address))
		return 0;
	return report_refuse(why, "must be client, client-addr, own, or an address");
}

static uint64_t count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (uint64_t)CPU_COUNT(&set);
}

static int set_threads(void *field, const char *arg, const struct option_spec *self,
		       struct failure *why)
{
	if (strcmp(arg, "auto") == 0) {
		*(uint64_t *)field = count_cpus();
		return 0;
	}
	return quantity_number(arg, 1, 256, field, why);
}

/* A limit of nothing would end every connection. */
static int set_limit(void *field, const char *arg, const struct option_spec *self,
		     struct failure *why)
{
	if (quantity_duration(arg, field, why) < 0)
		return -1;
	return *(uint64_t *)field ? 0 : report_refuse(why, "must be longer than 0");
}

static const struct option_spec options[] = {
	OPTION_HEADING("Where to:"),
	OPTION("upstream", 0, "ENDPOINT",
	       "this upstream (the original destination);\none for each family may be given",
	       set_upstream, struct config, upstream),
	OPTION("allow-dst", 0, "CIDR[:PORTS]", "connect to these only (all); repeatable",
	       match_option, struct config, allow),
	OPTION("deny-dst", 0, "CIDR[:PORTS]", "never connect to these; repeatable", match_option,
	       struct config, deny),
	OPTION_HEADING("Whose address the upstream sees:"),
	OPTION("source", 0, "client|client-addr|own|ADDR",
	       "the client's address and port; its address\nwith any port; this host's; that one "
	       "(client)",
	       set_source, struct config, connect),
	OPTION("on-clash", 0, "new-port|fail", "when the client's port cannot be used (fail)",
	       option_choice, struct config, on_clash),
	OPTION("upstream-mark", 0, "VALUE[/MASK]", "mark of the upstream leg (0x2/0xff)",
	       option_mark, struct config, upstream_mark),
	OPTION_HEADING("PROXY protocol:"),
	OPTION("accept-proxy", 0, "CIDR,...",
	       "connections from there begin with a header that\nsays who the client is (v1, v2)",
	       option_cidrs, struct config, accept_proxy),
	OPTION("send-proxy", 0, "1|2", "tell the upstream so, by a header of that version",
	       option_choice, struct config, send_proxy),
	OPTION_HEADING("Limits:"),
	OPTION("max", 'c', "N",
	       "connections at once; then it stops accepting\n(what the "
	       "descriptor limit allows)",
	       option_count, struct config, max),
	OPTION("threads", 0, "N|auto", "threads, each with listeners of its own (1)", set_threads,
	       struct config, threads),
	OPTION("connect-timeout", 0, "T", "for the upstream to answer (10s)", set_limit,
	       struct config, connect_timeout),
	OPTION("idle-timeout", 0, "T", "without a byte either way (2h5m)", set_limit, struct config,
	       idle_timeout),
	OPTION("half-closed-timeout", 0, "T", "since the last byte, once a side has ended (1m)",
	       set_limit, struct config, half_closed_timeout),
	OPTION("drain-timeout", 0, "T", "for connections to finish after SIGTERM (30s)",
	       option_duration, struct config, drain_timeout),
	OPTION_HEADING("Operation:"),
	OPTION("inetd", 0, NULL, "fd 0 is an accepted client: relay it, and end", option_flag,
	       struct config, inetd),
	OPTION("takeover", 0, NULL, "take over endpoints that another relay serves", option_flag,
	       struct config, takeover),
	OPTION("control", 0, "PATH", "answer `connections', `counters', `drain' there", option_text,
	       struct config, control),
	OPTION("metrics-file", 0, "PATH", "counters there as OpenMetrics text, replaced every 3 s",
	       option_text, struct config, metrics),
	OPTION("user", 0, "NAME[:GROUP]",
	       "become NAME once the listeners are open; with the\ncapabilities still needed",
	       privilege_option_user, struct config, user),
	OPTION("no-sandbox", 0, NULL, "do without seccomp", option_flag, struct config, no_sandbox),
	OPTION("log", 0, "events|errors|off", "records on stdout (events)", option_choice,
	       struct config, log),
	OPTION("columns", 'o', "COL,...", "these columns; +COL,... adds to the usual ones",
	       option_text, struct config, columns),
	OPTIONS_TCP(struct config, common),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "inetd", "threads" },	     { "inetd", "max" },  { "inetd", "takeover" },
	{ "inetd", "control" },	     { "inetd", "ipv4" }, { "inetd", "ipv6" },
	{ "inetd", "metrics-file" }, { NULL, NULL },
};

static const struct options_program program = {
	.name = "tproxy-relay",
	.summary = "Carries each intercepted connection on to where it was going, with the "
		   "client's "
		   "own\naddress as source.",
	.usage = "tproxy-relay [OPTION]... ENDPOINT...\n"
		 "tproxy-relay [OPTION]...                 with listeners passed as LISTEN_FDS\n"
		 "tproxy-relay --inetd [OPTION]...         with a client on fd 0",
	.default_command = -1,
	.options = options,
	.conflicts = conflicts,
	.epilogue = "An ENDPOINT is ADDR:PORT, [ADDR6]:PORT, *:PORT, or a bare PORT: loopback of "
		    "both\n"
		    "families, with --upstream any address of both.\n"
		    "\n"
		    "  tproxy-setup run --port 80 --to 3129 -- tproxy-relay 3129\n"
		    "\n"
		    "See tproxy-relay(8); its records are described in tproxy-tools(7).",
};

static const enum record_field columns[] = {
	RECORD_TIME,	    RECORD_EVENT,	RECORD_ID,	   RECORD_PROTO,
	RECORD_CLIENT,	    RECORD_ORIGDST,	RECORD_ORIGDST_BY, RECORD_UPSTREAM_LOCAL,
	RECORD_UPSTREAM,    RECORD_SOURCE_KEPT, RECORD_BYTES_UP,   RECORD_BYTES_DOWN,
	RECORD_DURATION_MS, RECORD_REASON,
};

/* ---- what the command line means ---- */

static bool has_upstream(const struct config *config)
{
	return endpoint_is_set(&config->upstream[0]) || endpoint_is_set(&config->upstream[1]);
}

static bool keeps_client(const struct config *config)
{
	return config->connect.source == SOURCE_CLIENT ||
	       config->connect.source == SOURCE_CLIENT_ADDR;
}

/* The family of the address that all upstream legs start from or lead to; AF_UNSPEC: both will do. */
static int only_family(const struct config *config)
{
	bool v4 = endpoint_is_set(&config->upstream[0]), v6 = endpoint_is_set(&config->upstream[1]);

	if (config->connect.source == SOURCE_ADDR && !has_upstream(config))
		return config->connect.address.family;
	return keeps_client(config) && v4 != v6 ? (v4 ? AF_INET : AF_INET6) : AF_UNSPEC;
}

/* Where only one family can be carried, only that one is listened on. */
static int settle_family(struct config *config)
{
	int family = only_family(config);
	bool both = config->common.ipv4 == config->common.ipv6;

	if (family == AF_UNSPEC || (both && config->common.ipv4))
		return OPTIONS_GO_ON;
	if (!both && !options_wants_family(&config->common, family))
		return options_misuse(&program, "-%c: %s is of the other address family",
				      config->common.ipv4 ? '4' : '6',
				      has_upstream(config) ? "--upstream" : "--source");
	if (both)
		report_notice("only IPv%c is served: no %s is given for the other family",
			      family == AF_INET ? '4' : '6',
			      has_upstream(config) ? "--upstream" : "--source address");
	config->common.ipv4 = family == AF_INET;
	config->common.ipv6 = family == AF_INET6;
	return OPTIONS_GO_ON;
}

static int check_upstream(const struct config *config)
{
	char text[ENDPOINT_TEXT_MAX];

	for (int i = 0; i < 2; i++) {
		const struct endpoint *e = &config->upstream[i];

		if (!endpoint_is_set(e))
			continue;
		if (config->connect.source == SOURCE_ADDR &&
		    config->connect.address.family != e->family)
			return options_misuse(&program,
					      "--upstream %s: --source is an address of "
					      "the other family",
					      endpoint_format(e, text));
	}
	return OPTIONS_GO_ON;
}

/* Is nothing left of what --allow-dst allows, in the families that are served? */
static bool is_all_denied(const struct config *config)
{
	static const struct match all[] = { { .cidr = { .family = AF_INET } },
					    { .cidr = { .family = AF_INET6 } } };
	const struct match *at = config->allow.count ? config->allow.at : all;
	size_t count = config->allow.count ? config->allow.count : 2;

	for (size_t i = 0; i < count; i++) {
		int family = at[i].cidr.family;

		if ((family == AF_UNSPEC || options_wants_family(&config->common, family)) &&
		    !match_list_covers(&config->deny, &at[i]))
			return false;
	}
	return true;
}

static bool is_denied(const struct config *config, const struct endpoint *e)
{
	return match_list_has(&config->deny, e) ||
	       (config->allow.count && !match_list_has(&config->allow, e));
}

/* Rules that leave nothing to relay are a mistake. */
static int check_rules(const struct config *config)
{
	char text[ENDPOINT_TEXT_MAX];

	for (int i = 0; i < 2; i++)
		if (endpoint_is_set(&config->upstream[i]) &&
		    is_denied(config, &config->upstream[i]))
			return options_misuse(&program, "--upstream %s: is what %s excludes",
					      endpoint_format(&config->upstream[i], text),
					      match_list_has(&config->deny, &config->upstream[i])
						      ? "--deny-dst"
						      : "--allow-dst");
	if (!has_upstream(config) && is_all_denied(config))
		return options_misuse(&program, config->deny.count
							? "--deny-dst: leaves nothing to relay"
							: "--allow-dst: allows nothing in the "
							  "address family that is served");
	return OPTIONS_GO_ON;
}

static int check_config(struct config *config)
{
	int status = check_upstream(config);

	if (config->common.udp)
		return options_misuse(&program, "--udp: only TCP is relayed");
	if (status == OPTIONS_GO_ON && !config->inetd)
		status = settle_family(config);
	return status == OPTIONS_GO_ON ? check_rules(config) : status;
}

static int read_operands(struct listeners *listeners, const struct config *config,
			 const struct options_rest *rest)
{
	enum endpoint_bare bare = has_upstream(config) ? ENDPOINT_BARE_ANY : ENDPOINT_BARE_LOOPBACK;
	struct failure why;

	if (rest->wrapped)
		return options_misuse(&program, "--: runs no command");
	if (config->inetd && rest->count)
		return options_misuse(&program,
				      "--inetd and the ENDPOINT %s contradict each other: "
				      "the client is on fd 0",
				      rest->operands[0]);
	for (int i = 0; i < rest->count; i++)
		if (listeners_add(listeners, rest->operands[i], bare, &config->common, &why) < 0)
			return report_failure(&why, STATUS_USAGE);
	if (rest->count && listeners_check(listeners, &config->common, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	return OPTIONS_GO_ON;
}

/* ---- descriptors and listeners ---- */

/* As many pipes of that size a process may have without CAP_SYS_RESOURCE (pipe-user-pages-soft). */
#define PIPES_MAX 64

/*
 * What the client is told of its request can as well travel with the answer. In microseconds: long for
 * an answer, short for a client that waits for the ACK (Nagle's algorithm); two ticks at 250 Hz.
 */
#define ACK_DELAY 8000

/*
 * Two descriptors a connection; besides them those of the listeners, a few a thread, some of our own,
 * and a small part of all for pipes.
 */
static uint64_t affordable(struct relay *relay, uint64_t threads, size_t listeners, uint64_t limit)
{
	uint64_t own = 32 + threads * (listeners + 5);

	relay->pipes = limit / 32 < PIPES_MAX ? (unsigned)limit / 32 : PIPES_MAX;
	own += 2 * relay->pipes;
	return limit > own + 2 ? (limit - own) / 2 : 1;
}

/* How many files may be open: what we may have, or what we have if that may not be changed. */
static int raise_limit(uint64_t *files, struct failure *why)
{
	struct rlimit had, wanted;

	if (getrlimit(RLIMIT_NOFILE, &had) < 0)
		return report_fail(why, errno, "getrlimit", "open files");
	wanted = (struct rlimit){ had.rlim_max, had.rlim_max };
	*files = setrlimit(RLIMIT_NOFILE, &wanted) < 0 ? had.rlim_cur : had.rlim_max;
	return 0;
}

static int settle_max(struct relay *relay, const struct config *config, size_t listeners,
		      struct failure *why)
{
	uint64_t files, most;

	if (raise_limit(&files, why) < 0)
		return -1;
	most = affordable(relay, config->threads, listeners, files);
	relay->max = config->max ? config->max : most;
	if (relay->max > most) {
		report_warning("--max %llu: the limit on open files (ulimit -n) allows %llu "
			       "connections at once",
			       (unsigned long long)relay->max, (unsigned long long)most);
		relay->max = most;
	}
	return 0;
}

/* May we have transparent sockets? */
static bool may_intercept(void)
{
	const struct transparent_connect_options how = { .source = SOURCE_CLIENT };
	const struct endpoint any = { .family = AF_INET };

	return transparent_probe(&any, &how, NULL) == 0;
}

/* Where nothing need be intercepted and nothing is spoofed, no privilege is needed. */
static struct transparent_listen_options listen_options(const struct config *config, bool alone)
{
	return (struct transparent_listen_options){
		.reuseport = true,
		.alone = alone,
		.ack_delay = ACK_DELAY,
		.redirect = has_upstream(config) && config->connect.source == SOURCE_OWN &&
			    !may_intercept(),
	};
}

static int open_listeners(struct listeners *listeners, const struct config *config, bool first,
			  struct failure *why)
{
	struct transparent_listen_options how = listen_options(config, first && !config->takeover);

	if (listeners_open(listeners, &how, why) == 0)
		return 0;
	if (why->err == EADDRINUSE && first && !config->takeover)
		report_hint(why, "--takeover takes over from a relay that serves it already");
	return -1;
}

static void tell_left_out(const struct listeners *listeners)
{
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < listeners->count; i++)
		if (listeners->at[i].fd < 0)
			report_notice("%s: left out: %s",
				      endpoint_format(&listeners->at[i].at, text),
				      strerror(listeners->at[i].lack.err));
}

/*
 * Have what another relay has open. Where that may not be had, its endpoints are joined; then it is the
 * kernel's setting that decides what becomes of its queue.
 */
static void take_over(const struct listeners *wanted, const struct config *config,
		      struct listeners *found)
{
	struct transparent_listen_options how = listen_options(config, false);
	struct failure why;
	char text[1024];

	if (takeover_find(wanted, program.name, &how, found, &why) == 0)
		return;
	report_text(&why, text, sizeof(text));
	if (takeover_migrates())
		report_verbose(1, "%s: joined instead", text);
	else
		report_warning("%s: joined instead: connections that it has not accepted when it "
			       "ends are reset, unless net.ipv4.tcp_migrate_req=1",
			       text);
}

/* Every thread gets listeners of its own, but for those taken over where there are too few. */
static int open_shares(struct relay *relay, const struct listeners *wanted,
		       const struct listeners *found, const struct config *config,
		       struct failure *why)
{
	for (unsigned i = 0; i < relay->count; i++) {
		struct listeners *own = &relay->workers[i].listeners;

		if (takeover_share(own, wanted, found, i, relay->count, &relay->shared_listeners,
				   why) < 0 ||
		    open_listeners(own, config, i == 0, why) < 0)
			return -1;
		if (i == 0)
			tell_left_out(own);
		listeners_prune(own);
	}
	return 0;
}

static int open_for_all(struct relay *relay, const struct listeners *wanted,
			const struct config *config, struct failure *why)
{
	struct listeners found = { 0 };
	int result;

	if (config->takeover)
		take_over(wanted, config, &found);
	result = open_shares(relay, wanted, &found, config, why);
	listeners_close(&found);
	return result;
}

/* None that is passed on may slip by: -4 and -6 choose for all. */
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

/* Inherited listeners are shared. */
static int adopt_for_all(struct relay *relay, const struct config *config, int inherited,
			 struct failure *why)
{
	struct transparent_listen_options how = listen_options(config, false);
	struct listeners *first = &relay->workers[0].listeners;

	if (listeners_adopt(first, HANDOVER_FIRST_FD, inherited, &how, why) < 0 ||
	    check_families(first, config, why) < 0)
		return -1;
	relay->shared_listeners = relay->count > 1;
	for (unsigned i = 1; i < relay->count; i++)
		if (listeners_share(&relay->workers[i].listeners, first, why) < 0)
			return -1;
	return 0;
}

/* The policy knows every endpoint of ours. */
static int note_listeners(struct relay *relay, struct failure *why)
{
	const struct listeners *own = &relay->workers[0].listeners;

	for (size_t i = 0; i < own->count; i++)
		if (endpoint_list_add(&relay->policy.listeners, &own->at[i].at, why) < 0)
			return -1;
	return 0;
}

/* What would fail for every connection is said at once. */
static int check_fit(struct relay *relay, const struct config *config, struct failure *why)
{
	const struct listeners *own = &relay->workers[0].listeners;
	const struct endpoint anybody = { 0 };
	char text[ENDPOINT_TEXT_MAX];

	for (int i = 0; i < 2; i++) {
		const struct endpoint *e = &config->upstream[i];

		if (policy_is_own_listener(&relay->policy, e))
			report_refuse(why, "is an own listener: each connection would come back");
		else if (policy_check_answers(&relay->policy, &anybody, e, why) == 0)
			continue;
		return report_about(why, "--upstream %s", endpoint_format(e, text));
	}
	for (size_t i = 0; i < own->count; i++)
		if (transparent_probe(&own->at[i].at, &relay->settings.connect, why) < 0)
			return -1;
	return 0;
}

/*
 * --inetd: no listener is ours; if the connection has an end of this host, that is where somebody
 * listens who would hand us the next one.
 */
static int give_client(struct relay *relay, struct failure *why)
{
	struct endpoint listener = relay->only->local;

	if (transparent_is_local(&listener)) {
		memset(&listener.addr, 0, sizeof(listener.addr));
		if (endpoint_list_add(&relay->policy.listeners, &listener, why) < 0)
			return -1;
	}
	return transparent_probe(&relay->only->client, &relay->settings.connect, why);
}

static int give_listeners(struct relay *relay, const struct listeners *wanted,
			  const struct config *config, int inherited, struct failure *why)
{
	int result = inherited ? adopt_for_all(relay, config, inherited, why)
			       : open_for_all(relay, wanted, config, why);

	if (result < 0 || note_listeners(relay, why) < 0)
		return -1;
	return check_fit(relay, config, why);
}

/*
 * What each connection needs a capability for: IP_TRANSPARENT and SO_MARK (CAP_NET_RAW or
 * CAP_NET_ADMIN), a client's port below 1024, and removing a TIME_WAIT that is in the way of a client's
 * port (CAP_NET_ADMIN, see reopen.h). All others are given up, also by root.
 */
static int drop_privileges(const struct config *config, struct failure *why)
{
	bool keeps_port = config->connect.source == SOURCE_CLIENT;
	bool admin = privilege_has(CAP_NET_ADMIN) && (keeps_port || !privilege_has(CAP_NET_RAW));
	int keep[2];
	size_t count = 0;

	if (config->connect.source != SOURCE_OWN || config->upstream_mark.value)
		keep[count++] = admin ? CAP_NET_ADMIN : CAP_NET_RAW;
	if (keeps_port)
		keep[count++] = CAP_NET_BIND_SERVICE;
	return privilege_drop(&config->user, keep, count, why);
}

/* ---- what is said about it ---- */

/* The first of each kind is a warning, the rest is for those who asked (-v): the counters have all. */
static void tell_trouble(enum reason reason, const struct failure *why)
{
	static atomic_bool told[REASON_COUNT];
	char text[1024];

	report_text(why, text, sizeof(text));
	if (atomic_exchange(&told[reason], true))
		report_verbose(1, "%s (%s)", text, reason_name(reason));
	else
		report_warning("%s (%s; more of this kind only with -v)", text,
			       reason_name(reason));
}

/* Reasons that nobody had are left out. */
static void tell_figures(struct figures *f, void *context)
{
	char line[2048];
	int used = 0;

	report_error("%llu connections now (at most %llu), %llu of %llu threads accept",
		     (unsigned long long)f->at[FIGURE_CONNECTIONS],
		     (unsigned long long)f->at[FIGURE_MAX],
		     (unsigned long long)f->at[FIGURE_ACCEPTING],
		     (unsigned long long)f->at[FIGURE_THREADS]);
	for (unsigned i = FIGURE_TALLY; i < FIGURE_COUNT && used < (int)sizeof(line); i++)
		if (f->at[i] || i < FIGURE_TALLY + TALLY_REASONS)
			used += snprintf(line + used, sizeof(line) - (size_t)used, " %s=%llu",
					 figures_name(i), (unsigned long long)f->at[i]);
	report_error("counters:%s", line);
	if (f->at[FIGURE_RECORDS_LOST])
		report_error("%llu records lost: their reader is too slow",
			     (unsigned long long)f->at[FIGURE_RECORDS_LOST]);
}

static void handle_signal(struct loop *loop, int signo, void *context)
{
	static struct figures figures;
	struct relay *relay = context;

	if (signo == SIGUSR1)
		figures_collect(&figures, relay, tell_figures, NULL);
	else
		relay_end(relay, relay->phase == RELAY_SERVING ? RELAY_DRAINING : RELAY_ENDING);
}

static void tell_metrics(const char *path, const struct failure *why)
{
	char text[1024];

	if (why)
		report_warning("%s; trying again every %d seconds, and saying no more of it",
			       report_text(why, text, sizeof(text)), METRICS_SECONDS);
	else
		report_verbose(1, "--metrics-file %s: written again", path);
}

static void notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void notify(const char *format, ...)
{
	struct failure why;
	char text[64];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (handover_notify(text, &why) < 0)
		report_failure(&why, STATUS_DONE);
}

/* A service manager that waits for the old relay's end is to watch the new one. */
static void tell_ready(const struct relay *relay)
{
	const struct listeners *l = &relay->workers[0].listeners;
	bool took_over = l->count && takeover_successor(l->at[0].fd) == getpid();
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < l->count; i++)
		if (i == 0 || !endpoint_equal(&l->at[i].at, &l->at[i - 1].at))
			report_verbose(1, "listening on %s", endpoint_format(&l->at[i].at, text));
	if (took_over)
		notify("MAINPID=%d\nREADY=1", (int)getpid());
	else
		notify("READY=1");
}

/* Where another relay goes on the service does not stop. */
static void tell_stopping(const struct relay *relay)
{
	const struct listeners *l = &relay->workers[0].listeners;
	pid_t successor = l->count ? takeover_successor(l->at[0].fd) : 0;

	if (successor && successor != getpid())
		report_verbose(1, "taken over by pid %d", (int)successor);
	else
		notify("STOPPING=1");
}

/* ---- the story ---- */

static int open_records(struct relay *relay, const struct config *config, struct failure *why)
{
	struct record_columns shown = { .count = sizeof(columns) / sizeof(*columns) };

	memcpy(shown.at, columns, sizeof(columns));
	if (config->columns && record_parse_columns(config->columns, &shown, why) < 0)
		return report_about(why, "--columns %s", config->columns);
	if (config->log != RELAY_LOG_OFF)
		relay->records = record_stream_new(STDOUT_FILENO, config->common.json, &shown, why);
	return config->log != RELAY_LOG_OFF && !relay->records ? -1 : 0;
}

static int set_up(struct relay *relay, const struct config *config,
		  const struct listeners *listeners, int inherited, struct failure *why)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, 0 };
	int result;

	if (open_records(relay, config, why) < 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	loop_block_signals(signals);
	if (settle_max(relay, config, inherited ? (size_t)inherited : listeners->count, why) < 0)
		return -1;
	if (config->connect.source == SOURCE_CLIENT && !(relay->reopen = reopen_new(why)))
		return -1;
	if (config->connect.source != SOURCE_OWN && !(relay->policy.locals = locals_new(why)))
		return -1;
	if (relay_init(relay, (unsigned)config->threads, why) < 0)
		return -1;
	result = relay->only ? give_client(relay, why)
			     : give_listeners(relay, listeners, config, inherited, why);
	if (result < 0)
		return -1;
	if (relay->policy.locals &&
	    locals_watch(relay->policy.locals, relay->workers[0].host.loop, why) < 0)
		return -1;
	return loop_signals(relay->workers[0].host.loop, signals, handle_signal, relay, why);
}

/* What a relay needs that runs: the control socket's path is removed at the end. */
static unsigned needed_calls(const struct config *config)
{
	return SANDBOX_SOCKETS | (config->control ? SANDBOX_REMOVE : 0) |
	       (config->metrics ? SANDBOX_WRITE : 0);
}

static void configure(struct relay *relay, const struct config *config)
{
	relay->settings.connect = config->connect;
	relay->settings.connect.mark = &config->upstream_mark;
	relay->settings.new_port = config->on_clash == 0;
	relay->settings.connect_timeout = config->connect_timeout;
	relay->settings.idle_timeout = config->idle_timeout;
	relay->settings.half_closed_timeout = config->half_closed_timeout;
	relay->drain_timeout = config->drain_timeout;
	relay->log = (enum relay_log)config->log;
	relay->trouble = tell_trouble;
	relay->ready = config->inetd ? NULL : tell_ready;
	relay->stopping = config->inetd ? NULL : tell_stopping;
	relay->sandbox = config->no_sandbox ? 0 : needed_calls(config);
	relay->settings.send_proxy = config->send_proxy + 1;
	if (getrandom(&relay->settings.unique_ids, sizeof(relay->settings.unique_ids), 0) < 0)
		relay->settings.unique_ids = (uint64_t)getpid();
	relay->accept_proxy = &config->accept_proxy;
	policy_init(&relay->policy);
	relay->policy.connect = &relay->settings.connect;
	relay->policy.allow = &config->allow;
	relay->policy.deny = &config->deny;
	memcpy(relay->policy.upstream, config->upstream, sizeof(config->upstream));
}

/* --inetd: what became of the connection, for who cares (-v) or ought to (it was refused). */
static int tell_end(const struct relay *relay)
{
	char client[ENDPOINT_TEXT_MAX];
	enum reason reason = REASON_NONE;

	for (int i = REASON_NONE + 1; i < REASON_COUNT; i++)
		if (relay_count(relay, TALLY_REASONS + (unsigned)i))
			reason = (enum reason)i;
	endpoint_format(&relay->only->client, client);
	if (relay_count(relay, TALLY_REFUSED))
		report_warning("%s: refused: %s", client, reason_name(reason));
	else
		report_verbose(1, "%s: %s", client, reason_name(reason));
	return reason == REASON_DONE ? STATUS_DONE : STATUS_NO;
}

static void tell_lost(uint64_t records)
{
	if (records)
		report_warning("%llu records were lost: they could not be written, or not fast enough",
			       (unsigned long long)records);
}

/* A leg of another relay that has come back counts as one of ours. */
static void note_loop(struct relay *relay, struct policy_leg *leg)
{
	const struct transparent_connection *c = relay->only;

	leg->local = c->client;
	leg->peer = c->origin == ORIGIN_NONE ? c->local : c->origdst;
	policy_add_leg(&relay->policy, leg);
}

static int serve(const struct config *config, const struct listeners *listeners, int inherited,
		 const struct inetd_client *client)
{
	struct relay relay = { .only = client ? &client->connection : NULL };
	struct policy_leg loop = { 0 };
	struct control *control = NULL;
	struct metrics *metrics = NULL;
	struct failure why;
	int result, status;

	configure(&relay, config);
	if (client && client->loops)
		note_loop(&relay, &loop);
	result = set_up(&relay, config, listeners, inherited, &why);
	if (result == 0 && config->control) {
		control = control_new(&relay, config->control, config->takeover, &why);
		result = control ? 0 : -1;
	}
	if (result == 0)
		result = drop_privileges(config, &why);
	if (result == 0 && config->metrics) {
		metrics = metrics_new(&relay, config->metrics, tell_metrics, &why);
		result = metrics ? 0 : -1;
	}
	if (result < 0 && client)
		transparent_reset(client->connection.fd);
	if (result == 0)
		result = relay_run(&relay, &why);
	status = client && result == 0 ? tell_end(&relay) : STATUS_DONE;
	metrics_free(metrics);
	relay_free(&relay);
	control_free(control);
	tell_lost(record_stream_free(relay.records, 1000));
	locals_free(relay.policy.locals);
	policy_free(&relay.policy);
	reopen_free(relay.reopen);
	return result < 0 ? report_failure(&why, STATUS_REFUSED) : status;
}

/* What there is to serve if no ENDPOINT is given: the client on fd 0, or listeners that were passed. */
static int inherit(const struct config *config, struct inetd_client *client, int *inherited)
{
	const struct transparent_listen_options how = { .ack_delay = ACK_DELAY };
	struct failure why = { 0 };
	int status;

	if (config->inetd) {
		status = inetd_take(&how, &config->upstream_mark, client, &why);
		return status == STATUS_DONE ? OPTIONS_GO_ON : report_failure(&why, status);
	}
	*inherited = handover_take_listeners(&why);
	if (*inherited < 0)
		return report_failure(&why, STATUS_USAGE);
	if (*inherited == 0)
		return options_misuse(&program, "no ENDPOINT to listen on, and no LISTEN_FDS");
	return OPTIONS_GO_ON;
}

/* Is --inetd among the options, abbreviated perhaps? Before they are parsed: what is wrong with them is
 * no news for the client. */
static bool is_inetd(char **argv)
{
	for (char **arg = argv + 1; *arg && strcmp(*arg, "--") != 0; arg++)
		if (strlen(*arg) > 3 && strncmp("--inetd", *arg, strlen(*arg)) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	struct config config = {
		.upstream_mark = TRANSPARENT_UPSTREAM_MARK,
		.on_clash = 1,
		.connect_timeout = 10 * 1000,
		.idle_timeout = (2 * 60 + 5) * 60 * 1000,
		.half_closed_timeout = 60 * 1000,
		.drain_timeout = 30 * 1000,
		.threads = 1,
		.send_proxy = -1,
	};
	struct options_rest rest;
	struct listeners listeners = { 0 };
	struct inetd_client client;
	struct failure why;
	int status, inherited = 0;

	report_init(program.name);
	if (is_inetd(argv) && inetd_is_client(STDERR_FILENO))
		report_to(-1);
	status = options_parse(&program, argc, argv, &config, &rest);
	if (status == OPTIONS_GO_ON)
		status = check_config(&config);
	if (status == OPTIONS_GO_ON)
		status = read_operands(&listeners, &config, &rest);
	if (status == OPTIONS_GO_ON && !rest.count)
		status = inherit(&config, &client, &inherited);
	if (status == OPTIONS_GO_ON && handover_guard_descriptors(&why) < 0)
		status = report_failure(&why, STATUS_REFUSED);
	if (status == OPTIONS_GO_ON)
		status = serve(&config, &listeners, inherited, config.inetd ? &client : NULL);
	listeners_close(&listeners);
	match_list_free(&config.allow);
	match_list_free(&config.deny);
	endpoint_cidr_free(&config.accept_proxy);
	return status;
}
