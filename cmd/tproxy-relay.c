/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-relay - relay each intercepted connection to its original destination, with the client's
 * own address as source.
 */
#include "base/defaults.h"
#include "base/options.h"
#include "net/conntrack.h"
#include "net/netns.h"
#include "net/translation.h"
#include "process/descriptors.h"
#include "process/listen_fds.h"
#include "process/notify.h"
#include "process/privilege.h"
#include "tproxy-relay/arguments.h"
#include "tproxy-relay/ask.h"
#include "tproxy-relay/config.h"
#include "tproxy-relay/control.h"
#include "tproxy-relay/heartbeat.h"
#include "tproxy-relay/inetd.h"
#include "tproxy-relay/metrics.h"
#include "tproxy-relay/relay.h"
#include "tproxy-relay/sockets.h"
#include "tproxy-relay/stats.h"
#include "tproxy-relay/tell.h"
#include "tproxy-relay/workers.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static const enum record_field columns[] = {
	RECORD_TIME,	    RECORD_EVENT,	RECORD_ID,	   RECORD_PROTO,
	RECORD_CLIENT,	    RECORD_ORIGDST,	RECORD_ORIGDST_BY, RECORD_UPSTREAM_LOCAL,
	RECORD_UPSTREAM,    RECORD_SOURCE_KEPT, RECORD_BYTES_UP,   RECORD_BYTES_DOWN,
	RECORD_DURATION_MS, RECORD_REASON,
};

/* On a terminal; PROTO only if there are two. */
static const enum record_field brief_columns[] = {
	RECORD_TIME,	RECORD_EVENT,  RECORD_PROTO,	RECORD_CLIENT,
	RECORD_ORIGDST, RECORD_REASON, RECORD_BYTES_UP, RECORD_BYTES_DOWN,
};

/* ---- the story ---- */

static struct record_columns choose_brief(const struct config *config)
{
	struct record_columns brief = { .count = 0 };

	for (size_t i = 0; i < sizeof(brief_columns) / sizeof(*brief_columns); i++)
		if (brief_columns[i] != RECORD_PROTO || config->common.udp)
			brief.at[brief.count++] = brief_columns[i];
	return brief;
}

/* Each signal shortens the end. */
static enum relay_phase next_phase(const struct relay *relay)
{
	if (relay->phase >= RELAY_DRAINING)
		return RELAY_ENDING;
	return relay->phase == RELAY_SERVING ? tell_first_phase(relay) : RELAY_DRAINING;
}

static void handle_signal(struct loop *loop, int signo, void *context)
{
	static struct stats stats;
	struct relay *relay = context;

	if (signo == SIGUSR1)
		stats_collect(&stats, relay, tell_stats, NULL);
	else if (relay->phase == RELAY_ENDING)
		record_output_hurry(&relay->output);
	else
		relay_end(relay, next_phase(relay));
}

static int open_records(struct relay *relay, const struct config *config, struct failure *why)
{
	struct record_columns shown = { .count = sizeof(columns) / sizeof(*columns) }, brief;

	memcpy(shown.at, columns, sizeof(columns));
	if (config->columns && record_parse_columns(config->columns, &shown, why) < 0)
		return report_about(why, "--columns %s", config->columns);
	if (config->log == CONN_LOG_OFF)
		return 0;
	relay->records = record_stream_new(STDOUT_FILENO, config->common.json, &shown, why);
	if (!relay->records)
		return -1;
	brief = choose_brief(config);
	record_stream_fit(relay->records, config->columns ? NULL : &brief, !config->no_header);
	return 0;
}

/* Its sockets are netlink sockets, through which nobody must be able to change routes. */
static int open_addrs(void *context, struct failure *why)
{
	struct local_addrs **addrs = context;

	*addrs = local_addrs_new(why);
	return *addrs ? 0 : -1;
}

/* We need to know the addresses of the host of the upstream legs if one has a foreign address, or a
 * header names the destination. */
static bool needs_local_addrs(const struct relay *relay, const struct config *config)
{
	return config->connect.source != SOURCE_OWN || config->accept_proxy.count ||
	       (relay->only && relay->only->origin == ORIGIN_PROXY);
}

/* The relay can do without. */
static void open_synack(struct relay *relay)
{
	struct failure why;
	char text[512];

	relay->synack = synack_new(&why);
	if (!relay->synack)
		report_warning("%s: clients do not get the DSCP of IPv4 servers",
			       report_text(&why, text, sizeof(text)));
}

/* What asks the kernel about upstream legs, in their network namespace. */
static int open_upstream_side(struct relay *relay, const struct config *config, struct failure *why)
{
	if (config->connect.source == SOURCE_CLIENT &&
	    !(relay->timewait = timewait_new(&config->user, !config->no_sandbox, why)))
		return -1;
	/* (A process for each connection does without where there is nothing to learn.) */
	if ((!relay->only || conntrack_is_used()) &&
	    !(relay->settings.translation = translation_new("tproxy-nat", &config->user,
							    !config->no_sandbox, why)))
		return -1;
	if (config->connect.keep_dscp && (config->inetd || options_wants_tcp(&config->common)))
		open_synack(relay);
	return needs_local_addrs(relay, config)
		       ? privilege_without(open_addrs, &relay->policy.local_addrs, why)
		       : 0;
}

static bool has_address(void *context, const struct endpoint *e)
{
	return local_addrs_has(context, e);
}

/* What asks the kernel about clients. */
static int open_client_side(struct relay *relay, struct transparent_host *front,
			    struct failure *why)
{
	struct policy *policy = &relay->policy;

	if (!policy->netns) {
		policy->listener_addrs = policy->local_addrs;
		return 0;
	}
	if (privilege_without(open_addrs, &policy->listener_addrs, why) < 0)
		return -1;
	if (endpoint_pin_interfaces() < 0)
		return report_fail(why, errno, "socket", "names of interfaces");
	*front = (struct transparent_host){ has_address, policy->listener_addrs };
	relay->front = front;
	return 0;
}

static int watch_addrs(struct relay *relay, struct local_addrs *addrs, struct failure *why)
{
	return addrs ? local_addrs_watch(addrs, relay->workers[0].host.loop, why) : 0;
}

static int set_up(struct relay *relay, const struct config *config,
		  const struct relay_listeners *listeners, int inherited,
		  struct transparent_host *front, struct failure *why)
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
	if (!relay->policy.netns && open_upstream_side(relay, config, why) < 0)
		return -1;
	if (open_client_side(relay, front, why) < 0 ||
	    workers_init(relay, (unsigned)config->threads, why) < 0)
		return -1;
	result = relay->only ? sockets_give_client(relay, why)
			     : sockets_give_listeners(relay, listeners, config, inherited, why);
	if (result < 0 || watch_addrs(relay, relay->policy.listener_addrs, why) < 0)
		return -1;
	return loop_signals(relay->workers[0].host.loop, signals, handle_signal, relay, why);
}

/* Is there another network namespace for upstream legs? *netns is its descriptor then. */
static int find_upstream(struct relay *relay, const struct config *config, int *netns,
			 struct failure *why)
{
	if (!config->upstream_netns)
		return 0;
	*netns = netns_open(config->upstream_netns, why);
	if (*netns < 0)
		return -1;
	if (netns_is_current(*netns))
		report_notice("--upstream-netns %s: is the network namespace of this process",
			      config->upstream_netns);
	else
		relay->policy.netns = config->upstream_netns;
	return 0;
}

/*
 * From here on this process is in the network namespace of the upstream legs: what it opens now,
 * and its threads and helpers later, belongs to that one, and the kernel leaves no right to return.
 */
static int enter_upstream(struct relay *relay, const struct config *config, int netns,
			  struct failure *why)
{
	if (relay->policy.netns) {
		if (netns_enter_fd(netns, relay->policy.netns, why) < 0 ||
		    open_upstream_side(relay, config, why) < 0 ||
		    watch_addrs(relay, relay->policy.local_addrs, why) < 0)
			return -1;
	}
	return sockets_check_upstream(relay, config, why);
}

static void configure(struct relay *relay, const struct config *config)
{
	relay->settings.connect = config->connect;
	relay->settings.connect.mark = &config->upstream_mark;
	relay->settings.new_port = config->on_clash == 0;
	relay->settings.connect_timeout = config->connect_timeout;
	relay->settings.idle_timeout = config->idle_timeout;
	relay->settings.half_closed_timeout = config->half_closed_timeout;
	relay->settings.keepalive = (unsigned)(config->keepalive / 1000);
	relay->udp = config->udp;
	relay->icmp[FLOW_CLIENT] = relay->icmp[FLOW_UPSTREAM] = (struct udp_icmp_sockets){ { -1,
											     -1 } };
	relay->drain_timeout = config->drain_timeout;
	relay->lame_duck = config->lame_duck;
	relay->log = (enum conn_log_level)config->log;
	relay->trouble = tell_trouble;
	relay->unheard = tell_unheard;
	relay->output_ops.trouble = tell_unwritable;
	relay->output_ops.waiting = tell_waiting;
	relay->ready = config->inetd ? NULL : tell_ready;
	relay->ready_fd = config->ready_fd;
	relay->lame = tell_lame;
	relay->stopping = config->inetd ? NULL : tell_stopping;
	relay->sandbox = !config->no_sandbox;
	relay->settings.send_proxy = config->send_proxy + 1;
	if (getrandom(&relay->settings.unique_ids, sizeof(relay->settings.unique_ids), 0) < 0)
		relay->settings.unique_ids = (uint64_t)getpid();
	relay->accept_proxy = &config->accept_proxy;
	policy_init(&relay->policy);
	relay->policy.connect = &relay->settings.connect;
	relay->policy.counts_hops = config->connect.source != SOURCE_CLIENT ||
				    relay->settings.new_port;
	relay->policy.allow = &config->allow;
	relay->policy.deny = &config->deny;
	memcpy(relay->policy.upstream, config->upstream, sizeof(config->upstream));
}

/* Another relay's leg that has come back counts as one of ours. */
static void note_loop(struct relay *relay, struct policy_leg *leg)
{
	const struct transparent_connection *c = relay->only;

	leg->fd = -1;
	leg->local = c->client;
	leg->peer = c->origin == ORIGIN_NONE ? c->local : c->origdst;
	policy_add_leg(&relay->policy, leg);
}

static int give_up_rights(const struct config *config, struct control *control, struct failure *why)
{
	char text[512];

	if (config->stays_root.detail[0])
		report_notice("%s", report_text(&config->stays_root, text, sizeof(text)));
	if (sockets_drop_privileges(config, why) < 0)
		return -1;
	control_set_user(control);
	return privilege_seal(why);
}

/* Open the control sockets. The relay works without the abstract one. */
static struct control *open_control(struct relay *relay, const struct config *config,
				    struct failure *why)
{
	struct control *control = control_new(relay, why);
	char text[512];

	if (!control)
		return NULL;
	if (control_listen(control, why) < 0)
		report_notice("%s; it cannot be queried there",
			      report_text(why, text, sizeof(text)));
	if (!config->control ||
	    control_add_path(control, config->control, config->takeover, &config->user, why) == 0)
		return control;
	control_free(control);
	return NULL;
}

/* What the relay has beside its workers. */
struct attachments {
	struct transparent_host front;
	struct control *control;
	struct metrics *metrics;
	struct heartbeat heartbeat;
	int netns; /* of the upstream legs; -1: this one */
};

/* NOTIFY_SOCKET and the control socket may have abstract names, which belong to this network
 * namespace. */
static int open_doors(struct relay *relay, const struct config *config, struct attachments *a,
		      struct failure *why)
{
	if (!config->inetd && notify_open(why) < 0)
		report_failure(why, STATUS_DONE);
	a->control = open_control(relay, config, why);
	return a->control ? 0 : -1;
}

/* Everything before the first connection, with the rights that it takes. */
static int prepare(struct relay *relay, const struct config *config,
		   const struct relay_listeners *listeners, int inherited, struct attachments *a,
		   struct failure *why)
{
	if (find_upstream(relay, config, &a->netns, why) < 0 ||
	    set_up(relay, config, listeners, inherited, &a->front, why) < 0 ||
	    open_doors(relay, config, a, why) < 0 ||
	    enter_upstream(relay, config, a->netns, why) < 0)
		return -1;
	if (config->metrics &&
	    !(a->metrics = metrics_new(relay, config->metrics, &config->user, why)))
		return -1;
	if (!config->inetd)
		heartbeat_start(&a->heartbeat, relay);
	return give_up_rights(config, a->control, why);
}

static void free_relay(struct relay *relay, struct attachments *a)
{
	struct policy *policy = &relay->policy;
	struct record_losses lost;

	metrics_free(a->metrics);
	workers_free(relay);
	control_free(a->control);
	lost = record_stream_free(relay->records);
	tell_lost(&lost);
	local_addrs_free(policy->local_addrs);
	if (policy->netns)
		local_addrs_free(policy->listener_addrs);
	policy_free(policy);
	timewait_free(relay->timewait);
	translation_free(relay->settings.translation);
	synack_free(relay->synack);
}

static int serve(const struct config *config, const struct relay_listeners *listeners,
		 int inherited, const struct inetd_client *client)
{
	struct relay relay = { .only = client ? &client->connection : NULL };
	struct attachments attachments = { .netns = -1 };
	struct policy_leg loop = { 0 };
	struct failure why;
	int result, status;

	configure(&relay, config);
	if (client && client->loops)
		note_loop(&relay, &loop);
	result = prepare(&relay, config, listeners, inherited, &attachments, &why);
	if (attachments.netns >= 0)
		close(attachments.netns);
	if (result < 0 && client)
		transparent_reset(client->connection.fd);
	if (result == 0)
		result = workers_run(&relay, &why);
	status = client && result == 0 ? tell_end(&relay) : STATUS_DONE;
	if (!client && result == 0)
		tell_work(&relay);
	free_relay(&relay, &attachments);
	return result < 0 ? report_failure(&why, STATUS_REFUSED) : status;
}

/* What to serve if no ENDPOINT is given: the client on fd 0, or inherited listeners. */
static int inherit(struct config *config, struct inetd_client *client, int *inherited)
{
	const struct transparent_listen_options how = {
		.keepalive = (unsigned)(config->keepalive / 1000),
		.ack_delay = ACK_DELAY,
	};
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
		return options_misuse(&arguments_program,
				      "no ENDPOINT to listen on, and no LISTEN_FDS");
	return arguments_check_inherited(config, *inherited);
}

/* Do not lose records silently if stdout is closed. Call this before descriptors_guard(), which
 * opens something there. Under inetd the user may not have thought of records. */
static int check_output(const struct config *config)
{
	if (config->inetd || config->log == CONN_LOG_OFF || fcntl(STDOUT_FILENO, F_GETFD) >= 0)
		return OPTIONS_GO_ON;
	report_error("standard output is closed: there is nowhere to write records to; --log off "
		     "does without them");
	return STATUS_REFUSED;
}

/* Is --inetd among the options, perhaps abbreviated? Called before they are parsed: the client must
 * not get messages about wrong options. */
static bool is_inetd(char **argv)
{
	for (char **arg = argv + 1; *arg && strcmp(*arg, "--") != 0; arg++)
		if (strlen(*arg) > 3 && strncmp("--inetd", *arg, strlen(*arg)) == 0)
			return true;
	return false;
}

/* Called before descriptors_guard() opens what is closed. */
static int check_ready_fd(const struct config *config, const struct options_rest *rest)
{
	struct failure why;

	if (!options_given(&arguments_program, rest, "ready-fd") ||
	    notify_check_fd(config->ready_fd, &why) == 0)
		return OPTIONS_GO_ON;
	return options_misuse(&arguments_program, "%s", why.detail);
}

/* Run the relay. */
static int run(struct config *config, const struct options_rest *rest)
{
	struct relay_listeners listeners = { .udp.protocol = IPPROTO_UDP };
	struct inetd_client client;
	struct failure why;
	int inherited = 0, status = arguments_check(config);

	if (status == OPTIONS_GO_ON)
		status = arguments_read_endpoints(&listeners, config, rest);
	if (status == OPTIONS_GO_ON && !rest->count)
		status = inherit(config, &client, &inherited);
	if (status == OPTIONS_GO_ON)
		status = check_ready_fd(config, rest);
	if (status == OPTIONS_GO_ON)
		status = check_output(config);
	if (status == OPTIONS_GO_ON && descriptors_guard(&why) < 0)
		status = report_failure(&why, STATUS_REFUSED);
	if (status == OPTIONS_GO_ON) {
		privilege_choose_user(&config->user, &config->stays_root);
		status = serve(config, &listeners, inherited, config->inetd ? &client : NULL);
	}
	listeners_close(&listeners.tcp);
	listeners_close(&listeners.udp);
	return status;
}

int main(int argc, char **argv)
{
	struct config config = {
		.upstream_mark = DEFAULT_UPSTREAM_MARK,
		.on_clash = 1,
		.connect_timeout = 10 * 1000,
		.idle_timeout = (2 * 60 + 5) * 60 * 1000,
		.half_closed_timeout = 60 * 1000,
		.keepalive = 5 * 60 * 1000,
		.drain_timeout = 30 * 1000,
		.threads = 1,
		.udp = { .unanswered_timeout = 30 * 1000, .established_timeout = 2 * 60 * 1000 },
		.send_proxy = -1,
		.ask = -1,
	};
	struct options_rest rest;
	int status;

	report_init(arguments_program.name);
	if (is_inetd(argv) && inetd_is_client(STDERR_FILENO))
		report_to(-1);
	status = options_parse(&arguments_program, argc, argv, &config, &rest);
	if (status == OPTIONS_GO_ON)
		status = config.ask < 0 ? run(&config, &rest) : ask_run(&config, &rest);
	match_list_free(&config.allow);
	match_list_free(&config.deny);
	endpoint_cidr_free(&config.accept_proxy);
	return status;
}
