/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of iptables-legacy as a kernel handed them out (tests/fuzz/corpus/xtables), against what
 * they say in nft's words (tests/golden).
 *
 *	xtables [--write] CORPUS-FILE JSON-FILE...
 */
#include "firewall/xtables.h"
#include "check.h"
#include "firewall/xtables_legacy.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netfilter/xt_connlimit.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_iprange.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_pkttype.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#define FILE_MAX 65536

/* Which family, the hooks, where they begin and end; then the entries. */
#define HEAD (1 + 2 + 4 * XTABLES_LEGACY_HOOKS)

static size_t read_file(const char *path, uint8_t *buf)
{
	FILE *in = fopen(path, "r");
	size_t size = in ? fread(buf, 1, FILE_MAX - 1, in) : 0;

	CHECK(size > 0);
	buf[size] = '\0';
	if (in)
		fclose(in);
	return size;
}

static unsigned number(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

/* The entries must be aligned: they are copied. */
static struct xtables_legacy_table table_of(const uint8_t *file, size_t size, char *entries)
{
	struct xtables_legacy_table t = {
		.domain = file[0] ? AF_INET6 : AF_INET,
		.name = "mangle",
		.valid_hooks = number(file + 1),
		.entries = entries,
		.size = size - HEAD,
	};

	for (unsigned i = 0; i < XTABLES_LEGACY_HOOKS; i++) {
		t.hook_entry[i] = number(file + 3 + 2 * i);
		t.underflow[i] = number(file + 3 + 2 * (XTABLES_LEGACY_HOOKS + i));
	}
	memcpy(entries, file + HEAD, t.size);
	return t;
}

static int count(const struct xtables_legacy_use *use, void *context)
{
	++*(unsigned *)context;
	return 0;
}

/* One whose last entry is cut is not sound; whatever else is cut or changed, nothing is read that
 * is not there (built with sanitizers this shows). */
static void check_unsound(struct xtables_legacy_table t, char *entries)
{
	size_t size = t.size;
	unsigned uses = 0;

	t.size = size - 8;
	CHECK(xtables_legacy_each_use_of(&t, count, &uses) == 0 && uses == 0);
	for (t.size = 0; t.size < size; t.size += 8)
		xtables_legacy_each_use_of(&t, count, &uses);
	for (size_t i = 0; i < size; i++) {
		json_t *objects = json_array();
		char was = entries[i];

		entries[i] = (char)0xff;
		xtables_legacy_add_table(&t, objects);
		entries[i] = was;
		json_decref(objects);
	}
}

/* An object a line. */
static char *text_of(json_t *objects)
{
	char *text = calloc(1, FILE_MAX);
	json_t *object;
	size_t i;

	json_array_foreach(objects, i, object) {
		char *line = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);

		strcat(text, line);
		strcat(text, "\n");
		free(line);
	}
	return text;
}

static void check_table(const char *from, const char *to, bool write)
{
	static uint8_t file[FILE_MAX], expected[FILE_MAX];
	static _Alignas(8) char entries[FILE_MAX];
	struct xtables_legacy_table t = table_of(file, read_file(from, file), entries);
	json_t *objects = json_array();
	unsigned uses = 0;
	char *text;
	FILE *out;

	xtables_legacy_add_table(&t, objects);
	CHECK(json_array_size(objects) > 0);
	CHECK(xtables_legacy_each_use_of(&t, count, &uses) == 0 && uses > 0);
	text = text_of(objects);
	if (write) {
		out = fopen(to, "w");
		CHECK(out && fputs(text, out) >= 0 && !fclose(out));
	} else {
		read_file(to, expected);
		CHECK_TEXT(text, (const char *)expected);
	}
	check_unsound(t, entries);
	json_decref(objects);
	free(text);
}

static void decodes(const char *name, const void *info, size_t size, const char *expected)
{
	json_t *out = json_array();
	char *text;

	xtables_decode("match", name, info, size, out);
	text = json_dumps(out, JSON_COMPACT | JSON_SORT_KEYS);
	CHECK_TEXT(text, expected);
	json_decref(out);
	free(text);
}

static void check_extensions(void)
{
	struct xt_multiport_v1 ports = { .count = XT_MULTI_PORTS };
	struct xt_udp udp = { .spts = { 0, 65535 },
			      .dpts = { 53, 54 },
			      .invflags = XT_UDP_INV_DSTPT };
	struct xt_pkttype_info type = { .pkttype = PACKET_HOST };
	struct xt_iprange_mtinfo range = { .flags = IPRANGE_SRC | IPRANGE_SRC_INV };
	struct xt_multiport_v1 either = { .count = 1, .ports = { 80 } };
	struct xt_conntrack_mtinfo3 direction = { .match_flags = XT_CONNTRACK_DIRECTION };
	struct xt_connlimit_info limit = { .limit = 5 };
	struct xt_tcp tcp = { .spts = { 0, 65535 }, .dpts = { 80, 80 } };

	decodes("tcp", &tcp, sizeof(tcp),
		"[{\"match\":{\"left\":{\"payload\":{\"field\":\"dport\",\"protocol\":\"tcp\"}},"
		"\"op\":\"==\",\"right\":{\"range\":[80,80]}}}]");
	decodes("udp", &udp, sizeof(udp),
		"[{\"match\":{\"left\":{\"payload\":{\"field\":\"dport\",\"protocol\":\"udp\"}},"
		"\"op\":\"!=\",\"right\":{\"range\":[53,54]}}}]");
	decodes("pkttype", &type, sizeof(type),
		"[{\"match\":{\"left\":{\"meta\":{\"key\":\"pkttype\"}},\"op\":\"==\",\"right\":"
		"\"host\"}"
		"}]");
	range.src_min.ip = htonl(0xc0000201);
	range.src_max.ip = htonl(0xc0000209);
	decodes("iprange", &range, sizeof(range),
		"[{\"match\":{\"left\":{\"payload\":{\"field\":\"saddr\",\"protocol\":\"ip\"}},"
		"\"op\":"
		"\"!=\",\"right\":{\"range\":[\"192.0.2.1\",\"192.0.2.9\"]}}}]");
	either.flags = XT_MULTIPORT_EITHER;
	decodes("multiport", &either, sizeof(either),
		"[{\"match\":{\"left\":{\"concat\":[{\"payload\":{\"field\":\"sport\",\"protocol\":"
		"\"th\"}},"
		"{\"payload\":{\"field\":\"dport\",\"protocol\":\"th\"}}]},\"op\":\"==\",\"right\":"
		"{\"set\":[{"
		"\"concat\":[{\"range\":[0,65535]},{\"range\":[80,80]}]},{\"concat\":[{\"range\":["
		"80,80]},{"
		"\"range\":[0,65535]}]}]}}}]");
	decodes("conntrack", &direction, sizeof(direction),
		"[{\"match\":{\"left\":{\"ct\":{\"key\":\"direction\"}},\"op\":\"==\",\"right\":"
		"\"original\"}"
		"}]");
	/* What is not known is left beside what is. */
	direction.match_flags |= XT_CONNTRACK_STATUS;
	decodes("conntrack", &direction, sizeof(direction),
		"[{\"match\":{\"left\":{\"ct\":{\"key\":\"direction\"}},\"op\":\"==\",\"right\":"
		"\"original\"}"
		"},{\"xt\":{\"name\":\"conntrack\",\"type\":\"match\"}}]");
	decodes("connlimit", &limit, sizeof(limit), "[{\"ct count\":{\"inv\":true}}]");
	/* Shorter than its structure, or unknown: named. */
	decodes("tcp", &tcp, sizeof(tcp) - 1, "[{\"xt\":{\"name\":\"tcp\",\"type\":\"match\"}}]");
	decodes("owner", NULL, 0, "[{\"xt\":{\"name\":\"owner\",\"type\":\"match\"}}]");
	/* A range takes two places, and its end is missing at the last. */
	ports.count = 3;
	ports.ports[0] = 80;
	ports.ports[1] = 8000;
	ports.ports[2] = 8100;
	ports.pflags[1] = 1;
	ports.flags = XT_MULTIPORT_DESTINATION;
	decodes("multiport", &ports, sizeof(ports),
		"[{\"match\":{\"left\":{\"payload\":{\"field\":\"dport\",\"protocol\":\"th\"}},"
		"\"op\":\"==\",\"right\":{\"set\":[{\"range\":[80,80]},{\"range\":[8000,8100]}]}}}"
		"]");
	ports.count = XT_MULTI_PORTS;
	ports.pflags[XT_MULTI_PORTS - 1] = 1;
	xtables_decode("match", "multiport", &ports, sizeof(ports), NULL);
}

int main(int argc, char **argv)
{
	bool write = argc > 1 && !strcmp(argv[1], "--write");

	check_extensions();
	for (int i = 1 + write; i + 1 < argc; i += 2)
		check_table(argv[i], argv[i + 1], write);
	return check_done();
}
