/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-setup/doctor/checks.h"

#include "net/sysctl.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- interfaces ------------------------------------------------------------------------------- */

/* A setting that is wrong on some interfaces: one finding, and one command that fixes them all. */
struct wrong {
	const char *setting;
	const char *device[CONTEXT_DEVICES_MAX];
	unsigned devices;
	char where[SYSCTL_WHERE_MAX];
	char seen[240]; /* what it did on the first of them; "" if nothing */
	struct sysctl_fix fix;
};

/* Returns false if the interface was noted before; the caller adds to the fix otherwise. */
static bool note_wrong(struct wrong *w, const char *device)
{
	for (unsigned i = 0; i < w->devices; i++)
		if (!strcmp(w->device[i], device))
			return false;
	if (w->devices == CONTEXT_DEVICES_MAX)
		return false;
	w->device[w->devices++] = device;
	sysctl_where(device, w->setting, w->where);
	return true;
}

/* --- source validation ------------------------------------------------------------------------ */

static bool kernel_refuses(struct doctor_context *x, const struct packet_path_flow *flow,
			   uint32_t mark)
{
	const struct route_question question = {
		.source = flow->client,
		.destination = flow->destination,
		.mark = mark,
		.iif = flow->device->index,
		.protocol = flow->protocol,
	};
	struct route_answer answer;
	struct failure why = { 0 };

	return route_ask(x->kernel->route, &question, &answer, &why) &&
	       (why.err == EINVAL || why.err == EXDEV);
}

/* The number of packets whose source was refused, on the whole machine, in all network namespaces;
 * one line for each processor. This is the only trace of it. */
static unsigned long count_martians(void)
{
	char line[512], *word, *rest = line;
	FILE *in = fopen("/proc/net/stat/rt_cache", "re");
	unsigned long count = 0;
	int column = -1;

	if (in && fgets(line, sizeof(line), in))
		for (int i = 0; column < 0 && (word = strsep(&rest, " \n")); i += *word != 0)
			if (!strcmp(word, "in_martian_src"))
				column = i;
	while (in && column >= 0 && fgets(line, sizeof(line), in)) {
		rest = line;
		for (int i = 0; (word = strsep(&rest, " \n")); i += *word != 0)
			if (i == column && *word)
				count += strtoul(word, NULL, 16);
	}
	if (in)
		fclose(in);
	return count;
}

/* `; ...`, or nothing. */
static const char *martians_text(char buf[120])
{
	unsigned long count = count_martians();

	buf[0] = '\0';
	if (count)
		snprintf(buf, 120,
			 "; this machine has dropped %lu packet%s for the source (in_martian_src)",
			 count, count == 1 ? "" : "s");
	return buf;
}

static void report_src_valid_mark(struct doctor_context *x, const struct wrong *w)
{
	char martians[120];

	context_report(
		x, DOCTOR_FAIL,
		"intercepted packets are dropped as martians: their source is looked up with the "
		"mark and found to be local; where src_valid_mark is needed (wg-quick sets it), "
		"accept_local=1 fixes it, too, unless rp_filter is 1",
		w->fix.text, "%s%s%s", w->where, w->seen, martians_text(martians));
}

static void note_src_valid_mark(struct doctor_context *x, struct wrong *w,
				const struct packet_path_flow *flow, const char *device)
{
	if (!sysctl_mark_breaks(device) || !note_wrong(w, device))
		return;
	sysctl_fix_off(&w->fix, device, "src_valid_mark");
	if (!*w->seen && x->installed && device == flow->device->name &&
	    kernel_refuses(x, flow, x->spec->mark.value))
		snprintf(w->seen, sizeof(w->seen),
			 "; RTM_GETROUTE refuses a marked packet that came in by %s (EINVAL)",
			 device);
}

void check_sysctl_src_valid_mark(struct doctor_context *x)
{
	struct wrong w = { .setting = "src_valid_mark" };

	for (unsigned i = 0; i < x->flows; i++) {
		const struct packet_path_flow *flow = &x->flow[i];

		/* IPv6 has no such check, and packets through lo keep their route. */
		if (flow->client.family != AF_INET || flow->own)
			continue;
		note_src_valid_mark(x, &w, flow, flow->device->name);
		if (flow->upstream.index)
			note_src_valid_mark(x, &w, flow, flow->upstream.name);
	}
	if (w.devices)
		report_src_valid_mark(x, &w);
	context_ok(x, "src_valid_mark=0, or accept_local=1 without rp_filter=1, where packets "
		      "come in");
}

const char *check_sysctl_fix_source(struct doctor_context *x, unsigned iif,
				    char buf[SYSCTL_FIX_MAX])
{
	struct sysctl_fix fix = { .text = "" };
	char device[IFNAMSIZ] = "all";

	(void)x;
	if_indextoname(iif, device);
	sysctl_fix_source(&fix, device);
	snprintf(buf, SYSCTL_FIX_MAX, "%s", fix.text);
	return buf;
}

/* Packets that the reverse path filter dropped in this network namespace. */
static unsigned long count_filtered(void)
{
	char names[4096], values[4096], *name, *value, *rest_names = names, *rest_values = values;
	FILE *in = fopen("/proc/net/netstat", "re");
	unsigned long count = 0;

	while (in && fgets(names, sizeof(names), in) && fgets(values, sizeof(values), in)) {
		rest_names = names;
		rest_values = values;
		while ((name = strsep(&rest_names, " \n")) && (value = strsep(&rest_values, " \n")))
			if (!strcmp(name, "IPReversePathFilter"))
				sscanf(value, "%lu", &count);
	}
	if (in)
		fclose(in);
	return count;
}

static void report_rp_filter(struct doctor_context *x, enum doctor_severity severity,
			     const struct wrong *w)
{
	char martians[120];

	if (w->devices)
		context_report(x, severity,
			       "the larger of the two values counts, and 1 drops packets whose "
			       "route back uses another interface; 2 (loose) is enough against "
			       "spoofing",
			       w->fix.text, "%s; %s%s", w->where, w->seen, martians_text(martians));
}

static void note_rp_filter(struct wrong *w, const char *device, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void note_rp_filter(struct wrong *w, const char *device, const char *format, ...)
{
	va_list ap;

	if (!note_wrong(w, device))
		return;
	sysctl_fix_device(&w->fix, device, "rp_filter", 2);
	if (*w->seen)
		return;
	va_start(ap, format);
	vsnprintf(w->seen, sizeof(w->seen), format, ap);
	va_end(ap);
}

static bool has_flow(const struct doctor_context *x, const struct link *device)
{
	for (unsigned i = 0; i < x->flows; i++)
		if (x->flow[i].client.family == AF_INET && !x->flow[i].own &&
		    x->flow[i].device->index == device->index)
			return true;
	return false;
}

/* Interfaces where a client that was asked for is refused, and those where one may have been. */
static void judge_rp_filter(struct doctor_context *x, const struct packet_path_flow *flow,
			    unsigned long count, struct wrong *refused, struct wrong *suspect)
{
	const char *device = flow->device->name;
	char client[ENDPOINT_TEXT_MAX];

	if (flow->client.family != AF_INET || flow->own ||
	    sysctl_effective(device, "rp_filter") != 1)
		return;
	if (kernel_refuses(x, flow, 0))
		note_rp_filter(refused, device,
			       "RTM_GETROUTE refuses a packet from %s that came in by %s",
			       endpoint_format_address(&flow->client, client), device);
	else if (count)
		note_rp_filter(suspect, device, "it has dropped %lu packets (IPReversePathFilter)",
			       count);
}

void check_sysctl_rp_filter(struct doctor_context *x)
{
	struct wrong refused = { .setting = "rp_filter" }, suspect = refused;
	struct wrong *unasked = x->spec->src.count ? &refused : &suspect;
	unsigned long count = count_filtered();

	for (unsigned i = 0; i < x->flows; i++)
		judge_rp_filter(x, &x->flow[i], count, &refused, &suspect);
	for (unsigned i = 0; count && i < x->devices; i++)
		if (x->spec->ipv4 && !has_flow(x, &x->device[i]) &&
		    sysctl_effective(x->device[i].name, "rp_filter") == 1)
			note_rp_filter(unasked, x->device[i].name,
				       "it has dropped %lu packets (IPReversePathFilter), and no "
				       "way to a client that is asked for leads to %s",
				       count, x->device[i].name);
	report_rp_filter(x, DOCTOR_FAIL, &refused);
	report_rp_filter(x, DOCTOR_WARN, &suspect);
	context_ok(x, "no source of these packets is refused");
}

/* --- marks of sockets and answers ------------------------------------------------------------- */

void check_sysctl_fwmark_accept(struct doctor_context *x)
{
	bool on = sysctl_read(0, "net/ipv4/tcp_fwmark_accept") == 1;
	char mark[QUANTITY_MARK_MAX];

	if (on && x->spec->tcp && !check_listener_all_marked(x))
		context_report(
			x, DOCTOR_FAIL,
			"accepted sockets take the intercept mark, and what they send is routed "
			"back to lo: clients never get an answer; a listener with a mark of its "
			"own (tproxy-listen --listener-mark) keeps that",
			"sysctl -w net.ipv4.tcp_fwmark_accept=0",
			"net.ipv4.tcp_fwmark_accept=1, intercepted packets carry %s, and the "
			"listener has no mark",
			quantity_format_mark(&x->spec->mark, mark));
	context_ok(x, on ? "net.ipv4.tcp_fwmark_accept=1, but the listener has its own mark"
			 : "net.ipv4.tcp_fwmark_accept=0");
}

void check_sysctl_fwmark_reflect(struct doctor_context *x)
{
	struct sysctl_fix fix = { .text = "" };

	if (x->spec->ipv4 && sysctl_read(0, "net/ipv4/fwmark_reflect") == 1)
		sysctl_fix_add(&fix, "net.ipv4.fwmark_reflect=0");
	if (x->spec->ipv6 && sysctl_read(0, "net/ipv6/fwmark_reflect") == 1)
		sysctl_fix_add(&fix, "net.ipv6.fwmark_reflect=0");
	if (*fix.text)
		context_report(x, DOCTOR_FAIL,
			       "resets and ICMP errors that the kernel sends carry the intercept "
			       "mark and are routed back to lo: connections hang instead of ending",
			       fix.text, "fwmark_reflect=1");
	context_ok(x, "net.ipv4.fwmark_reflect=0, net.ipv6.fwmark_reflect=0");
}

/* --- what is needed at times ------------------------------------------------------------------ */

static bool wants_loopback(const struct intercept *spec)
{
	for (size_t i = 0; i < spec->dst.count; i++) {
		const struct cidr *c = &spec->dst.at[i];

		if (c->family == AF_INET && (ntohl(c->addr.v4.s_addr) >> 24) == IN_LOOPBACKNET)
			return true;
	}
	return false;
}

void check_sysctl_route_localnet(struct doctor_context *x)
{
	struct wrong w = { .setting = "route_localnet" };

	if (!wants_loopback(x->spec) || !x->spec->include_own) {
		context_ok(x, "no destination in 127.0.0.0/8 is specified");
		return;
	}
	for (unsigned i = 0; i < x->devices; i++)
		if (!sysctl_effective(x->device[i].name, "route_localnet") &&
		    note_wrong(&w, x->device[i].name))
			sysctl_fix_device(&w.fix, x->device[i].name, "route_localnet", 1);
	if (w.devices)
		context_report(x, DOCTOR_FAIL,
			       "packets for 127.0.0.0/8 that come in on an interface are dropped "
			       "as martians",
			       w.fix.text, "--dst in 127.0.0.0/8; %s", w.where);
	context_ok(x, "route_localnet=1 where packets come in");
}

/* IPv4 uses the setting of the input interface, IPv6 only that of `all`. */
static bool forwards_ipv4(const struct doctor_context *x)
{
	for (unsigned i = 0; i < x->devices; i++)
		if (x->device[i].up &&
		    !sysctl_read(1, "net/ipv4/conf/%s/forwarding", x->device[i].name))
			return false;
	return x->devices || sysctl_read(1, "net/ipv4/ip_forward");
}

void check_sysctl_forwarding(struct doctor_context *x)
{
	bool four = !x->spec->ipv4 || forwards_ipv4(x);
	bool six = !x->spec->ipv6 || sysctl_read(1, "net/ipv6/conf/all/forwarding");
	struct sysctl_fix fix = { .text = "" };

	if (!four)
		sysctl_fix_add(&fix, "net.ipv4.ip_forward=1");
	if (!six)
		sysctl_fix_add(&fix, "net.ipv6.conf.all.forwarding=1");
	if (*fix.text)
		context_report(x, DOCTOR_WARN,
			       "interception works without it, but what is not intercepted goes "
			       "nowhere: other ports, DNS, ICMP errors",
			       fix.text, "this host does not forward: %s",
			       four ? "net.ipv6.conf.all.forwarding=0" : "net.ipv4.ip_forward=0");
	context_ok(x, "this host forwards what is not intercepted");
}

void check_sysctl_migrate_req(struct doctor_context *x)
{
	unsigned processes = check_listener_processes(x);

	if (sysctl_read(1, "net/ipv4/tcp_migrate_req")) {
		context_ok(x, "net.ipv4.tcp_migrate_req=1");
		return;
	}
	if (processes > 1)
		context_report(x, DOCTOR_WARN,
			       "when one of them ends, the connections that wait in its queue are "
			       "reset rather than given to the others",
			       "sysctl -w net.ipv4.tcp_migrate_req=1",
			       "net.ipv4.tcp_migrate_req=0, and %u processes listen there",
			       processes);
	context_ok(x, "net.ipv4.tcp_migrate_req=0, and only one process has sockets there");
}
