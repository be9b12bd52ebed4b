/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/proposal.h"

#include "base/defaults.h"
#include "base/shell.h"
#include <string.h>

/* ` 3129`, the loopback address of both families, ` 192.0.2.1:3129`, or ` -4 127.0.0.1:3129`: with
 * a bare port, a relay of both families would want the other one too. */
static void add_addresses(const struct intercept *spec, struct shell_command *c, bool four,
			  bool six)
{
	const struct endpoint *to4 = &spec->to4, *to6 = &spec->to6;
	char text[ENDPOINT_TEXT_MAX];

	if (four && six && endpoint_is_loopback(to4) && endpoint_is_loopback(to6) &&
	    to4->port == to6->port) {
		shell_add(c, " %u", to4->port);
		return;
	}
	if (four != six)
		shell_add(c, four ? " -4" : " -6");
	if (four)
		shell_word(c, endpoint_format(to4, text));
	if (six)
		shell_word(c, endpoint_format(to6, text));
}

void proposal_relay(const struct intercept *spec, const struct proposal *lacking, char *fix,
		    size_t size)
{
	const struct mark usual = DEFAULT_UPSTREAM_MARK;
	struct shell_command c = shell_command(fix, size);
	char mark[QUANTITY_MARK_MAX];

	shell_add(&c, "tproxy-relay%s",
		  lacking->tcp && lacking->udp ? " -t -u"
		  : lacking->udp	       ? " -u"
					       : "");
	if (memcmp(&usual, &spec->upstream_mark, sizeof(usual)))
		shell_add(&c, " --upstream-mark %s",
			  quantity_format_mark(&spec->upstream_mark, mark));
	/* The client's own port is in use: the client is this host itself. */
	if (intercept_takes_own(spec))
		shell_add(&c, " --source client-addr");
	add_addresses(spec, &c, lacking->ipv4, lacking->ipv6);
}
