/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tproxy-listen - open transparent listeners; report the original destination of every connection;
 * pass it, or the listener, to another program.
 */
#include "base/defaults.h"
#include "net/translation.h"
#include "process/confine.h"
#include "process/descriptors.h"
#include "process/listen_fds.h"
#include "process/notify.h"
#include "process/sandbox.h"
#include "process/watchdog.h"
#include "socket/takeover.h"
#include "tproxy-listen/accept.h"
#include "tproxy-listen/flows.h"
#include "tproxy-listen/serve.h"
#include "tproxy-listen/service.h"
#include "tproxy-listen/stages.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A command per connection is a process: the user must ask for more of them at once. */
#define MAX_CHILDREN 1000

/* ---- the command line ---- */

#define OPT(name, letter, arg, help, set, member) \
	OPTION(name, letter, arg, help, set, struct config, member)

static const struct option_spec options[] = {
	OPTION_HEADING("Instead of closing each connection (without CMD):"),
	OPT("reply", 0, "TEXT", "send TEXT (with \\n, \\r, \\t, \\xHH), then close", option_text,
	    reply),
	OPT("hold", 0, "T", "keep it open for T, or until the client closes", option_duration,
	    hold),
	OPT("echo", 0, NULL, "send back what comes", option_flag, echo),
	OPT("discard", 0, NULL, "read and ignore what comes", option_flag, discard),
	OPT("reset", 0, NULL, "reset the connection", option_flag, reset),
	OPTION_HEADING("With CMD:"),
	OPT("pass", 0, NULL, "become CMD, which gets the listeners (LISTEN_FDS)", option_flag,
	    pass),
	OPT("log", 0, NULL, "write records, too; also when connections end", option_flag, log),
	OPT("allow-direct", 0, NULL, "serve connections that were not intercepted (refused)",
	    option_flag, allow_direct),
	OPTION_HEADING("Limits:"),
	OPT("max", 'c', "N", "connections at a time; more wait (1000 with CMD)", option_count, max),
	OPT("max-per-client", 'C', "N", "of each IPv4 address or IPv6 /64; more are reset",
	    option_count, max_per_client),
	OPT("count", 0, "N", "end after N connections", option_count, count),
	OPT("timeout", 0, "T", "end after T; status 1 if there were too few", option_duration,
	    timeout),
	OPT("drain-timeout", 0, "T",
	    "after SIGTERM for CMDs to end, and at the end for the\nlast records to be read (30s)",
	    option_duration, drain),
	OPTION_HEADING("Listener:"),
	OPT("redirect", 0, NULL,
	    "for REDIRECT, DNAT or direct connections: not\ntransparent, and "
	    "PORT means any address",
	    option_flag, redirect),
	OPT("takeover", 0, NULL, "share the endpoint with a process that listens there",
	    option_flag, takeover),
	OPT("accept-proxy", 0, "CIDR,...", "connections from these begin with a PROXY header",
	    option_cidrs, accept_proxy),
	OPT("backlog", 0, "N", "connections that may wait (the system's maximum)", option_count,
	    backlog),
	OPT("listener-mark", 0, "MARK", "SO_MARK of listener and connections", option_mark,
	    listener_mark),
	OPT("bind-device", 0, "IF", "only connections that come in on IF", option_text, device),
	OPT("user", 0, "NAME[:GROUP]",
	    "become NAME once the listeners are open, also for\nCMD (as root: tproxy, else nobody, "
	    "and not for CMD)",
	    privilege_option_user, user),
	OPT("no-sandbox", 0, NULL, "run without seccomp and Landlock", option_flag, no_sandbox),
	OPT("ready-fd", 0, "FD", "write a newline to FD when ready, and close it", option_number,
	    ready_fd),
	OPTION_HEADING("Output:"),
	OPT("columns", 'o', "COL,...", "these columns; +COL,... adds to the usual ones",
	    option_text, columns),
	OPT("datagrams", 0, NULL, "UDP: a record for each datagram, not for each flow", option_flag,
	    datagrams),
	OPTIONS_TCP_UDP(struct config, common),
	OPTIONS_COMMON(struct config, common),
	OPTION_END,
};

static const struct option_conflict conflicts[] = {
	{ "reply", "hold" },
	{ "reply", "echo" },
	{ "reply", "discard" },
	{ "reply", "reset" },
	{ "hold", "echo" },
	{ "hold", "discard" },
	{ "hold", "reset" },
	{ "echo", "discard" },
	{ "echo", "reset" },
	{ "discard", "reset" },
	{ "pass", "log" },
	{ "pass", "allow-direct" },
	{ "pass", "drain-timeout" },
	{ "pass", "max" },
	{ "pass", "max-per-client" },
	{ "pass", "accept-proxy" },
	{ "pass", "count" },
	{ "pass", "timeout" },
	{ "columns", "json" },
	{ "datagrams", "reply" },
	{ "datagrams", "echo" },
	{ "datagrams", "pass" },
	{ "datagrams", "log" },
	{ "datagrams", "max" },
	{ "datagrams", "max-per-client" },
	{ "pass", "ready-fd" },
	{ "pass", "columns" },
	{ "pass", "no-sandbox" },
	{ "pass", "json" },
	{ 0 },
};

static const struct options_program program = {
	.name = "tproxy-listen",
	.sandbox = confine_text,
	.summary = "Open transparent listeners; show where each connection was going; hand it, or "
		   "the\n"
		   "listener, to another program.",
	.usage = "tproxy-listen [OPTION...] ENDPOINT... [-- CMD [ARG...]]\n"
		 "tproxy-listen --pass [OPTION...] ENDPOINT... -- CMD [ARG...]",
	.default_command = -1,
	.options = options,
	.conflicts = conflicts,
	.epilogue = "ENDPOINT: 127.0.0.1:3129, [::1]:3129, *:3129, or 3129 (loopback of both "
		    "families).\n"
		    "Without CMD: one record per connection. With CMD: it runs once per "
		    "connection, with\n"
		    "the socket on fd 0 and 1, and the client and the original destination in "
		    "TCPREMOTEIP,\n"
		    "TCPREMOTEPORT, TCPLOCALIP, TCPLOCALPORT (UCSPI). See tproxy-listen(1).",
};

/* ---- records ---- */

static const enum record_field columns[] = { RECORD_TIME,   RECORD_EVENT,   RECORD_PROTO,
					     RECORD_CLIENT, RECORD_ORIGDST, RECORD_ORIGDST_BY,
					     RECORD_REASON };

/* ---- setting up ---- */

/* The option, if any, that says what to do with connections. */
static const struct {
	const char *option;
	enum action action;
} actions[] = {
	{ "reply", ACTION_REPLY },     { "hold", ACTION_HOLD },	  { "echo", ACTION_ECHO },
	{ "discard", ACTION_DISCARD }, { "reset", ACTION_RESET },
};

static int choose_action(struct service *s, const struct options_rest *rest)
{
	s->action = rest->wrapped ? ACTION_RUN : ACTION_CLOSE;
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
		if (!options_given(&program, rest, actions[i].option))
			continue;
		if (rest->wrapped)
			return options_misuse(&program, "--%s and a CMD contradict each other",
					      actions[i].option);
		s->action = actions[i].action;
	}
	return OPTIONS_GO_ON;
}

/* Refuse options for a CMD if there is none. */
static int check_command(const struct options_rest *rest)
{
	static const char *const need[] = { "pass", "allow-direct" };

	if (rest->wrapped && !rest->wrapped[0])
		return options_misuse(&program, "--: which command?");
	for (size_t i = 0; !rest->wrapped && i < sizeof(need) / sizeof(*need); i++)
		if (options_given(&program, rest, need[i]))
			return options_misuse(&program, "--%s: needs a CMD after --", need[i]);
	return OPTIONS_GO_ON;
}

/* Refuse options for records if none are written. */
static int check_output(const struct config *config, const struct options_rest *rest)
{
	if (!rest->wrapped || config->log || config->pass)
		return OPTIONS_GO_ON;
	if (config->columns || config->common.json)
		return options_misuse(&program,
				      "--%s: with a CMD there are records only with --log",
				      config->columns ? "columns" : "json");
	return OPTIONS_GO_ON;
}

static int check_ready_fd(const struct config *config, const struct options_rest *rest)
{
	struct failure why;

	if (!options_given(&program, rest, "ready-fd") ||
	    notify_check_fd(config->ready_fd, &why) == 0)
		return OPTIONS_GO_ON;
	return options_misuse(&program, "%s", why.detail);
}

/* Refuse options that make no sense with UDP, or with UDP alone. */
static int check_protocols(const struct config *config, const struct options_rest *rest)
{
	static const char *const tcp_only[] = { "hold", "discard", "reset", "accept-proxy" };
	bool udp = options_wants_udp(&config->common);

	if (config->datagrams && !udp)
		return options_misuse(&program, "--datagrams: needs --udp");
	if (config->datagrams && rest->wrapped)
		return options_misuse(&program, "--datagrams and a CMD contradict each other");
	for (size_t i = 0; udp && i < sizeof(tcp_only) / sizeof(*tcp_only); i++)
		if (options_given(&program, rest, tcp_only[i]))
			return options_misuse(&program, "--%s and --udp contradict each other",
					      tcp_only[i]);
	return OPTIONS_GO_ON;
}

static int add_endpoints(struct listeners *l, int protocol, const struct config *config,
			 const struct options_rest *rest)
{
	enum endpoint_bare bare = config->redirect ? ENDPOINT_BARE_ANY : ENDPOINT_BARE_LOOPBACK;
	struct failure why = { 0 };

	l->protocol = protocol;
	for (int i = 0; i < rest->count; i++)
		if (listeners_add(l, rest->operands[i], bare, &config->common, &why) < 0) {
			/* A word instead of an endpoint is most likely the command. */
			if (i && !rest->wrapped && !strpbrk(rest->operands[i], ":0123456789"))
				report_hint(&why, "put -- before the command");
			return report_failure(&why, STATUS_USAGE);
		}
	if (listeners_check(l, &config->common, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	return OPTIONS_GO_ON;
}

static int take_endpoints(struct service *s, const struct options_rest *rest)
{
	const struct config *config = s->config;
	int status = OPTIONS_GO_ON;

	if (!rest->count)
		return options_misuse(&program, "where to listen? ENDPOINT is missing");
	if (options_wants_tcp(&config->common))
		status = add_endpoints(&s->listeners, IPPROTO_TCP, config, rest);
	if (status == OPTIONS_GO_ON && options_wants_udp(&config->common))
		status = add_endpoints(&s->udp, IPPROTO_UDP, config, rest);
	return status;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Convert one escape after its backslash; returns its number of characters, 0 if it is not an
 * escape. */
static size_t unescape(const char *p, char *out)
{
	static const char from[] = "nrt0\\", to[] = "\n\r\t\0\\";
	const char *at = *p ? strchr(from, *p) : NULL;

	if (at) {
		*out = to[at - from];
		return 1;
	}
	if (*p != 'x' || hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
		return 0;
	*out = (char)(hex_digit(p[1]) << 4 | hex_digit(p[2]));
	return 3;
}

static int prepare_reply(struct service *s)
{
	const char *text = s->config->reply;

	if (!text)
		return OPTIONS_GO_ON;
	s->reply = malloc(strlen(text));
	if (!s->reply) {
		report_error("out of memory");
		return STATUS_REFUSED;
	}
	for (const char *p = text; *p; p++) {
		size_t taken = 0;

		s->reply[s->reply_length] = *p;
		if (*p == '\\' && !(taken = unescape(p + 1, &s->reply[s->reply_length])))
			return options_misuse(&program,
					      "--reply: \\%c: no such escape; known are "
					      "\\n, \\r, \\t, \\0, \\\\ and \\xHH",
					      p[1] ? p[1] : ' ');
		s->reply_length++;
		p += taken;
	}
	return OPTIONS_GO_ON;
}

static int prepare_columns(struct record_columns *out, const char *typed, struct failure *why)
{
	memcpy(out->at, columns, sizeof(columns));
	out->count = sizeof(columns) / sizeof(*columns);
	if (!typed || record_parse_columns(typed, out, why) == 0)
		return 0;
	return report_about(why, "--columns %s", typed);
}

/* On a terminal; PROTO only if there are two. */
static struct record_columns choose_brief(const struct config *config)
{
	struct record_columns brief = { .count = 0 };

	for (size_t i = 0; i < sizeof(columns) / sizeof(*columns); i++)
		if (columns[i] != RECORD_PROTO || config->common.udp)
			brief.at[brief.count++] = columns[i];
	return brief;
}

static bool has_column(const struct record_columns *chosen, enum record_field field)
{
	for (size_t i = 0; i < chosen->count; i++)
		if (chosen->at[i] == field)
			return true;
	return false;
}

/* Records go to stdout without CMD, or with --log. */
static int prepare_records(struct service *s, bool has_output)
{
	const struct config *config = s->config;
	struct record_columns chosen, brief;
	struct failure why = { 0 };
	bool run = s->action == ACTION_RUN;

	if (prepare_columns(&chosen, config->columns, &why) < 0)
		return report_failure(&why, STATUS_USAGE);
	s->wants_socket = run;
	if (run && !config->log)
		return OPTIONS_GO_ON;
	if (!has_output) {
		report_error("standard output is closed: there is nowhere to write records to");
		return STATUS_REFUSED;
	}
	s->wants_iif = config->common.json || has_column(&chosen, RECORD_IIF);
	s->wants_socket |= config->common.json || has_column(&chosen, RECORD_COOKIE) ||
			   has_column(&chosen, RECORD_MARK);
	s->stream = record_stream_new(STDOUT_FILENO, config->common.json, &chosen, &why);
	if (!s->stream)
		return report_failure(&why, STATUS_REFUSED);
	brief = choose_brief(config);
	record_stream_fit(s->stream, config->columns ? NULL : &brief, true);
	return OPTIONS_GO_ON;
}

/* All checks that can be made before anything is opened. */
static int prepare(struct service *s, const struct options_rest *rest)
{
	/* Asked now, because descriptors_guard() opens it. */
	bool has_output = fcntl(STDOUT_FILENO, F_GETFD) >= 0;
	struct failure why = { 0 };
	int status = check_command(rest);

	if (status == OPTIONS_GO_ON)
		status = choose_action(s, rest);
	if (status == OPTIONS_GO_ON)
		status = check_protocols(s->config, rest);
	if (status == OPTIONS_GO_ON)
		status = check_output(s->config, rest);
	if (status == OPTIONS_GO_ON)
		status = check_ready_fd(s->config, rest);
	if (status == OPTIONS_GO_ON)
		status = take_endpoints(s, rest);
	if (status == OPTIONS_GO_ON)
		status = prepare_reply(s);
	if (status == OPTIONS_GO_ON && descriptors_guard(&why) < 0)
		status = report_failure(&why, STATUS_REFUSED);
	if (status == OPTIONS_GO_ON && rest->wrapped &&
	    command_find(&s->command, rest->wrapped, &why) < 0)
		status = report_failure(&why, command_exit_status(&why));
	if (status == OPTIONS_GO_ON && !s->config->pass)
		status = prepare_records(s, has_output);
	return status;
}

static int open_group(struct listeners *l, const struct transparent_listen_options *how,
		      const struct config *config, struct failure *why)
{
	char text[ENDPOINT_TEXT_MAX];

	if (config->takeover && takeover_check(l, how, why) < 0)
		return -1;
	if (listeners_open(l, how, why) < 0) {
		if (why->err == EADDRINUSE && !config->takeover && takeover_would_help(l, how))
			report_hint(why, "--takeover shares it");
		return -1;
	}
	listeners_tell_left_out(l);
	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].fd >= 0)
			report_verbose(1, "listening at %s", endpoint_format(&l->at[i].at, text));
	return 0;
}

/* Start the helpers, which keep rights that the service drops: one starts commands, one asks
 * conntrack. */
static int start_helpers(struct service *s, struct failure *why)
{
	const struct config *config = s->config;
	const struct privilege_user *given = config->user_given ? &config->user : NULL;

	if (s->action == ACTION_RUN &&
	    !(s->spawner = spawner_new(&s->command, given, config->max, why)))
		return -1;
	if (s->udp.count && privilege_has(CAP_NET_ADMIN))
		s->translation = translation_new("tproxy-origdst", &config->user,
						 !config->no_sandbox, NULL);
	return 0;
}

/* Only the sockets of UDP flows need a capability later: they are transparent, and often have a
 * port below 1024. */
static int give_up_rights(const struct service *s, struct failure *why)
{
	int keep[3] = { confine_capability() };
	size_t count = keep[0] >= 0;
	bool flows = s->udp.count && flows_need_sockets(s);
	char text[512];

	if (s->config->stays_root.detail[0])
		report_notice("%s", report_text(&s->config->stays_root, text, sizeof(text)));
	if (notify_open(why) < 0)
		report_warning("%s", report_text(why, text, sizeof(text)));
	if (flows) {
		keep[count++] = CAP_NET_RAW;
		keep[count++] = CAP_NET_BIND_SERVICE;
	}
	if (privilege_drop(&s->config->user, keep, count, why) < 0)
		return -1;
	return privilege_seal(why);
}

/* With --pass the command gets the rights, and nothing is served here. */
static int settle_rights(struct service *s, struct failure *why)
{
	if (s->config->pass)
		return s->config->user_given ? privilege_drop(&s->config->user, NULL, 0, why) : 0;
	return start_helpers(s, why) < 0 ? -1 : give_up_rights(s, why);
}

/* Open everything, then drop the rights that are not needed any more. */
static int open_listeners(struct service *s, const struct options_rest *rest, struct failure *why)
{
	const struct config *config = s->config;
	bool marked = options_given(&program, rest, "listener-mark");
	struct transparent_listen_options how = {
		.backlog = (int)config->backlog,
		.reuseport = true, /* so that a later process can take over */
		.alone = !config->takeover,
		.redirect = config->redirect,
		.mark = marked ? &config->listener_mark : NULL,
		.device = config->device,
		.ingress = s->wants_iif,
	};

	if (marked && (config->listener_mark.value & DEFAULT_MARK.mask) == DEFAULT_MARK.value)
		report_warning("--listener-mark: this is the mark of intercepted packets: answers "
			       "would be delivered to this host");
	if (open_group(&s->listeners, &how, config, why) < 0)
		return -1;
	how.reuseport = config->takeover; /* with it, UDP cannot ensure to be the only one */
	if (!flows_need_sockets(s) && open_group(&s->udp, &how, config, why) < 0)
		return -1;
	if (settle_rights(s, why) < 0)
		return -1;
	/* The kernel lets only sockets of the same user share a port, so the user who opens the
	 * sockets of flows must open the listener, too. */
	return flows_need_sockets(s) ? open_group(&s->udp, &how, config, why) : 0;
}

static void announce(const struct config *config)
{
	struct failure why = { 0 };

	if (notify_send("READY=1", &why) < 0) {
		char text[512];

		report_warning("%s", report_text(&why, text, sizeof(text)));
	}
	notify_ready(config->ready_fd);
}

static void handle_watchdog(struct loop *loop, struct loop_timer *timer)
{
	watchdog_feed();
	loop_arm(loop, timer, watchdog_interval());
}

static void start_watchdog(struct service *s)
{
	s->watchdog.alarm = handle_watchdog;
	if (watchdog_interval())
		loop_arm(s->loop, &s->watchdog, watchdog_interval());
}

/* Descriptors and their names, for --pass. */
struct passed {
	const char *names[LISTEN_FDS_MAX];
	int fds[LISTEN_FDS_MAX];
	size_t count;
};

static int add_passed(struct passed *p, const struct listeners *l, int family, const char *name,
		      struct failure *why)
{
	for (size_t i = 0; i < l->count; i++) {
		if (l->at[i].fd < 0 || l->at[i].at.family != family)
			continue;
		if (p->count == LISTEN_FDS_MAX)
			return report_refuse(why, "--pass: cannot pass more than %d listeners",
					     LISTEN_FDS_MAX);
		p->names[p->count] = name;
		p->fds[p->count++] = l->at[i].fd;
	}
	return 0;
}

static int pass_listeners(struct service *s, struct failure *why)
{
	struct passed p = { .count = 0 };

	if (add_passed(&p, &s->listeners, AF_INET, "tcp4", why) < 0 ||
	    add_passed(&p, &s->listeners, AF_INET6, "tcp6", why) < 0 ||
	    add_passed(&p, &s->udp, AF_INET, "udp4", why) < 0 ||
	    add_passed(&p, &s->udp, AF_INET6, "udp6", why) < 0)
		return -1;
	return listen_fds_become(&s->command, p.fds, p.names, p.count, why);
}

static const int signals[] = { SIGTERM, SIGINT, 0 };

static struct loop_source *watch_group(struct service *s, const struct listeners *l,
				       loop_handler *handler, struct failure *why)
{
	struct loop_source *sources = calloc(l->count + 1, sizeof(*sources));

	if (!sources) {
		report_fail(why, ENOMEM, "malloc", "listeners");
		return NULL;
	}
	for (size_t i = 0; i < l->count; i++) {
		sources[i].handler = handler;
		sources[i].fd = l->at[i].fd;
		if (sources[i].fd < 0 || loop_watch(s->loop, &sources[i], EPOLLIN) == 0)
			continue;
		report_fail(why, errno, "epoll_ctl", "listeners");
		free(sources);
		return NULL;
	}
	return sources;
}

static int watch_listeners(struct service *s, struct failure *why)
{
	if (!(s->sources = watch_group(s, &s->listeners, accept_pending, why)) ||
	    !(s->udp_sources = watch_group(s, &s->udp, flows_take, why)))
		return -1;
	return s->udp.count ? flows_init(s, why) : 0;
}

static int watch_ends(struct service *s, struct failure *why)
{
	s->ends = (struct loop_source){ .handler = serve_ends, .fd = spawner_fd(s->spawner) };
	if (loop_watch(s->loop, &s->ends, EPOLLIN) < 0)
		return report_fail(why, errno, "epoll_ctl", "commands");
	return 0;
}

static int set_up(struct service *s, struct failure *why)
{
	const struct config *config = s->config;

	/* Held connections are descriptors of this process; commands get the original limit. */
	descriptors_raise_limit(NULL, NULL);
	slab_init(&s->connections, sizeof(struct connection));
	s->pause.alarm = service_resume;
	if (!(s->loop = loop_new(s, why)))
		return -1;
	if (config->max_per_client && !(s->clients = client_count_new(why)))
		return -1;
	if (stages_init(s, signals, why) < 0)
		return -1;
	return s->spawner && watch_ends(s, why) < 0 ? -1 : watch_listeners(s, why);
}

static void tear_down(struct service *s)
{
	struct record_losses lost = record_stream_free(s->stream);
	char text[RECORD_LOSSES_TEXT];

	if (record_stream_losses_text(&lost, text))
		report_warning("%s", text);
	loop_free(s->loop);
	spawner_free(s->spawner);
	translation_free(s->translation);
	listeners_close(&s->listeners);
	listeners_close(&s->udp);
	slab_free(&s->connections);
	client_count_free(s->clients);
	command_free(&s->command);
	free(s->sources);
	free(s->udp_sources);
	flows_free(s);
	free(s->reply);
}

/* Did the connections that --count or --timeout waited for come? */
static int verdict(const struct service *s)
{
	uint64_t wanted = s->config->count ? s->config->count : 1;

	if (s->unheard || s->failed)
		return STATUS_REFUSED;
	return s->timed_out && s->accepted < wanted ? STATUS_NO : STATUS_DONE;
}

/* Check as the user who will run it. */
static int check_runnable(struct service *s, struct failure *why)
{
	return s->spawner ? spawner_check(s->spawner, why) : command_check(&s->command, why);
}

static unsigned needs_of(const struct service *s)
{
	unsigned needs = s->listeners.count ? SANDBOX_TCP : 0;

	if (s->udp.count)
		needs |= flows_need_sockets(s) ? SANDBOX_UDP | SANDBOX_RAW : SANDBOX_UDP;
	return s->spawner ? needs | SANDBOX_COMMANDS : needs;
}

static int enter_sandbox(const struct service *s, struct failure *why)
{
	if (confine_enter(-1, why) < 0 || sandbox_enter(needs_of(s), why) < 0)
		return -1;
	report_verbose(1, "sandbox: %s", confine_text());
	return 0;
}

/* Before the first listener: whoever sees that may send one, and the loop will hear of it. */
static void hold_signals(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	loop_block_signals(signals);
}

static int run(struct service *s, const struct options_rest *rest)
{
	struct failure why = { 0 };

	if (!s->config->pass) /* the program that gets the listeners has signals of its own */
		hold_signals();
	if (open_listeners(s, rest, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (s->command.path && check_runnable(s, &why) < 0)
		return report_failure(&why, command_exit_status(&why));
	if (s->config->pass) {
		pass_listeners(s, &why);
		return report_failure(&why, STATUS_CANNOT_RUN);
	}
	if (set_up(s, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	if (!s->config->no_sandbox && enter_sandbox(s, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	announce(s->config);
	start_watchdog(s);
	if (loop_run(s->loop, &why) < 0)
		return report_failure(&why, STATUS_REFUSED);
	return verdict(s);
}

/* A process that serves strangers should not be root; --pass serves nobody. */
static void choose_user(struct config *config)
{
	config->user_given = config->user.text != NULL;
	if (!config->pass)
		privilege_choose_user(&config->user, &config->stays_root);
}

int main(int argc, char **argv)
{
	struct config config = { .drain = 30000 };
	struct service s = { .config = &config };
	struct options_rest rest;
	int status;

	report_init(program.name);
	status = options_parse(&program, argc, argv, &config, &rest);
	if (status != OPTIONS_GO_ON)
		return status;
	if (!config.max)
		config.max = rest.wrapped	 ? MAX_CHILDREN
			     : config.common.udp ? SERVICE_FLOWS_MAX
						 : 0;
	status = prepare(&s, &rest);
	if (status == OPTIONS_GO_ON) {
		choose_user(&config);
		status = run(&s, &rest);
	}
	tear_down(&s);
	endpoint_cidr_free(&config.accept_proxy);
	return status;
}
