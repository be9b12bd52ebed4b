/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "intercept/nft_text.h"

#include "intercept/spec_check.h"
#include "intercept/spec_text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Up to this many ports, or port ranges, are compared one by one. */
#define INLINE_PORTS 4

/* nft takes comments of up to 128 characters (NFTNL_UDATA_COMMENT_MAXLEN). */
#define NOTE_LENGTH 120

/* How long the tuple of an intercepted SYN may wait for the rest of its handshake, with SYN cookies
 * and --midstream pass; how many tuples are remembered. */
#define TAKEN_SECONDS 15

/* How long a passing flow may be idle: RFC 5382's value for established connections. */
#define PASSING_SECONDS 7500

#define TUPLES_MAX 65536

/* How long a server may take to answer a SYN, or to repeat its answer; how long an answer that
 * nobody asked for here is remembered. After each there is a pause, so there are some sixty of
 * them at most. (nft's `limit` would do the same, but is a module more that the kernel must have.) */
#define ASKED_SECONDS  40
#define ASTRAY_SECONDS 300
#define PAUSE_SECONDS  5

/* Whoever lists the rules gets these, too, however many SYNs a flood brings. It is enough for 1600
 * connections in a second. */
#define ASKED_MAX 8192

/* Of the clients' ports every eighth is looked at: these connections tell as much as all of them.
 * Remembering a SYN costs memory. These are the ports 0 and 1 modulo 16: Linux gives clients even
 * ones by connect(), and odd ones by bind(), as proxies do. */
#define SAMPLE	   "& 14 == 0"
#define NOT_SAMPLE "& 14 != 0"

/* Tuples that begin while an instance ends are kept this much longer than the drain takes. */
#define FRESH_EXTRA_SECONDS 60

#define NOT_SYN "tcp flags & (syn | ack) != syn"
#define SYN	"tcp flags & (syn | ack) == syn"
#define SYN_ACK "tcp flags & (syn | ack) == syn | ack"

/* The same for what every packet is asked: four bytes from the header's thirteenth on, with the flags
 * in the second of them. The kernel compares with a mask in place if these are four bytes, and calls
 * functions if they are fewer: that takes seven times as long. Of packets that are not TCP, and of
 * short ones, it says nothing. */
#define FLAGS_SYN_ACK "@th,96,32 & 0x120000 == 0x120000"
#define FLAGS_NOT_SYN "@th,96,32 & 0x120000 != 0x20000"

/* Nothing but a reset: no ACK, no options, no data. This is how a host answers a segment that has
 * no socket there (RFC 9293, 3.10.7.1); a host that ends its own connection sets ACK. */
#define BARE_RESET_4 "ip length 40 tcp flags == rst"
#define BARE_RESET_6 "ip6 length 20 tcp flags == rst"

/* One address family's words in nft. */
struct family {
	const char *nfproto, *ip, *type, *suffix;
	sa_family_t family;
};
static const struct family families[] = {
	{ "ipv4", "ip", "ipv4_addr", "4", AF_INET },
	{ "ipv6", "ip6", "ipv6_addr", "6", AF_INET6 },
};
#define FAMILIES (sizeof(families) / sizeof(*families))

static bool wants(const struct intercept *spec, const struct family *f)
{
	return f->family == AF_INET ? spec->ipv4 : spec->ipv6;
}

/* The one after f that the specification has; after NULL: the first one. NULL: there is none. */
static const struct family *next_family(const struct intercept *spec, const struct family *f)
{
	for (f = f ? f + 1 : families; f < families + FAMILIES; f++)
		if (wants(spec, f))
			return f;
	return NULL;
}

/* The name of a port in a rule. */
static const char *l4(const struct intercept *spec)
{
	return spec->tcp && spec->udp ? "th" : spec->udp ? "udp" : "tcp";
}

/* --- pieces ----------------------------------------------------------------------------------- */

static void put_notes(FILE *out, const char *text)
{
	for (size_t length = strlen(text); length;) {
		size_t piece = length < NOTE_LENGTH ? length : NOTE_LENGTH;

		/* The kernel keeps every blank, but a text cut at blanks is easier to read. */
		if (piece < length)
			for (size_t i = piece; i > piece / 2; i--)
				if (text[i - 1] == ' ') {
					piece = i;
					break;
				}
		fprintf(out, "\t\treturn comment \"%.*s\"\n", (int)piece, text);
		text += piece;
		length -= piece;
	}
}

static void put_counters(FILE *out, const struct intercept *spec)
{
	fputs("\tcounter diverted { }\n\tcounter own-mark { }\n", out);
	if (!spec->divert_only)
		fputs("\tcounter intercepted { }\n\tcounter no-listener { }\n"
		      "\tcounter excluded { }\n\tcounter local { }\n",
		      out);
}

/* `meta mark & 0xff == 0x1`; without `& MASK` if all bits count. `key`: meta mark, socket mark. */
static void put_mark_match(FILE *out, const char *key, const struct mark *mark)
{
	if (mark->mask == UINT32_MAX)
		fprintf(out, "%s 0x%x", key, mark->value);
	else
		fprintf(out, "%s & 0x%x == 0x%x", key, mark->mask, mark->value);
}

/* The mark's bits of other programs stay unchanged. */
static void put_mark_set(FILE *out, const struct mark *mark)
{
	if (mark->mask == UINT32_MAX)
		fprintf(out, "meta mark set 0x%x", mark->value);
	else
		fprintf(out, "meta mark set meta mark & 0x%x | 0x%x", ~mark->mask, mark->value);
}

static void put_family_guard(FILE *out, const struct intercept *spec)
{
	if (spec->ipv4 != spec->ipv6)
		fprintf(out, "\t\tmeta nfproto != %s return\n", spec->ipv4 ? "ipv4" : "ipv6");
}

static void put_protocol_guard(FILE *out, const struct intercept *spec, const char *verdict)
{
	fprintf(out, "\t\tmeta l4proto != %s %s\n",
		spec->tcp && spec->udp ? "{ tcp, udp }" : l4(spec), verdict);
}

static void put_lease_guard(FILE *out, const struct intercept *spec)
{
	if (spec->confirm_ms)
		fputs("\t\tmeta l4proto != @" NFT_TEXT_LEASE " return\n", out);
}

static void put_base_chain(FILE *out, const char *name, const char *hook, const char *priority)
{
	fprintf(out, "\tchain %s {\n\t\ttype filter hook %s priority %s; policy accept;\n", name,
		hook, priority);
}

/* --- sets ------------------------------------------------------------------------------------- */

static bool has_elements(const struct intercept *spec, enum intercept_list_id id,
			 const struct family *f)
{
	const struct cidr_list *list = intercept_cidrs(spec, id);

	for (size_t i = 0; wants(spec, f) && i < list->count; i++)
		if (list->at[i].family == f->family)
			return true;
	return false;
}

/* `port`, `src4`; the second name is for a set that replaces an installed one. */
struct set_name {
	char text[24];
};

static struct set_name name_of_set(const struct intercept *spec, enum intercept_list_id id,
				   const struct family *f)
{
	struct set_name name;

	snprintf(name.text, sizeof(name.text), "%s%s%s", intercept_lists[id].name,
		 f ? f->suffix : "", spec->alternate[id] ? NFT_TEXT_ALTERNATE : "");
	return name;
}

static bool has_ranges(const struct port_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->at[i].last != list->at[i].first)
			return true;
	return false;
}

/* Without ranges the kernel uses a set type that finds a port directly instead of in a tree. */
static void put_port_set(FILE *out, const struct intercept *spec, enum intercept_list_id id)
{
	const struct port_list *list = intercept_ports(spec, id);

	if (!list->count)
		return;
	fprintf(out, "\tset %s {\n\t\ttype inet_service%s\n\t\telements = { ",
		name_of_set(spec, id, NULL).text, has_ranges(list) ? "; flags interval" : "");
	for (size_t i = 0; i < list->count; i++) {
		fprintf(out, "%s%u", i ? ", " : "", list->at[i].first);
		if (list->at[i].last != list->at[i].first)
			fprintf(out, "-%u", list->at[i].last);
	}
	fputs(" }\n\t}\n", out);
}

static void put_cidr_set(FILE *out, const struct intercept *spec, enum intercept_list_id id,
			 const struct family *f)
{
	const struct cidr_list *list = intercept_cidrs(spec, id);
	const char *comma = "";
	char text[ENDPOINT_TEXT_MAX];

	if (!has_elements(spec, id, f))
		return;
	fprintf(out, "\tset %s {\n\t\ttype %s; flags interval\n\t\telements = { ",
		name_of_set(spec, id, f).text, f->type);
	for (size_t i = 0; i < list->count; i++)
		if (list->at[i].family == f->family) {
			fprintf(out, "%s%s", comma, endpoint_format_cidr(&list->at[i], text));
			comma = ", ";
		}
	fputs(" }\n\t}\n", out);
}

static void put_tuple_set(FILE *out, const char *name, const struct family *f, int size,
			  unsigned seconds)
{
	fprintf(out,
		"\tset %s%s {\n\t\ttype %s . inet_service . %s . inet_service\n"
		"\t\tsize %d; flags dynamic,timeout; timeout %us\n\t}\n",
		name, f->suffix, f->type, f->type, size, seconds);
}

static void put_tuple_sets(FILE *out, const struct intercept *spec, const char *name, int size,
			   unsigned seconds)
{
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f))
		put_tuple_set(out, name, f, size, seconds);
}

static void put_protocol_set(FILE *out, const char *name, const char *type, unsigned seconds)
{
	fprintf(out,
		"\tset %s {\n\t\ttype %s\n"
		"\t\tsize 16; flags dynamic,timeout; timeout %us\n\t}\n",
		name, type, seconds);
}

/* A lease that the kernel enforces: when its elements time out, nothing new is taken. */
static void put_lease(FILE *out, const struct intercept *spec)
{
	fprintf(out,
		"\tset " NFT_TEXT_LEASE " {\n\t\ttype inet_proto; flags timeout\n"
		"\t\telements = { tcp timeout %llums, udp timeout %llums }\n\t}\n",
		(unsigned long long)spec->confirm_ms, (unsigned long long)spec->confirm_ms);
}

static void put_list(FILE *out, const struct intercept *spec, enum intercept_list_id id)
{
	if (intercept_lists[id].is_ports)
		put_port_set(out, spec, id);
	for (size_t i = 0; !intercept_lists[id].is_ports && i < FAMILIES; i++)
		put_cidr_set(out, spec, id, &families[i]);
}

/* The sets that are not lists. */
static void put_sets(FILE *out, const struct intercept *spec)
{
	if (spec->confirm_ms)
		put_lease(out, spec);
	if (!spec->tcp || spec->divert_only)
		return;
	if (spec->midstream == MIDSTREAM_PASS)
		put_tuple_sets(out, spec, "taken", TUPLES_MAX, TAKEN_SECONDS);
	else if (spec->zone == CONNTRACK_OFF)
		put_tuple_sets(out, spec, "passing", TUPLES_MAX, PASSING_SECONDS);
	if (spec->local)
		put_tuple_sets(out, spec, "mine", TUPLES_MAX, PASSING_SECONDS);
	put_tuple_sets(out, spec, "asked", ASKED_MAX, ASKED_SECONDS);
	put_tuple_sets(out, spec, NFT_TEXT_ASTRAY, NFT_TEXT_ASTRAY_MAX, ASTRAY_SECONDS);
	put_protocol_set(out, NFT_TEXT_UNASKED, "inet_proto", ASTRAY_SECONDS);
	put_protocol_set(out, "lately", "nf_proto", PAUSE_SECONDS);
}

/* --- divert ----------------------------------------------------------------------------------- */

/* `socket transparent` also matches unconnected UDP sockets: one bound to an original destination
 * would get every client's datagrams. tproxy to a port without a listener only matches connected
 * sockets (nft_tproxy.c looks for these first). */
static void put_divert_udp(FILE *out, const struct intercept *spec)
{
	static const char *const nobody[] = { "127.0.0.1:1", "[::1]:1" };

	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fprintf(out, "\t\tmeta nfproto %s meta l4proto udp tproxy %s to %s ", f->nfproto,
			f->ip, nobody[f - families]);
		put_mark_set(out, &spec->mark);
		fputs(" counter name diverted accept\n", out);
	}
	/* An answer to a translated leg still has this host's address here. A lookup by `socket'
	 * takes that into account (nf_sk_lookup_slow_v4()), a lookup by tproxy does not. */
	if (spec->zone != CONNTRACK_OFF)
		fputs("\t\tmeta l4proto udp ct direction reply ct status snat "
		      "socket transparent 1 socket wildcard 0 jump divert\n",
		      out);
}

/* Errors about a connection go to its socket. */
static void put_other(FILE *out, const struct intercept *spec)
{
	fputs("\tchain other {\n", out);
	if (spec->ipv4)
		fputs("\t\ticmp type { destination-unreachable, time-exceeded, parameter-problem } "
		      "socket transparent 1 jump divert\n",
		      out);
	if (spec->ipv6)
		fputs("\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, "
		      "parameter-problem } socket transparent 1 jump divert\n",
		      out);
	fputs("\t}\n", out);
}

/* Packets that this host marked itself, and sent to itself. */
static void put_looped_match(FILE *out, const struct intercept *spec, const char *verdict)
{
	fputs("\t\tiifname \"lo\" ", out);
	put_mark_match(out, "meta mark", &spec->mark);
	fprintf(out, " %s\n", verdict);
}

static void put_own_marks(FILE *out, const struct intercept *spec)
{
	const struct mark *marks[] = { &spec->mark, &spec->upstream_mark };

	for (int i = 0; i < 2; i++) {
		fputs("\t\t", out);
		put_mark_match(out, "meta mark", marks[i]);
		fputs(" counter name own-mark accept\n", out);
	}
}

/* For packets with a transparent socket. A SYN may be for a listener, or for a connection in
 * TIME_WAIT that the client opens anew. A wildcard listener of a transparent proxy would match
 * forwarded flows that happen to use its port; only connections are wanted. (`socket wildcard 0`
 * would break handshakes: the kernel cannot evaluate it for a request socket.) */
static void put_divert(FILE *out, const struct intercept *spec)
{
	fputs("\tchain divert {\n", out);
	if (intercept_takes_own(spec))
		put_looped_match(out, spec, "return");
	put_own_marks(out, spec);
	if (spec->tcp)
		fputs("\t\t" SYN " return\n", out);
	fputs("\t\tsocket wildcard 1 return\n\t\t", out);
	put_mark_set(out, &spec->mark);
	fputs(" counter name diverted accept\n\t}\n", out);
}

/* --- the predicate ---------------------------------------------------------------------------- */

/* Which field of a packet a list looks at: in the client's packets, or mirrored, in the
 * server's. */
enum direction { FROM_CLIENT, FROM_SERVER };

static const char *field_of(enum intercept_list_id id, enum direction direction)
{
	bool is_source = id == LIST_SRC || id == LIST_NOT_SRC;

	if (intercept_lists[id].is_ports)
		return direction == FROM_CLIENT ? "dport" : "sport";
	return is_source == (direction == FROM_CLIENT) ? "saddr" : "daddr";
}

/* Return unless the packet is in the list. */
static void put_must(FILE *out, const struct intercept *spec, enum intercept_list_id id,
		     enum direction direction)
{
	const char *field = field_of(id, direction);

	if (intercept_lists[id].is_ports && intercept_ports(spec, id)->count)
		fprintf(out, "\t\t%s %s != @%s return\n", l4(spec), field,
			name_of_set(spec, id, NULL).text);
	for (size_t i = 0; !intercept_lists[id].is_ports && i < FAMILIES; i++)
		if (has_elements(spec, id, &families[i]))
			fprintf(out, "\t\t%s %s != @%s return\n", families[i].ip, field,
				name_of_set(spec, id, &families[i]).text);
}

/* Return if the packet is in the list. */
static void put_must_not(FILE *out, const struct intercept *spec, enum intercept_list_id id,
			 enum direction direction, const char *count)
{
	const char *field = field_of(id, direction);

	if (intercept_lists[id].is_ports && intercept_ports(spec, id)->count)
		fprintf(out, "\t\t%s %s @%s %sreturn\n", l4(spec), field,
			name_of_set(spec, id, NULL).text, count);
	for (size_t i = 0; !intercept_lists[id].is_ports && i < FAMILIES; i++)
		if (has_elements(spec, id, &families[i]))
			fprintf(out, "\t\t%s %s @%s %sreturn\n", families[i].ip, field,
				name_of_set(spec, id, &families[i]).text, count);
}

static void put_predicate(FILE *out, const struct intercept *spec, enum direction direction)
{
	put_must(out, spec, LIST_PORT, direction);
	put_must(out, spec, LIST_SRC, direction);
	put_must(out, spec, LIST_DST, direction);
}

static void put_exclusions(FILE *out, const struct intercept *spec, enum direction direction,
			   const char *count)
{
	put_must_not(out, spec, LIST_NOT_PORT, direction, count);
	put_must_not(out, spec, LIST_NOT_SRC, direction, count);
	put_must_not(out, spec, LIST_NOT_DST, direction, count);
}

#define TO_THIS_HOST "fib daddr type { local, broadcast, multicast, anycast }"
#define LEAVE_OWN    "\t\t" TO_THIS_HOST " counter name local return\n"

/* --- intercept, take, deliver ----------------------------------------------------------------- */

/* The ports come before anything that costs more, because most packets belong to somebody else's
 * connections. Comparing with a few numbers is faster than a set look-up, and `th` does not ask for
 * the protocol again. */
static void put_ports(FILE *out, const struct intercept *spec)
{
	const struct port_list *list = intercept_ports(spec, LIST_PORT);

	if (!list->count)
		return;
	fputs("\t\t", out);
	for (size_t i = 0; i < list->count && list->count <= INLINE_PORTS; i++) {
		fprintf(out, "th dport != %u", list->at[i].first);
		if (list->at[i].last != list->at[i].first)
			fprintf(out, "-%u", list->at[i].last);
		fputs(" ", out);
	}
	if (list->count > INLINE_PORTS)
		fprintf(out, "th dport != @%s ", name_of_set(spec, LIST_PORT, NULL).text);
	fputs("return\n", out);
}

/* Let other people's packets pass with as few questions as possible: the socket look-up, then the
 * ports. */
static void put_intercept(FILE *out, const struct intercept *spec)
{
	put_ports(out, spec);
	put_must(out, spec, LIST_SRC, FROM_CLIENT);
	put_must(out, spec, LIST_DST, FROM_CLIENT);
	if (spec->tcp)
		fputs("\t\t" SYN " tcp sport " SAMPLE " jump ask\n", out);
	if (spec->local)
		put_looped_match(out, spec, "goto looped");
	put_lease_guard(out, spec);
	put_own_marks(out, spec);
	for (unsigned i = 0; i < spec->devices; i++)
		fprintf(out, "\t\tiifname \"%s\" goto take\n", spec->device[i]);
	/* Packets from lo were not sent by another host. */
	if (!spec->devices)
		fputs("\t\tiifname != \"lo\" goto take\n", out);
}

static void put_prerouting(FILE *out, const struct intercept *spec)
{
	put_base_chain(out, "prerouting", "prerouting", "mangle + 1");
	put_family_guard(out, spec);
	put_protocol_guard(out, spec, "goto other");
	if (spec->tcp)
		fprintf(out, "\t\t%ssocket transparent 1 jump divert\n",
			spec->udp ? "meta l4proto tcp " : "");
	if (spec->udp)
		put_divert_udp(out, spec);
	if (spec->tcp && !spec->divert_only)
		fputs("\t\t" FLAGS_SYN_ACK " jump answer\n", out);
	if (!spec->divert_only)
		put_intercept(out, spec);
	fputs("\t}\n", out);
}

/* Packets addressed to this host itself are left alone, so that you cannot lock yourself out. With
 * --include-own, at least the answers to its own connections are: tproxy would find their socket
 * not transparent, and the reset for want of a listener would hit them. */
static void put_own(FILE *out, const struct intercept *spec)
{
	if (!spec->include_own)
		fputs(LEAVE_OWN, out);
	if (spec->include_own && spec->tcp)
		fputs("\t\t" NOT_SYN " socket wildcard 0 socket transparent 0 "
		      "counter name local return\n",
		      out);
	if (spec->include_own && spec->udp)
		fputs("\t\tmeta l4proto udp socket wildcard 0 socket transparent 0 "
		      "counter name local return\n",
		      out);
}

/* `ip saddr . tcp sport . ip daddr . tcp dport` */
static void put_tuple(FILE *out, const struct family *f)
{
	fprintf(out, "%s saddr . tcp sport . %s daddr . tcp dport", f->ip, f->ip);
}

/* The tuple that the packet's answer has. */
static void put_mirrored_tuple(FILE *out, const struct family *f)
{
	fprintf(out, "%s daddr . tcp dport . %s saddr . tcp sport", f->ip, f->ip);
}

/* A predicate with many ports also matches the answers of flows that began on the other side and
 * were not taken: these are not orphans, and must not be reset. If connection tracking is in use
 * anyway, it knows; otherwise a flow is recognised by its SYN-ACK, and remembered while it lasts.
 * (Answers to intercepted flows have a socket here, and do not get this far.) */
static void put_answers(FILE *out, const struct intercept *spec)
{
	if (spec->zone != CONNTRACK_OFF) {
		fputs("\t\tct direction reply return\n", out);
		return;
	}
	if (!spec->tcp || spec->midstream != MIDSTREAM_RESET)
		return;
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fprintf(out, "\t\t" SYN_ACK " update @passing%s { ", f->suffix);
		put_tuple(out, f);
		fputs(" } return\n\t\t" NOT_SYN " ", out);
		put_tuple(out, f);
		fprintf(out, " @passing%s update @passing%s { ", f->suffix, f->suffix);
		put_tuple(out, f);
		fputs(" } return\n", out);
	}
}

/* --- answers that nobody asked for here ------------------------------------------------------- */

/*
 * Of several relays beside each other, each must get the answers to what it asks. A SYN-ACK for a
 * connection that the predicate covers, which has no socket here and whose SYN did not come by, is
 * the answer to another machine's SYN. That the SYN was here is remembered, whatever became of it:
 * taken, excluded, not of these interfaces, or taken by a relay that has given up since. So are those
 * that this host sends: a proxy may keep the client's address alone, and choose the port.
 *
 * An answer to nobody's SYN comes if somebody forged one: the client refuses it with a bare reset,
 * which comes by here if the client's SYNs do. A client that asked by another way either takes the
 * answer for a strange packet of its connection, or resets it by that way.
 */
static void put_ask(FILE *out, const struct intercept *spec)
{
	fputs("\tchain ask {\n", out);
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fprintf(out, "\t\tupdate @asked%s { ", f->suffix);
		put_tuple(out, f);
		fputs(" } return\n", out);
	}
	/* The set is full: nothing can be said of answers. */
	fputs("\t\tupdate @" NFT_TEXT_UNASKED " { meta l4proto }\n\t}\n", out);
}

/* Every packet that this host sends is asked, so the cheapest question comes first. */
static void put_own_asks(FILE *out, const struct intercept *spec)
{
	put_base_chain(out, "asks", "output", "mangle");
	fputs("\t\t" FLAGS_NOT_SYN " return\n"
	      "\t\tmeta l4proto != tcp return\n"
	      "\t\t" NOT_SYN " return\n"
	      "\t\ttcp sport " NOT_SAMPLE " return\n",
	      out);
	put_family_guard(out, spec);
	put_predicate(out, spec, FROM_CLIENT);
	fputs("\t\tgoto ask\n\t}\n", out);
}

/* It times out: not every kernel lets a packet delete an element. */
static void put_refused(FILE *out, const struct intercept *spec)
{
	fputs("\tchain refused {\n", out);
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fputs("\t\t", out);
		put_mirrored_tuple(out, f);
		fprintf(out, " @" NFT_TEXT_ASTRAY "%s update @" NFT_TEXT_ASTRAY "%s { ", f->suffix,
			f->suffix);
		put_mirrored_tuple(out, f);
		fprintf(out, " timeout %ds }\n", NFT_TEXT_REFUSED_SECONDS);
	}
	fputs("\t}\n", out);
}

static void put_astray(FILE *out, const struct intercept *spec)
{
	fputs("\tchain " NFT_TEXT_ASTRAY " {\n"
	      "\t\tmeta nfproto @lately return\n"
	      "\t\tupdate @lately { meta nfproto }\n",
	      out);
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fprintf(out, "\t\tadd @" NFT_TEXT_ASTRAY "%s { ", f->suffix);
		put_tuple(out, f);
		fputs(" }\n", out);
	}
	fputs("\t}\n", out);
}

/* Interfaces are the client's: the way to it leads through one of them. Connection tracking knows a
 * flow whose addresses were translated, too. */
static void put_answer(FILE *out, const struct intercept *spec)
{
	fputs("\tchain answer {\n", out);
	if (spec->udp)
		fputs("\t\tmeta l4proto != tcp return\n", out);
	fputs("\t\ttcp dport " NOT_SAMPLE " return\n", out);
	put_predicate(out, spec, FROM_SERVER);
	put_exclusions(out, spec, FROM_SERVER, "");
	fputs("\t\t" TO_THIS_HOST " return\n", out);
	if (spec->zone != CONNTRACK_OFF)
		fputs("\t\tct direction reply return\n", out);
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fputs("\t\t", out);
		put_mirrored_tuple(out, f);
		fprintf(out, " @asked%s update @asked%s { ", f->suffix, f->suffix);
		put_mirrored_tuple(out, f);
		fputs(" } return\n", out);
	}
	for (unsigned i = 0; i < spec->devices; i++)
		fprintf(out, "\t\tfib daddr oifname \"%s\" goto " NFT_TEXT_ASTRAY "\n",
			spec->device[i]);
	if (!spec->devices)
		fputs("\t\tgoto " NFT_TEXT_ASTRAY "\n", out);
	fputs("\t}\n", out);
}

static void put_strayed(FILE *out, const struct intercept *spec)
{
	if (!spec->tcp)
		return;
	put_ask(out, spec);
	put_own_asks(out, spec);
	put_astray(out, spec);
	put_answer(out, spec);
}

/* If the relay's reset toward a server was lost, or came before the last data (RFC 5961, 3.2), the
 * server's next segment finds no socket here, and is forwarded to the client. Only the client's
 * answer can end that connection; a listener would swallow it, and the server would hang. It
 * carries no data. */
static void put_bare_resets(FILE *out, const struct intercept *spec, const char *verdict)
{
	if (spec->ipv4)
		fprintf(out, "\t\t" BARE_RESET_4 " %s\n", verdict);
	if (spec->ipv6)
		fprintf(out, "\t\t" BARE_RESET_6 " %s\n", verdict);
}

/* Only flows whose SYN was seen are taken: older ones are left alone. */
static void put_midstream_pass(FILE *out, const struct intercept *spec)
{
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fprintf(out, "\t\t" SYN " update @taken%s { ", f->suffix);
		put_tuple(out, f);
		fputs(" }\n\t\t" NOT_SYN " ", out);
		put_tuple(out, f);
		fprintf(out, " != @taken%s return\n", f->suffix);
	}
}

/* `down` has begun: new flows pass and are remembered; all other packets belong to flows that a
 * listener here accepted, and if their socket is gone they are answered with a reset, as always. A
 * SYN that already has a socket is a retransmission in a handshake under way here. */
static void put_ending(FILE *out, const struct intercept *spec)
{
	bool pass = spec->midstream == MIDSTREAM_PASS;

	fputs("\t\t" SYN " socket transparent 1 goto deliver\n", out);
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		const char *set = pass ? "taken" : "fresh";
		if (!pass) {
			fprintf(out, "\t\t" SYN " update @fresh%s { ", f->suffix);
			put_tuple(out, f);
			fputs(" } return\n", out);
		}
		fputs("\t\t" NOT_SYN " ", out);
		put_tuple(out, f);
		fprintf(out, " %s@%s%s return\n", pass ? "!= " : "", set, f->suffix);
	}
	if (pass)
		fputs("\t\t" SYN " return\n", out);
}

static void put_not_marks(FILE *out, const struct intercept *spec)
{
	for (unsigned i = 0; i < spec->not_marks; i++) {
		fputs("\t\t", out);
		put_mark_match(out, "meta mark", &spec->not_mark[i]);
		fputs(" counter name excluded return\n", out);
	}
}

static void put_take(FILE *out, const struct intercept *spec, bool ending)
{
	fputs("\tchain take {\n", out);
	put_own(out, spec);
	put_exclusions(out, spec, FROM_CLIENT, "counter name excluded ");
	put_not_marks(out, spec);
	/* (An instance that ends may be of an older version, without this chain.) */
	if (spec->tcp)
		put_bare_resets(out, spec, ending ? "return" : "goto refused");
	if (spec->midstream == MIDSTREAM_RESET || spec->udp)
		put_answers(out, spec);
	if (ending && spec->tcp)
		put_ending(out, spec);
	else if (spec->midstream == MIDSTREAM_PASS && spec->tcp)
		put_midstream_pass(out, spec);
	if (ending && spec->udp)
		fputs("\t\tmeta l4proto udp return\n", out);
	fputs("\t\tgoto deliver\n\t}\n", out);
}

static void put_tproxy(FILE *out, const struct intercept *spec, const struct family *f,
		       const char *protocol)
{
	const struct endpoint *to = f->family == AF_INET ? &spec->to4 : &spec->to6;
	char text[ENDPOINT_TEXT_MAX];

	if (!wants(spec, f))
		return;
	/* Without an address: 0.0.0.0, or the first address of the interface (nft_tproxy.c). */
	if (endpoint_is_any(to))
		snprintf(text, sizeof(text), ":%u", to->port);
	else
		endpoint_format(to, text);
	fprintf(out, "\t\tmeta nfproto %s meta l4proto %s tproxy %s to %s ", f->nfproto, protocol,
		f->ip, text);
	put_mark_set(out, &spec->mark);
	fputs(" counter name intercepted accept\n", out);
}

/* tproxy ends the rule if nobody listens, and the packet would continue to its destination. */
static void put_deliver(FILE *out, const struct intercept *spec)
{
	static const char *const end[] = {
		[NO_LISTENER_DROP] = "drop", [NO_LISTENER_PASS] = "accept"
	};
	static const struct {
		const char *name, *reject;
	} protocols[] = {
		{ "tcp", "reject with tcp reset" },
		{ "udp", "reject with icmpx type port-unreachable" },
	};

	fputs("\tchain deliver {\n", out);
	for (int p = 0; p < 2; p++) {
		if (!(p ? spec->udp : spec->tcp))
			continue;
		for (size_t i = 0; i < FAMILIES; i++)
			put_tproxy(out, spec, &families[i], protocols[p].name);
		fprintf(out, "\t\tmeta l4proto %s counter name no-listener %s\n", protocols[p].name,
			spec->no_listener == NO_LISTENER_REJECT ? protocols[p].reject
								: end[spec->no_listener]);
	}
	fputs("\t}\n", out);
}

/* --- connections that this host opens
 * ----------------------------------------------------------- */

/* `meta skuid != { 1, 2 } return`, or without != and with a counter for those to leave alone. */
static void put_ids(FILE *out, const char *key, const struct intercept_ids *ids, bool wanted)
{
	if (!ids->count)
		return;
	fprintf(out, "\t\tmeta %s %s{ ", key, wanted ? "!= " : "");
	for (unsigned i = 0; i < ids->count; i++)
		fprintf(out, "%s%u", i ? ", " : "", ids->at[i]);
	fprintf(out, " } %sreturn\n", wanted ? "" : "counter name excluded ");
}

static void put_group_match(FILE *out, const char *path)
{
	fprintf(out, "\t\tsocket cgroupv2 level %u \"%s\" ", intercept_group_level(path), path);
}

static void put_owners(FILE *out, const struct intercept *spec)
{
	put_ids(out, "skuid", &spec->uid, true);
	put_ids(out, "skgid", &spec->gid, true);
	put_ids(out, "skuid", &spec->not_uid, false);
	put_ids(out, "skgid", &spec->not_gid, false);
	for (unsigned i = 0; i < spec->not_cgroup.count; i++) {
		put_group_match(out, spec->not_cgroup.at[i]);
		fputs("counter name excluded return\n", out);
	}
	for (unsigned i = 0; i < spec->cgroup.count; i++) {
		put_group_match(out, spec->cgroup.at[i]);
		fputs("goto mine\n", out);
	}
	if (!spec->cgroup.count)
		fputs("\t\tgoto mine\n", out);
}

/* Every packet of a remembered connection is marked. Of other connections only the first packet may
 * be, and makes it remembered: marking an established connection would hang it. */
static void put_remembered(FILE *out, const struct intercept *spec)
{
	for (const struct family *f = next_family(spec, NULL); f; f = next_family(spec, f)) {
		fputs("\t\t" NOT_SYN " ", out);
		put_tuple(out, f);
		fprintf(out, " @mine%s update @mine%s { ", f->suffix, f->suffix);
		put_tuple(out, f);
		fputs(" } ", out);
		put_mark_set(out, &spec->mark);
		fputs(" accept\n", out);
	}
	fputs("\t\t" NOT_SYN " return\n", out);
}

/* The mark sends the packet to lo, where it comes in again as if from outside: `looped`. */
static void put_local(FILE *out, const struct intercept *spec, bool ending)
{
	fputs("\tchain local {\n\t\ttype route hook output priority mangle; policy accept;\n", out);
	put_family_guard(out, spec);
	put_protocol_guard(out, spec, "return");
	/* The relay's own connections. */
	fputs("\t\t", out);
	put_mark_match(out, "meta mark", &spec->upstream_mark);
	fputs(" return\n", out);
	put_predicate(out, spec, FROM_CLIENT);
	if (!spec->include_own)
		fputs(LEAVE_OWN, out);
	put_exclusions(out, spec, FROM_CLIENT, "counter name excluded ");
	put_not_marks(out, spec);
	if (spec->tcp)
		put_remembered(out, spec);
	put_lease_guard(out, spec);
	if (!ending)
		put_owners(out, spec);
	fputs("\t}\n", out);
}

static void put_mine(FILE *out, const struct intercept *spec)
{
	fputs("\tchain mine {\n", out);
	for (const struct family *f = next_family(spec, NULL); spec->tcp && f;
	     f = next_family(spec, f)) {
		fprintf(out, "\t\t" SYN " update @mine%s { ", f->suffix);
		put_tuple(out, f);
		fputs(" }\n", out);
	}
	fputs("\t\t", out);
	put_mark_set(out, &spec->mark);
	fputs(" accept\n\t}\n", out);
}

/* Like divert: a connection's packets go to its socket, the others to the listener. */
static void put_looped(FILE *out, const struct intercept *spec)
{
	fputs("\tchain looped {\n", out);
	if (spec->tcp)
		fputs("\t\t" NOT_SYN " socket wildcard 1 goto deliver\n"
		      "\t\t" NOT_SYN " socket transparent 1 counter name diverted accept\n",
		      out);
	fputs("\t\tgoto deliver\n\t}\n", out);
}

/* --- conntrack zones -------------------------------------------------------------------------- */

/*
 * With the client's address and port kept, both legs have the same tuples in both directions:
 * conntrack would have one entry, see sequence numbers that do not fit, and translate neither leg.
 * So each leg has one direction in a zone of its own (ct-zone):
 *
 * 	client leg	original: default zone	reply: ct-zone
 * 	upstream leg	original: ct-zone	reply: default zone
 *
 * Then no two of the four tuples are equal, whatever other programs' NAT does to the upstream leg's
 * source. Incoming packets, from clients and servers alike, are looked up in the default zone as if
 * there were no proxy, so translated answers are found too. A zone is chosen before connection
 * tracking, and matters when an entry is created: by a SYN (nf_conntrack_core.c,
 * resolve_normal_ct()).
 */

/* In UDP no flag tells which leg a packet belongs to: its ports do, unless both are in the
 * predicate; then the socket's mark does. */
static void put_udp_zone(FILE *out, const struct intercept *spec)
{
	if (!spec->udp)
		return;
	if (spec->port.count)
		fprintf(out, "\t\tudp sport != @%s ct original zone set %u accept\n",
			name_of_set(spec, LIST_PORT, NULL).text, spec->ct_zone);
	fputs("\t\tmeta l4proto udp ", out);
	put_mark_match(out, "meta mark", &spec->upstream_mark);
	fprintf(out, " ct original zone set %u accept\n", spec->ct_zone);
}

/* The first packets of connections that will be taken. Conditions of `take` that cannot be
 * evaluated before connection tracking are left out here: see spec_check_zone_unfit(). */
static void put_zone_new(FILE *out, const struct intercept *spec)
{
	fputs("\tchain zone-new {\n", out);
	if (spec->tcp) {
		put_bare_resets(out, spec, "goto zone-reset");
		fputs("\t\t" NOT_SYN " return\n", out);
	}
	put_predicate(out, spec, FROM_CLIENT);
	put_exclusions(out, spec, FROM_CLIENT, "");
	for (unsigned i = 0; i < spec->not_marks; i++) {
		fputs("\t\t", out);
		put_mark_match(out, "meta mark", &spec->not_mark[i]);
		fputs(" return\n", out);
	}
	if (!spec->include_own)
		fputs("\t\t" TO_THIS_HOST " return\n", out);
	if (spec->udp) {
		fputs("\t\tmeta l4proto udp socket transparent 1 ", out);
		put_mark_match(out, "socket mark", &spec->upstream_mark);
		fputs(" return\n", out);
	}
	fprintf(out, "\t\tct reply zone set %u\n\t}\n", spec->ct_zone);
}

/* A client's reset that no socket here claims answers a server's segment that none claimed: it
 * continues as the upstream leg's, and so with the source that NAT gave that leg, or the server
 * would not recognise it. */
static void put_zone_reset(FILE *out, const struct intercept *spec)
{
	if (!spec->tcp)
		return;
	fputs("\tchain zone-reset {\n\t\tsocket transparent 1 socket wildcard 0 return\n", out);
	put_predicate(out, spec, FROM_CLIENT);
	put_exclusions(out, spec, FROM_CLIENT, "");
	fprintf(out, "\t\tct original zone set %u\n\t}\n", spec->ct_zone);
}

/* Marks of other programs that exclude packets are seen here if they are set at priority raw, as
 * iptables does in its table of that name: whoever came first, both run before this. The chain has
 * a name of its own then, because a chain's priority cannot be changed. */
static void put_zone_in(FILE *out, const struct intercept *spec)
{
	if (spec->not_marks)
		put_base_chain(out, "zone-marked", "prerouting", "raw + 1");
	else
		put_base_chain(out, "zone-in", "prerouting", "raw");
	put_family_guard(out, spec);
	put_protocol_guard(out, spec, "return");
	put_lease_guard(out, spec);
	for (unsigned i = 0; i < spec->devices; i++)
		fprintf(out, "\t\tiifname \"%s\" goto zone-new\n", spec->device[i]);
	/* The upstream leg of a connection opened by this host itself has another source. */
	if (!spec->devices)
		fputs("\t\tiifname != \"lo\" goto zone-new\n", out);
	fputs("\t}\n", out);
}

/* Packets that the proxy sends with a foreign source: onward to servers, and back to clients. */
static void put_zone_out(FILE *out, const struct intercept *spec)
{
	fputs("\tchain zone-onward {\n", out);
	put_predicate(out, spec, FROM_CLIENT);
	put_exclusions(out, spec, FROM_CLIENT, "");
	if (spec->tcp)
		fprintf(out,
			"\t\t" SYN " ct original zone set %u accept\n"
			"\t\tmeta l4proto tcp ct zone set %u accept\n",
			spec->ct_zone, spec->ct_zone);
	put_udp_zone(out, spec);
	fputs("\t}\n\tchain zone-back {\n", out);
	/* Connections of this host itself began in output, in the default zone. */
	if (spec->local)
		fputs("\t\tfib daddr type local return\n", out);
	put_predicate(out, spec, FROM_SERVER);
	put_exclusions(out, spec, FROM_SERVER, "");
	/* Connections opened by this host itself were never given a zone. */
	if (spec->local)
		fputs("\t\tfib daddr type local return\n", out);
	fprintf(out, "\t\tct zone set %u\n\t}\n", spec->ct_zone);
	put_base_chain(out, "zone-out", "output", "raw");
	put_family_guard(out, spec);
	put_protocol_guard(out, spec, "return");
	fputs("\t\tfib saddr type local return\n"
	      "\t\tjump zone-onward\n"
	      "\t\tgoto zone-back\n\t}\n",
	      out);
}

static void put_zones(FILE *out, const struct intercept *spec)
{
	put_zone_reset(out, spec);
	put_zone_new(out, spec);
	put_zone_in(out, spec);
	put_zone_out(out, spec);
}

/* --- transactions ----------------------------------------------------------------------------- */

/* Everything but the lists. */
static void put_contents(FILE *out, const struct intercept *spec)
{
	char text[INTERCEPT_TEXT_MAX];

	put_counters(out, spec);
	put_sets(out, spec);
	fputs("\tchain " NFT_TEXT_SPEC " {\n", out);
	put_notes(out, spec_text(spec, text));
	fputs("\t}\n", out);
	put_divert(out, spec);
	put_other(out, spec);
	if (!spec->divert_only) {
		put_deliver(out, spec);
		if (spec->tcp)
			put_refused(out, spec);
		put_take(out, spec, false);
		put_strayed(out, spec);
		if (spec->local) {
			put_looped(out, spec);
			put_mine(out, spec);
			put_local(out, spec, false);
		}
		if (spec->zone != CONNTRACK_OFF)
			put_zones(out, spec);
	}
	put_prerouting(out, spec);
}

static void put_head(FILE *out, const struct intercept *spec)
{
	fprintf(out, "table inet " NFT_TEXT_PREFIX "%s {\n", spec->name);
}

/* nft 1.0.6 has no `destroy`: create the table first, so that there is one to delete. */
static void put_whole(FILE *out, const struct intercept *spec)
{
	fprintf(out,
		"table inet " NFT_TEXT_PREFIX "%s\n"
		"delete table inet " NFT_TEXT_PREFIX "%s\n",
		spec->name, spec->name);
	put_head(out, spec);
	for (int id = 0; id < INTERCEPT_LISTS; id++)
		put_list(out, spec, id);
	put_contents(out, spec);
	fputs("}\n", out);
}

/* Close the memory stream that filled *text. */
static char *finish(FILE *out, char **text, struct failure *why)
{
	if (!out || ferror(out) | fclose(out)) {
		free(*text);
		report_fail(why, ENOMEM, "open_memstream", "rules");
		return NULL;
	}
	return *text;
}

char *nft_text_install(const struct intercept *spec, struct failure *why)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out)
		put_whole(out, spec);
	return finish(out, &text, why);
}

char *nft_text_lists(const struct intercept *spec, const bool which[INTERCEPT_LISTS],
		     struct failure *why)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out) {
		put_head(out, spec);
		for (int id = 0; id < INTERCEPT_LISTS; id++)
			if (which[id])
				put_list(out, spec, id);
		fputs("}\n", out);
	}
	return finish(out, &text, why);
}

char *nft_text_rules(const struct intercept *spec, struct failure *why)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out) {
		put_head(out, spec);
		put_contents(out, spec);
		fputs("}\n", out);
	}
	return finish(out, &text, why);
}

/* The elements of a set in a listing of its table, including `{ ... }`; NULL if there are none. */
static const char *find_elements(const char *listing, const char *set, size_t *length)
{
	char head[32];
	const char *begin, *end, *elements;

	snprintf(head, sizeof(head), "\tset %s {\n", set);
	begin = strstr(listing, head);
	end = begin ? strstr(begin, "\n\t}") : NULL;
	elements = begin ? strstr(begin, "elements = {") : NULL;
	if (!end || !elements || elements > end)
		return NULL;
	elements += strlen("elements = ");
	*length = (size_t)(end - elements);
	return elements;
}

/* Sets of flows that stay when an instance is replaced. */
static const char *const kept[] = { "passing", "taken", "mine", "asked" };
#define KEPT (sizeof(kept) / sizeof(*kept))

char *nft_text_replacement(const struct intercept *spec, const char *listing, struct failure *why)
{
	char *text = nft_text_install(spec, why), *result = NULL;
	size_t size, length;
	FILE *out;

	if (!text)
		return NULL;
	out = open_memstream(&result, &size);
	if (out)
		fputs(text, out);
	for (size_t i = 0; out && i < KEPT * FAMILIES; i++) {
		char set[16], head[32];
		const char *elements;

		snprintf(set, sizeof(set), "%s%s", kept[i / FAMILIES],
			 families[i % FAMILIES].suffix);
		snprintf(head, sizeof(head), "\tset %s {", set);
		elements = find_elements(listing, set, &length);
		if (elements && strstr(text, head))
			fprintf(out, "add element inet " NFT_TEXT_PREFIX "%s %s %.*s\n", spec->name,
				set, (int)length, elements);
	}
	free(text);
	return finish(out, &result, why);
}
/* Sets that remember something of flows. What was astray says nothing without what could not be
 * remembered, so a new instance begins with neither. */
static bool remembers(const char *set)
{
	if (!strcmp(set, NFT_TEXT_UNASKED) || !strcmp(set, "lately") ||
	    !strncmp(set, NFT_TEXT_ASTRAY, strlen(NFT_TEXT_ASTRAY)))
		return true;
	for (size_t i = 0; i < KEPT; i++)
		if (!strncmp(set, kept[i], strlen(kept[i])))
			return true;
	return false;
}

/* `KIND NAME {`, the form in which a line of nft's listing and of our own text begins. */
static bool has_object(const char *text, const char *kind, const char *name)
{
	char head[96];

	snprintf(head, sizeof(head), "\n\t%s %s {", kind, name);
	return strstr(text, head);
}

static bool is_list_of(const struct intercept *spec, const char *set)
{
	for (int id = 0; id < INTERCEPT_LISTS; id++) {
		if (intercept_lists[id].is_ports && intercept_ports(spec, id)->count &&
		    !strcmp(set, name_of_set(spec, id, NULL).text))
			return true;
		for (size_t i = 0; !intercept_lists[id].is_ports && i < FAMILIES; i++)
			if (has_elements(spec, id, &families[i]) &&
			    !strcmp(set, name_of_set(spec, id, &families[i]).text))
				return true;
	}
	return false;
}

/* Does the changed instance have it too? */
static bool stays(const struct intercept *spec, const char *kind, const char *name,
		  const char *rules)
{
	if (!strcmp(kind, "set") && !remembers(name))
		return is_list_of(spec, name);
	return has_object(rules, kind, name);
}

/* `VERB KIND TABLE NAME` for each object of that kind in the listing, unless it stays in `rules`
 * (NULL: for every one). */
static void put_for_each(FILE *out, const struct intercept *spec, const char *verb,
			 const char *kind, const char *listing, const char *rules)
{
	char head[16], name[64];

	snprintf(head, sizeof(head), "\n\t%s ", kind);
	for (const char *at = listing; (at = strstr(at, head));) {
		at += strlen(head);
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, " \n"), at);
		if (!rules || !stays(spec, kind, name, rules))
			fprintf(out, "%s %s inet " NFT_TEXT_PREFIX "%s %s\n", verb, kind,
				spec->name, name);
	}
}

char *nft_text_change(const struct intercept *spec, const char *listing, struct failure *why)
{
	char *rules = nft_text_rules(spec, why), *result = NULL;
	size_t size;
	FILE *out;

	if (!rules)
		return NULL;
	out = open_memstream(&result, &size);
	if (out) {
		put_for_each(out, spec, "flush", "chain", listing, NULL);
		put_for_each(out, spec, "delete", "chain", listing, rules);
		put_for_each(out, spec, "delete", "set", listing, rules);
		put_for_each(out, spec, "delete", "counter", listing, rules);
		fputs(rules, out);
	}
	free(rules);
	return finish(out, &result, why);
}

char *nft_text_ending(const struct intercept *spec, uint64_t ms, struct failure *why)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out) {
		fprintf(out, "flush chain inet " NFT_TEXT_PREFIX "%s take\n", spec->name);
		if (spec->zone != CONNTRACK_OFF) /* existing entries keep their zones */
			fprintf(out, "flush chain inet " NFT_TEXT_PREFIX "%s zone-new\n",
				spec->name);
		if (spec->local)
			fprintf(out, "flush chain inet " NFT_TEXT_PREFIX "%s local\n", spec->name);
		fprintf(out, "table inet " NFT_TEXT_PREFIX "%s {\n", spec->name);
		if (spec->tcp && spec->midstream != MIDSTREAM_PASS)
			put_tuple_sets(out, spec, "fresh", TUPLES_MAX,
				       (unsigned)(ms / 1000) + FRESH_EXTRA_SECONDS);
		fputs("\tchain " NFT_TEXT_ENDING " { }\n", out);
		put_take(out, spec, true);
		if (spec->local)
			put_local(out, spec, true);
		fputs("}\n", out);
	}
	return finish(out, &text, why);
}

/* `set finish4` and its rule, if there are flows of the family. */
static bool put_finish_set(FILE *out, const struct family *f, const struct nft_text_flow *flow,
			   size_t count)
{
	char from[ENDPOINT_TEXT_MAX], to[ENDPOINT_TEXT_MAX];
	bool any = false;

	for (size_t i = 0; i < count; i++) {
		if (flow[i].from.family != f->family)
			continue;
		if (!any)
			fprintf(out,
				"\tset finish%s {\n\t\ttype %s . inet_service . %s . inet_service\n"
				"\t\telements = { ",
				f->suffix, f->type, f->type);
		fprintf(out, "%s%s . %u . %s . %u", any ? ", " : "",
			endpoint_format_address(&flow[i].from, from), flow[i].from.port,
			endpoint_format_address(&flow[i].to, to), flow[i].to.port);
		any = true;
	}
	if (any)
		fputs(" }\n\t}\n", out);
	return any;
}

char *nft_text_finish(const char *instance, const struct nft_text_flow *flow, size_t count,
		      struct failure *why)
{
	bool any[FAMILIES];
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return finish(out, &text, why);
	fprintf(out, "table inet " NFT_TEXT_PREFIX "%s {\n", instance);
	for (size_t i = 0; i < FAMILIES; i++)
		any[i] = put_finish_set(out, &families[i], flow, count);
	put_base_chain(out, "finish", "prerouting", "mangle");
	for (size_t i = 0; i < FAMILIES; i++) {
		if (!any[i])
			continue;
		fputs("\t\ttcp flags & rst == 0 ", out);
		put_tuple(out, &families[i]);
		fprintf(out, " @finish%s reject with tcp reset\n", families[i].suffix);
	}
	fputs("\t}\n}\n", out);
	return finish(out, &text, why);
}

char *nft_text_confirmation(const char *instance, struct failure *why)
{
	char *text;

	if (asprintf(&text,
		     "flush set inet " NFT_TEXT_PREFIX "%s " NFT_TEXT_LEASE "\n"
		     "add element inet " NFT_TEXT_PREFIX "%s " NFT_TEXT_LEASE " { tcp, udp }\n",
		     instance, instance) >= 0)
		return text;
	report_fail(why, ENOMEM, "asprintf", "rules");
	return NULL;
}

char *nft_text_notes(const char *instance, const char *chain, const char *text, struct failure *why)
{
	char *result = NULL;
	size_t size;
	FILE *out = open_memstream(&result, &size);

	if (out) {
		fprintf(out, "table inet " NFT_TEXT_PREFIX "%s {\n\tchain %s {\n", instance, chain);
		put_notes(out, text);
		fputs("\t}\n}\n", out);
	}
	return finish(out, &result, why);
}
