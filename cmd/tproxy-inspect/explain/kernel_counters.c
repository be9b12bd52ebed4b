/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/explain/kernel_counters.h"

#include "base/file.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX  32768
#define WORDS_MAX 256 /* in a line; TcpExt has about 130 */

static const struct {
	const char *name, *what;
	bool loses;
} counters[] = {
	{ "rt_cache.in_martian_src", "packets whose source was refused", true },
	{ "rt_cache.in_martian_dst", "packets whose destination was refused", true },
	{ "rt_cache.in_no_route", "IPv4 packets that no route led on", true },
	{ "IpExt.InNoRoutes", "IPv4 packets that no route led on", true },
	{ "IpExt.InCsumErrors", "IPv4 packets with a wrong checksum", true },
	{ "Ip.InAddrErrors", "IPv4 packets whose destination was refused", true },
	{ "Ip.InDiscards", "IPv4 packets discarded on arrival", true },
	{ "Ip.OutDiscards", "IPv4 packets discarded when sent", true },
	{ "Ip.OutNoRoutes", "IPv4 packets of this host without a route", true },
	{ "Ip6InNoRoutes", "IPv6 packets that no route led on", true },
	{ "Ip6InAddrErrors", "IPv6 packets whose destination was refused", true },
	{ "Ip6InDiscards", "IPv6 packets discarded on arrival", true },
	{ "Ip6OutDiscards", "IPv6 packets discarded when sent", true },
	{ "Ip6OutNoRoutes", "IPv6 packets of this host without a route", true },
	{ "TcpExt.IPReversePathFilter", "packets that rp_filter refused", true },
	{ "TcpExt.ListenDrops", "connections that a listener dropped", true },
	{ "TcpExt.ListenOverflows", "connections for which a listener's queue was full", true },
	{ "TcpExt.TCPReqQFullDrop", "SYNs for which a listener's SYN queue was full", true },
	{ "TcpExt.TCPReqQFullDoCookies", "SYNs answered with a cookie", false },
	{ "TcpExt.TCPBacklogDrop", "segments for which a socket's backlog was full", true },
	{ "TcpExt.TCPRcvQDrop", "segments for which a socket had no memory", true },
	{ "TcpExt.TCPTimeouts", "timeouts of the retransmission timer", false },
	{ "Tcp.RetransSegs", "TCP segments that this host sent again", false },
	{ "Tcp.OutRsts", "resets that this host sent", false },
	{ "Tcp.AttemptFails", "TCP connections that were not established", false },
	{ "Tcp.InErrs", "TCP segments with errors", true },
	{ "Udp.NoPorts", "IPv4 datagrams to ports where nobody listens", true },
	{ "Udp.RcvbufErrors", "IPv4 datagrams for which a socket's queue was full", true },
	{ "Udp6NoPorts", "IPv6 datagrams to ports where nobody listens", true },
	{ "Udp6RcvbufErrors", "IPv6 datagrams for which a socket's queue was full", true },
};
#define COUNTERS (sizeof(counters) / sizeof(*counters))
_Static_assert(COUNTERS <= KERNEL_COUNTERS, "one place for each");

/* --- parsing ---------------------------------------------------------------------------------- */

/* Add the value of `GROUP.NAME` (group "": NAME alone). */
static void add(struct kernel_counters *c, const char *group, const char *name, const char *value,
		int base)
{
	size_t length = strlen(group);

	for (size_t i = 0; i < COUNTERS; i++) {
		const char *known = counters[i].name;

		if (strncmp(known, group, length) || (length && known[length] != '.') ||
		    strcmp(known + length + !!length, name))
			continue;
		c->at[i] += strtoull(value, NULL, base);
		c->known[i] = true;
	}
}

/* Split the line; returns the number of words. */
static size_t split(char *line, char *words[WORDS_MAX])
{
	size_t count = 0;
	char *word;

	while (count < WORDS_MAX && (word = strsep(&line, " \t")))
		if (*word)
			words[count++] = word;
	return count;
}

/* `TcpExt:` in both lines, or they are no pair. */
static void parse_pair(struct kernel_counters *c, char *names, char *values)
{
	char *name[WORDS_MAX], *value[WORDS_MAX];
	size_t count = split(names, name), most = split(values, value);

	if (!count || !most || strcmp(name[0], value[0]) || !strchr(name[0], ':'))
		return;
	*strchr(name[0], ':') = '\0';
	for (size_t i = 1; i < count && i < most; i++)
		add(c, name[0], name[i], value[i], 10);
}

static void parse_line(struct kernel_counters *c, char *line)
{
	char *word[WORDS_MAX];

	if (split(line, word) == 2)
		add(c, "", word[0], word[1], 10);
}

static void parse_columns(struct kernel_counters *c, char *names, char *rest)
{
	char *name[WORDS_MAX], *value[WORDS_MAX], *line;
	size_t count = split(names, name);

	while ((line = strsep(&rest, "\n"))) {
		size_t most = split(line, value);

		for (size_t i = 0; i < count && i < most; i++)
			add(c, "rt_cache", name[i], value[i], 16);
	}
}

void kernel_counters_parse(struct kernel_counters *c, enum kernel_counters_form form, char *text)
{
	char *line, *next;

	while ((line = strsep(&text, "\n"))) {
		switch (form) {
		case COUNTERS_LINES:
			parse_line(c, line);
			break;
		case COUNTERS_PAIRS:
			next = strsep(&text, "\n");
			if (next)
				parse_pair(c, line, next);
			break;
		case COUNTERS_COLUMNS:
			parse_columns(c, line, text);
			return;
		}
	}
}

/* --- reading ---------------------------------------------------------------------------------- */

void kernel_counters_read(struct kernel_counters *c)
{
	static const struct {
		const char *path;
		enum kernel_counters_form form;
	} files[] = {
		{ "/proc/net/netstat", COUNTERS_PAIRS },
		{ "/proc/net/snmp", COUNTERS_PAIRS },
		{ "/proc/net/snmp6", COUNTERS_LINES },
		{ "/proc/net/stat/rt_cache", COUNTERS_COLUMNS },
	};
	char text[FILE_MAX];

	*c = (struct kernel_counters){ 0 };
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		file_read(AT_FDCWD, files[i].path, text, sizeof(text));
		kernel_counters_parse(c, files[i].form, text);
	}
}

void kernel_counters_compare(const struct kernel_counters *before,
			     const struct kernel_counters *after, kernel_counters_visitor *visit,
			     void *context)
{
	for (size_t i = 0; i < COUNTERS; i++) {
		const struct kernel_counter one = {
			.name = counters[i].name,
			.what = counters[i].what,
			.loses = counters[i].loses,
			.grown = after->at[i] - before->at[i],
		};

		if (before->known[i] && after->known[i] && after->at[i] > before->at[i])
			visit(&one, context);
	}
}
