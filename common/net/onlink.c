/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/onlink.h"

#include "base/shell.h"
#include <ifaddrs.h>
#include <string.h>

/* getifaddrs() returns structures with room for any address. */
static struct endpoint address_of(const struct sockaddr *sa)
{
	return sa ? endpoint_from_sockaddr(sa, sizeof(struct sockaddr_in6))
		  : (struct endpoint){ 0 };
}

static bool same_network(const struct ifaddrs *a, const struct endpoint *host)
{
	const struct endpoint own = address_of(a->ifa_addr), mask = address_of(a->ifa_netmask);
	const uint8_t *x = (const uint8_t *)&own.addr, *y = (const uint8_t *)&host->addr;
	const uint8_t *bits = (const uint8_t *)&mask.addr;

	if (own.family != host->family || mask.family != own.family || own.scope)
		return false;
	for (unsigned i = 0; i < (own.family == AF_INET ? 4 : 16); i++)
		if ((x[i] ^ y[i]) & bits[i])
			return false;
	return true;
}

bool onlink_has(const struct endpoint *host, const char *device)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all))
		return false;
	for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next)
		found = !strcmp(a->ifa_name, device) && same_network(a, host);
	freeifaddrs(all);
	return found;
}

void onlink_command(const struct endpoint *host, const char *device, char *fix, size_t size)
{
	struct shell_command c = shell_command(fix, size);
	char text[ENDPOINT_TEXT_MAX];

	shell_add(&c, "%s route replace %s dev", host->family == AF_INET ? "ip" : "ip -6",
		  endpoint_format_address(host, text));
	shell_word(&c, device);
}
