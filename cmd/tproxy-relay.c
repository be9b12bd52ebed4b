/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-relay - carry each intercepted connection on to where it was going, with the client's own
 * address as source.
 */
#include "base/defaults.h"
#include "base/options.h"
#include "process/command.h"
#include "process/privilege.h"
#include "process/sandbox.h"
#include "tproxy-relay/config.h"
#include "tproxy-relay/control.h"
#include "tproxy-relay/inetd.h"
#include "tproxy-relay/metrics.h"
#include "tproxy-relay/stats.h"
#include "tproxy-relay/worker.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

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

/* UNANSWERED[,ESTABLISHED] */
static int set_udp_timeout(void *field, const char *arg, const struct option_spec *self,
			   struct failure *why)
{
	struct udp_settings *udp = field;
	const char *comma = strchr(arg, ',');
	char first[32];

	if (!comma)
		return set_limit(&udp->unanswered_timeout, arg, self, why);
	if ((size_t)(comma - arg) >= sizeof(first))
		return report_refuse(why, "must be a duration, or two with a comma between");
	memcpy(first, arg, (size_t)(comma - arg));
	first[comma - arg] = '\0';
	if (set_limit(&udp->unanswered_timeout, first, self, why) < 0)
		return -1;
	return set_limit(&udp->established_timeout, comma + 1, self, why);
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
	OPTION("max-flows", 0, "N",
	       "UDP flows at once; then old ones make room\n(what the descriptor limit allows)",
	       option_count, struct config, udp.max),
	OPTION("udp-timeout", 0, "T[,T]",
	       "for a UDP flow without an answer; for one that goes\nboth ways (30s,2m)",
	       set_udp_timeout, struct config, udp),
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
	       "once the listeners are open become NAME (as root:\ntproxy, else nobody), with what "
	       "is still needed",
	       privilege_option_user, struct config, user),
	OPTION("no-sandbox", 0, NULL, "do without seccomp", option_flag, struct config, no_sandbox),
	OPTION("log", 0, "events|errors|off", "records on stdout (events)", option_choice,
	       struct config, log),
	OPTION("columns", 'o', "COL,...", "these columns; +COL,... adds to the usual ones",
	       option_text, struct config, columns),
	OPTIONS_TCP_UDP(struct config, common),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "inetd", "threads" },	     { "inetd", "max" },       { "inetd", "takeover" },
	{ "inetd", "control" },	     { "inetd", "ipv4" },      { "inetd", "ipv6" },
	{ "inetd", "metrics-file" }, { "inetd", "max-flows" }, { NULL, NULL },
};

const struct options_program relay_program = {
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

/* ---- the story ---- */

static void handle_signal(struct loop *loop, int signo, void *context)
{
	static struct stats stats;
	struct relay *relay = context;

	if (signo == SIGUSR1)
		stats_collect(&stats, relay, tell_stats, NULL);
	else if (relay->phase == RELAY_ENDING)
		record_output_hurry(&relay->output);
	else
		relay_end(relay, relay->phase == RELAY_SERVING ? RELAY_DRAINING : RELAY_ENDING);
}

static int open_records(struct relay *relay, const struct config *config, struct failure *why)
{
	struct record_columns shown = { .count = sizeof(columns) / sizeof(*columns) };

	memcpy(shown.at, columns, sizeof(columns));
	if (config->columns && record_parse_columns(config->columns, &shown, why) < 0)
		return report_about(why, "--columns %s", config->columns);
	if (config->log != CONN_LOG_OFF)
		relay->records = record_stream_new(STDOUT_FILENO, config->common.json, &shown, why);
	return config->log != CONN_LOG_OFF && !relay->records ? -1 : 0;
}

/* Its sockets are netlink's, which no one shall change routes by. */
static int open_local_addrs(void *context, struct failure *why)
{
	struct policy *policy = context;

	policy->local_addrs = local_addrs_new(why);
	return policy->local_addrs ? 0 : -1;
}

static int set_up(struct relay *relay, const struct config *config,
		  const struct relay_listeners *listeners, int inherited, struct failure *why)
{
	size_t count = inherited ? (size_t)inherited : listeners->tcp.count + listeners->udp.count;
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, 0 };
	int result;

	if (open_records(relay, config, why) < 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	loop_block_signals(signals);
	if (sockets_settle_max(relay, config, count, why) < 0)
		return -1;
	if (config->connect.source == SOURCE_CLIENT &&
	    !(relay->timewait = timewait_new(&config->user, !config->no_sandbox, why)))
		return -1;
	if (config->connect.source != SOURCE_OWN &&
	    privilege_without(open_local_addrs, &relay->policy, why) < 0)
		return -1;
	if (relay_init(relay, (unsigned)config->threads, why) < 0)
		return -1;
	result = relay->only ? sockets_give_client(relay, why)
			     : sockets_give_listeners(relay, listeners, config, inherited, why);
	if (result < 0)
		return -1;
	if (relay->policy.local_addrs &&
	    local_addrs_watch(relay->policy.local_addrs, relay->workers[0].host.loop, why) < 0)
		return -1;
	return loop_signals(relay->workers[0].host.loop, signals, handle_signal, relay, why);
}

static void configure(struct relay *relay, const struct config *config)
{
	relay->settings.connect = config->connect;
	relay->settings.connect.mark = &config->upstream_mark;
	relay->settings.new_port = config->on_clash == 0;
	relay->settings.connect_timeout = config->connect_timeout;
	relay->settings.idle_timeout = config->idle_timeout;
	relay->settings.half_closed_timeout = config->half_closed_timeout;
	relay->udp = config->udp;
	relay->icmp = (struct udp_icmp_sockets){ { -1, -1 } };
	relay->drain_timeout = config->drain_timeout;
	relay->log = (enum conn_log_level)config->log;
	relay->trouble = tell_trouble;
	relay->unheard = tell_unheard;
	relay->output_ops.trouble = tell_unwritable;
	relay->output_ops.waiting = tell_waiting;
	relay->ready = config->inetd ? NULL : tell_ready;
	relay->stopping = config->inetd ? NULL : tell_stopping;
	relay->sandbox = config->no_sandbox ? 0 : SANDBOX_SOCKETS;
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

/* A leg of another relay that has come back counts as one of ours. */
static void note_loop(struct relay *relay, struct policy_leg *leg)
{
	const struct transparent_connection *c = relay->only;

	leg->local = c->client;
	leg->peer = c->origin == ORIGIN_NONE ? c->local : c->origdst;
	policy_add_leg(&relay->policy, leg);
}

/* Whoever listens at NOTIFY_SOCKET may be out of reach afterwards. */
static int give_up_rights(const struct config *config, struct failure *why)
{
	if (!config->inetd && notify_open(why) < 0)
		report_failure(why, STATUS_DONE);
	if (sockets_drop_privileges(config, why) < 0)
		return -1;
	return privilege_seal(why);
}

static int serve(const struct config *config, const struct relay_listeners *listeners,
		 int inherited, const struct inetd_client *client)
{
	struct relay relay = { .only = client ? &client->connection : NULL };
	struct policy_leg loop = { 0 };
	struct control *control = NULL;
	struct metrics *metrics = NULL;
	struct record_losses lost;
	struct failure why;
	int result, status;

	configure(&relay, config);
	if (client && client->loops)
		note_loop(&relay, &loop);
	result = set_up(&relay, config, listeners, inherited, &why);
	if (result == 0 && config->control) {
		control = control_new(&relay, config->control, config->takeover, &config->user,
				      &why);
		result = control ? 0 : -1;
	}
	if (result == 0 && config->metrics) {
		metrics = metrics_new(&relay, config->metrics, &config->user, &why);
		result = metrics ? 0 : -1;
	}
	if (result == 0)
		result = give_up_rights(config, &why);
	if (result < 0 && client)
		transparent_reset(client->connection.fd);
	if (result == 0)
		result = relay_run(&relay, &why);
	status = client && result == 0 ? tell_end(&relay) : STATUS_DONE;
	metrics_free(metrics);
	relay_free(&relay);
	control_free(control);
	lost = record_stream_free(relay.records);
	tell_lost(&lost);
	local_addrs_free(relay.policy.local_addrs);
	policy_free(&relay.policy);
	timewait_free(relay.timewait);
	return result < 0 ? report_failure(&why, STATUS_REFUSED) : status;
}

/* What there is to serve if no ENDPOINT is given: the client on fd 0, or listeners that were
 * passed. */
static int inherit(struct config *config, struct inetd_client *client, int *inherited)
{
	const struct transparent_listen_options how = { .ack_delay = ACK_DELAY };
	struct failure why = { 0 };
	int status;

	if (config->inetd) {
		status = inetd_take(&how, &config->upstream_mark, client, &why);
		return status == STATUS_DONE ? OPTIONS_GO_ON : report_failure(&why, status);
	}
	*inherited = listen_fds_take(&why);
	if (*inherited < 0)
		return report_failure(&why, STATUS_USAGE);
	if (*inherited == 0)
		return options_misuse(&relay_program,
				      "no ENDPOINT to listen on, and no LISTEN_FDS");
	return arguments_check_inherited(config, *inherited);
}

/* Records that would go nowhere are not lost in silence. To be called before
 * descriptors_guard(), which puts something there. Under inetd nobody may have thought of them. */
static int check_output(const struct config *config)
{
	if (config->inetd || config->log == CONN_LOG_OFF || fcntl(STDOUT_FILENO, F_GETFD) >= 0)
		return OPTIONS_GO_ON;
	report_error("standard output is closed: there is nowhere to write records to; --log off "
		     "does without them");
	return STATUS_REFUSED;
}

/* Is --inetd among the options, abbreviated perhaps? Before they are parsed: what is wrong with
 * them is no news for the client. */
static bool is_inetd(char **argv)
{
	for (char **arg = argv + 1; *arg && strcmp(*arg, "--") != 0; arg++)
		if (strlen(*arg) > 3 && strncmp("--inetd", *arg, strlen(*arg)) == 0)
			return true;
	return false;
}

/* Nothing that serves strangers should be root. */
static void choose_user(struct config *config)
{
	struct failure why;
	char text[512];

	if (privilege_choose_user(&config->user, &why) < 0)
		report_notice("%s", report_text(&why, text, sizeof(text)));
}

int main(int argc, char **argv)
{
	struct config config = {
		.upstream_mark = DEFAULT_UPSTREAM_MARK,
		.on_clash = 1,
		.connect_timeout = 10 * 1000,
		.idle_timeout = (2 * 60 + 5) * 60 * 1000,
		.half_closed_timeout = 60 * 1000,
		.drain_timeout = 30 * 1000,
		.threads = 1,
		.udp = { .unanswered_timeout = 30 * 1000, .established_timeout = 2 * 60 * 1000 },
		.send_proxy = -1,
	};
	struct options_rest rest;
	struct relay_listeners listeners = { .udp.protocol = IPPROTO_UDP };
	struct inetd_client client;
	struct failure why;
	int status, inherited = 0;

	report_init(relay_program.name);
	if (is_inetd(argv) && inetd_is_client(STDERR_FILENO))
		report_to(-1);
	status = options_parse(&relay_program, argc, argv, &config, &rest);
	if (status == OPTIONS_GO_ON)
		status = arguments_check(&config);
	if (status == OPTIONS_GO_ON)
		status = arguments_read_endpoints(&listeners, &config, &rest);
	if (status == OPTIONS_GO_ON && !rest.count)
		status = inherit(&config, &client, &inherited);
	if (status == OPTIONS_GO_ON)
		status = check_output(&config);
	if (status == OPTIONS_GO_ON && descriptors_guard(&why) < 0)
		status = report_failure(&why, STATUS_REFUSED);
	if (status == OPTIONS_GO_ON) {
		choose_user(&config);
		status = serve(&config, &listeners, inherited, config.inetd ? &client : NULL);
	}
	listeners_close(&listeners.tcp);
	listeners_close(&listeners.udp);
	match_list_free(&config.allow);
	match_list_free(&config.deny);
	endpoint_cidr_free(&config.accept_proxy);
	return status;
}
