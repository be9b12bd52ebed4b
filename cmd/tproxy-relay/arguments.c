/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-relay/config.h"

#include "process/command.h"
#include <string.h>

static bool keeps_client(const struct config *config)
{
	return config->connect.source == SOURCE_CLIENT ||
	       config->connect.source == SOURCE_CLIENT_ADDR;
}

/* The family of the address that all upstream legs start from or lead to; AF_UNSPEC: both will do. */
static int only_family(const struct config *config)
{
	bool v4 = endpoint_is_set(&config->upstream[0]), v6 = endpoint_is_set(&config->upstream[1]);

	if (config->connect.source == SOURCE_ADDR && !config_has_upstream(config))
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
		return options_misuse(&relay_program, "-%c: %s is of the other address family",
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

	for (int i = 0; i < 2; i++) {
		const struct endpoint *e = &config->upstream[i];

		if (!endpoint_is_set(e))
			continue;
		if (config->connect.source == SOURCE_ADDR &&
		    config->connect.address.family != e->family)
			return options_misuse(&relay_program,
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
			return options_misuse(&relay_program, "--upstream %s: is what %s excludes",
					      endpoint_format(&config->upstream[i], text),
					      match_list_has(&config->deny, &config->upstream[i])
						      ? "--deny-dst"
						      : "--allow-dst");
	if (!config_has_upstream(config) && is_all_denied(config))
		return options_misuse(&relay_program,
				      config->deny.count ? "--deny-dst: leaves nothing to relay"
							 : "--allow-dst: allows nothing in the "
							   "address family that is served");
	return OPTIONS_GO_ON;
}

int arguments_check(struct config *config)
{
	int status = check_upstream(config);

	if (config->inetd && config->common.udp)
		return options_misuse(&relay_program,
				      "--inetd and --udp contradict each other: the client on fd 0 "
				      "is a TCP connection");
	if (config->common.udp && config->send_proxy == 0)
		return options_misuse(&relay_program,
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
			return options_misuse(&relay_program,
					      "inherited descriptor %d: is a %s socket, and only "
					      "%s is served",
					      fd, udp ? "UDP" : "TCP", udp ? "TCP" : "UDP");
	}
	config->common.tcp = found.tcp;
	config->common.udp = found.udp;
	return OPTIONS_GO_ON;
}

/* One operand, for each protocol that is wanted. */
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
		return options_misuse(&relay_program, "--: runs no command");
	if (config->inetd && rest->count)
		return options_misuse(&relay_program,
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
