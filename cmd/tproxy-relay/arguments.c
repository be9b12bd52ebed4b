/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/arguments.h"

#include "base/record.h"
#include "process/confine.h"
#include "process/listen_fds.h"
#include <sched.h>
#include <string.h>

/* ---- options ---- */

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
		return report_refuse(why, "given twice for this family");
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

/* A limit of zero would end every connection. */
static int set_limit(void *field, const char *arg, const struct option_spec *self,
		     struct failure *why)
{
	if (quantity_duration(arg, field, why) < 0)
		return -1;
	return *(uint64_t *)field ? 0 : report_refuse(why, "must be longer than 0");
}

/* In seconds, as the kernel takes it. */
static int set_keepalive(void *field, const char *arg, const struct option_spec *self,
			 struct failure *why)
{
	uint64_t *ms = field;

	if (quantity_duration(arg, ms, why) < 0)
		return -1;
	if (*ms && (*ms < 1000 || *ms / 1000 > TRANSPARENT_KEEPALIVE_MAX))
		return report_refuse(why, "must be 0, or from 1s to 9h");
	return 0;
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
		return report_refuse(why, "must be a duration, or two separated by a comma");
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
	OPTION("upstream-netns", 0, "NAME|PID",
	       "connect in that network namespace; listen in this\none", option_text, struct config,
	       upstream_netns),
	OPTION("allow-dst", 0, "CIDR[:PORTS]", "connect to these only (all); repeatable",
	       match_option, struct config, allow),
	OPTION("deny-dst", 0, "CIDR[:PORTS]", "never connect to these; repeatable", match_option,
	       struct config, deny),
	OPTION_HEADING("Whose address the upstream sees:"),
	OPTION("source", 0, "client|client-addr|own|ADDR",
	       "the client's address and port; its address\nwith any port; this host's; ADDR "
	       "(client)",
	       set_source, struct config, connect),
	OPTION("on-clash", 0, "new-port|fail", "when the client's port cannot be used (fail)",
	       option_choice, struct config, on_clash),
	OPTION("one-way", 0, NULL,
	       "UDP: the upstream answers clients directly (DSR);\nanswers do not pass this host",
	       option_flag, struct config, udp.one_way),
	OPTION("upstream-mark", 0, "VALUE[/MASK]", "mark of the upstream leg (0x2/0xff)",
	       option_mark, struct config, upstream_mark),
	OPTION("keep-dscp", 0, NULL,
	       "TCP: either side's packets carry the other side's\nDSCP (UDP's always do)",
	       option_flag, struct config, connect.keep_dscp),
	OPTION_HEADING("PROXY protocol:"),
	OPTION("accept-proxy", 0, "CIDR,...",
	       "connections from these begin with a header that\nsays who the client is (v1, v2)",
	       option_cidrs, struct config, accept_proxy),
	OPTION("send-proxy", 0, "1|2", "tell the upstream so, by a header of that version",
	       option_choice, struct config, send_proxy),
	OPTION_HEADING("Limits:"),
	OPTION("max", 'c', "N",
	       "connections at once; more wait in the kernel's queue\n(what the "
	       "descriptor limit allows)",
	       option_count, struct config, max),
	OPTION("threads", 0, "N|auto", "threads, each with listeners of its own (1)", set_threads,
	       struct config, threads),
	OPTION("connect-timeout", 0, "T", "for the upstream to answer (10s)", set_limit,
	       struct config, connect_timeout),
	OPTION("idle-timeout", 0, "T", "without a byte in either direction (2h5m)", set_limit,
	       struct config, idle_timeout),
	OPTION("half-closed-timeout", 0, "T", "since the last byte, once a side has ended (1m)",
	       set_limit, struct config, half_closed_timeout),
	OPTION("keepalive", 0, "T",
	       "ask a silent peer whether it is there; 0: never\n(5m; four times, a quarter of "
	       "that apart)",
	       set_keepalive, struct config, keepalive),
	OPTION("max-flows", 0, "N",
	       "UDP flows at once; then old ones make room\n(what the descriptor limit allows)",
	       option_count, struct config, udp.max),
	OPTION("udp-timeout", 0, "T[,T]",
	       "for a UDP flow without an answer; for one that goes\nin both directions (30s,2m)",
	       set_udp_timeout, struct config, udp),
	OPTION("drain-timeout", 0, "T", "for connections to finish after SIGTERM (30s)",
	       option_duration, struct config, drain_timeout),
	OPTION("lame-duck", 0, "T",
	       "after SIGTERM accept for T still, while health fails;\nthen drain (0)",
	       option_duration, struct config, lame_duck),
	OPTION_HEADING("Operation:"),
	OPTION("inetd", 0, NULL, "fd 0 is an accepted client: relay it, and end", option_flag,
	       struct config, inetd),
	OPTION("takeover", 0, NULL, "take over endpoints that another relay serves", option_flag,
	       struct config, takeover),
	OPTION("control", 0, "PATH", "also answer queries at this path", option_text, struct config,
	       control),
	OPTION("ask", 0, "connections|counters|drain|lame-duck",
	       "query the relay that runs here, or the one with the\nPID given, print its answer, "
	       "and end",
	       option_choice, struct config, ask),
	OPTION("metrics-file", 0, "PATH", "counters there as OpenMetrics text, replaced every 3 s",
	       option_text, struct config, metrics),
	OPTION("ready-fd", 0, "FD", "write a newline to FD when ready, and close it", option_number,
	       struct config, ready_fd),
	OPTION("user", 0, "NAME[:GROUP]",
	       "become NAME once the listeners are open (as root:\ntproxy, else nobody), with the "
	       "needed capabilities",
	       privilege_option_user, struct config, user),
	OPTION("no-sandbox", 0, NULL, "run without seccomp and Landlock", option_flag,
	       struct config, no_sandbox),
	OPTION("log", 0, "events|errors|off", "records on stdout (events)", option_choice,
	       struct config, log),
	OPTION("no-header", 'H', NULL, "no header line", option_flag, struct config, no_header),
	OPTION("columns", 'o', "COL,...", "these columns; +COL,... adds to the usual ones",
	       option_text, struct config, columns),
	OPTIONS_TCP_UDP(struct config, common),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "inetd", "threads" },	     { "inetd", "max" },       { "inetd", "takeover" },
	{ "inetd", "control" },	     { "inetd", "ipv4" },      { "inetd", "ipv6" },
	{ "inetd", "metrics-file" }, { "inetd", "max-flows" }, { "inetd", "ready-fd" },
	{ "inetd", "lame-duck" },    { NULL, NULL },
};

const struct options_program arguments_program = {
	.name = "tproxy-relay",
	.sandbox = confine_text,
	.summary = "Relays each intercepted connection to its original destination, with the "
		   "client's own\naddress as source.",
	.usage = "tproxy-relay [OPTION]... ENDPOINT...\n"
		 "tproxy-relay [OPTION]...                 with listeners passed as LISTEN_FDS\n"
		 "tproxy-relay --inetd [OPTION]...         with a client on fd 0\n"
		 "tproxy-relay --ask connections|counters|drain|lame-duck [PID]",
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

/* ---- what they come to ---- */

static bool keeps_client(const struct config *config)
{
	return config->connect.source == SOURCE_CLIENT ||
	       config->connect.source == SOURCE_CLIENT_ADDR;
}

/* The family of the address that all upstream legs start from or lead to; AF_UNSPEC: either. */
static int only_family(const struct config *config)
{
	bool v4 = endpoint_is_set(&config->upstream[0]), v6 = endpoint_is_set(&config->upstream[1]);

	if (config->connect.source == SOURCE_ADDR && !config_has_upstream(config))
		return config->connect.address.family;
	return keeps_client(config) && v4 != v6 ? (v4 ? AF_INET : AF_INET6) : AF_UNSPEC;
}

/* If only one family can be relayed, listen only on that one. */
static int settle_family(struct config *config)
{
	int family = only_family(config);
	bool both = config->common.ipv4 == config->common.ipv6;

	if (family == AF_UNSPEC || (both && config->common.ipv4))
		return OPTIONS_GO_ON;
	if (!both && !options_wants_family(&config->common, family))
		return options_misuse(&arguments_program, "-%c: %s is of the other address family",
				      config->common.ipv4 ? '4' : '6',
				      config_has_upstream(config) ? "--upstream" : "--source");
	if (both)
		report_notice("only IPv%c is served: no %s is given for the other family",
			      family == AF_INET ? '4' : '6',
			      config_has_upstream(config) ? "--upstream" : "--source address");
	config->common.ipv4 = family == AF_INET;
	config->common.ipv6 = family == AF_INET6;
	return OPTIONS_GO_ON;
}

static int check_upstream(const struct config *config)
{
	char text[ENDPOINT_TEXT_MAX];

	if (config->upstream_netns && config->connect.address.scope)
		return options_misuse(&arguments_program,
				      "--source %s: is of a link of this network namespace, not of "
				      "--upstream-netns",
				      endpoint_format_address(&config->connect.address, text));

	for (int i = 0; i < 2; i++) {
		const struct endpoint *e = &config->upstream[i];

		if (!endpoint_is_set(e))
			continue;
		if (config->upstream_netns && e->scope)
			return options_misuse(&arguments_program,
					      "--upstream %s: is of a link of this network "
					      "namespace, not of --upstream-netns",
					      endpoint_format(e, text));
		if (config->connect.source == SOURCE_ADDR &&
		    config->connect.address.family != e->family)
			return options_misuse(&arguments_program,
					      "--upstream %s: --source is an address of "
					      "the other family",
					      endpoint_format(e, text));
	}
	return OPTIONS_GO_ON;
}

/* Does --deny-dst deny everything that --allow-dst allows, in the families that are served? */
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
			return options_misuse(&arguments_program,
					      "--upstream %s: is what %s excludes",
					      endpoint_format(&config->upstream[i], text),
					      match_list_has(&config->deny, &config->upstream[i])
						      ? "--deny-dst"
						      : "--allow-dst");
	if (!config_has_upstream(config) && is_all_denied(config))
		return options_misuse(&arguments_program,
				      config->deny.count ? "--deny-dst: leaves nothing to relay"
							 : "--allow-dst: allows nothing in the "
							   "address family that is served");
	return OPTIONS_GO_ON;
}

int arguments_check(struct config *config)
{
	int status = check_upstream(config);
	struct record_columns columns = { .count = 0 };
	struct failure why;

	if (config->columns && record_parse_columns(config->columns, &columns, &why) < 0)
		return options_misuse(&arguments_program, "--columns %s: %s", config->columns,
				      why.detail);
	if (config->udp.one_way && config->connect.source != SOURCE_CLIENT)
		return options_misuse(&arguments_program,
				      "--one-way and --source contradict each other: the answers "
				      "must be for the client's own address and port");
	if (config->inetd && config->common.udp)
		return options_misuse(&arguments_program,
				      "--inetd and --udp contradict each other: the client on fd 0 "
				      "is a TCP connection");
	if (config->common.udp && config->send_proxy == 0)
		return options_misuse(&arguments_program,
				      "--send-proxy 1: that version knows TCP only; --send-proxy 2 "
				      "goes with --udp");
	if (status == OPTIONS_GO_ON && !config->inetd)
		status = settle_family(config);
	return status == OPTIONS_GO_ON ? check_rules(config) : status;
}

static bool is_datagram_socket(int fd)
{
	int type = 0;
	socklen_t size = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

int arguments_check_inherited(struct config *config, int inherited)
{
	bool said = config->common.tcp || config->common.udp;
	struct options_common found = { 0 };

	for (int fd = LISTEN_FDS_FIRST; fd < LISTEN_FDS_FIRST + inherited; fd++) {
		bool udp = is_datagram_socket(fd);

		*(udp ? &found.udp : &found.tcp) = true;
		if (said && !(udp ? config->common.udp : config->common.tcp))
			return options_misuse(&arguments_program,
					      "inherited descriptor %d: is a %s socket, and only "
					      "%s is served",
					      fd, udp ? "UDP" : "TCP", udp ? "TCP" : "UDP");
	}
	config->common.tcp = found.tcp;
	config->common.udp = found.udp;
	return OPTIONS_GO_ON;
}

/* Add one operand for each configured protocol. */
static int add_endpoint(struct relay_listeners *l, const char *operand, const struct config *config,
			struct failure *why)
{
	enum endpoint_bare bare = config_has_upstream(config) ? ENDPOINT_BARE_ANY
							      : ENDPOINT_BARE_LOOPBACK;

	if (options_wants_tcp(&config->common) &&
	    listeners_add(&l->tcp, operand, bare, &config->common, why) < 0)
		return -1;
	return options_wants_udp(&config->common)
		       ? listeners_add(&l->udp, operand, bare, &config->common, why)
		       : 0;
}

int arguments_read_endpoints(struct relay_listeners *listeners, const struct config *config,
			     const struct options_rest *rest)
{
	const struct listeners *any = options_wants_tcp(&config->common) ? &listeners->tcp
									 : &listeners->udp;
	struct failure why;

	if (rest->wrapped)
		return options_misuse(&arguments_program, "--: runs no command");
	if (config->inetd && rest->count)
		return options_misuse(&arguments_program,
				      "--inetd and the ENDPOINT %s contradict each other: "
				      "the client is on fd 0",
				      rest->operands[0]);
	for (int i = 0; i < rest->count; i++)
		if (add_endpoint(listeners, rest->operands[i], config, &why) < 0)
			return report_failure(&why, STATUS_USAGE);
	if (rest->count && listeners_check(any, &config->common, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	return OPTIONS_GO_ON;
}
